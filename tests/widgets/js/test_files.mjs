// Files that come and go, without a browser.

import assert from "node:assert/strict";
import test from "node:test";
import { fileFetcher, takeFiles } from "../../../widgets/js/files.js";
import { Saved } from "../../../widgets/js/page.js";

const kept = [];

/** As much of an element as files need. */
class Bare extends EventTarget {
  classList = { add: () => {}, remove: () => {} };
  append() {}
  setAttribute() {}
  removeAttribute() {}
  click() {
    kept.push(this.download);
  }
}
globalThis.document = { createElement: () => new Bare() };

/** A view of a model, with what it says and is told. */
function viewOf(model) {
  const view = { model, signal: new EventTarget(), said: [], sent: [], failed: [], showError: () => {} };
  return Object.assign(view, {
    on: (target, type, handler) => target.addEventListener(type, (event) => handler(event)?.catch(({ message }) => view.failed.push(message))),
    watch: ([name], handler) => model.on(`change:${name}`, handler),
    status: (text) => view.said.push(text),
    send: (event, details = {}) => (view.sent.push(event), model.send({ event, ...details })),
  });
}

test("a file is kept by the page that has asked for it, once", () => {
  const model = new Saved({ traits: { error: "" }, arrays: {} });
  const [ours, theirs] = [viewOf(model), viewOf(model)];
  const fetchFile = fileFetcher(ours);
  fileFetcher(theirs);
  const file = () => model.emit("msg:custom", { file: "page.html" }, [new DataView(new ArrayBuffer(4))]);
  model.answers = { export: () => {} };
  file();
  assert.deepEqual(kept, []);
  fetchFile("export");
  assert.deepEqual([ours.sent, ours.said], [["export"], ["making the file …"]]);
  file();
  file();
  assert.deepEqual([kept, ours.said.at(-1), theirs.said], [["page.html"], "saved page.html", []]);
  model.answers = {};
  fetchFile("export"); // which fails
  file();
  assert.deepEqual([kept.length, ours.said.at(-1)], [1, ""]);
});

test("several files come together", () => {
  const model = new Saved({ traits: { error: "" }, arrays: {} });
  const view = viewOf(model);
  model.answers = { export: () => model.emit("msg:custom", { files: ["plan.npz", "plan.json"] }, [new DataView(new ArrayBuffer(4)), new DataView(new ArrayBuffer(2))]) };
  kept.length = 0;
  fileFetcher(view)("export");
  assert.deepEqual([kept, view.said.at(-1)], [["plan.npz", "plan.json"], "saved plan.npz and plan.json"]);
});

/** Drop a scan, and wait until all that can be done is done. */
async function drop(target) {
  const files = [new File(["scan"], "a.nii")];
  target.dispatchEvent(Object.assign(new Event("drop"), { dataTransfer: { files, items: [] } }));
  await settled();
}
const settled = () => new Promise((done) => setTimeout(done));

test("a scan that is dropped on a saved page is refused, each time", async () => {
  const view = viewOf(new Saved({ traits: { error: "" }, arrays: {} }));
  const [target, bar] = [new Bare(), new Bare()];
  const { file } = takeFiles(view, target, "over", bar);
  file.disabled = true; // as a page does to what needs Python
  for (const times of [1, 2]) {
    await drop(target);
    assert.deepEqual([view.failed.length, view.sent], [times, []]);
    assert.match(view.failed.at(-1), /in a running notebook alone; this is a saved page/);
  }
});

test("a page hears what Python says of its own drop alone, and until then that the scan is read", async () => {
  const model = new Saved({ traits: { error: "" }, arrays: {} });
  const view = viewOf(model);
  const [target, sent, taken] = [new Bare(), [], []];
  model.answers = { drop: (details) => sent.push(details) };
  takeFiles(view, target, "over", new Bare(), (files) => taken.push(files.length));
  const answer = (content) => (model.emit("msg:custom", content), settled());
  await drop(target);
  assert.equal(view.said.at(-1), "reading the scan …");
  await answer({ of: "another", taken: 4 });
  assert.deepEqual([view.said.at(-1), taken], ["reading the scan …", []]);
  await answer({ of: sent[0].of, taken: 4 });
  assert.deepEqual([view.said.at(-1), taken], ["", [1]]);
  await drop(target);
  assert.notEqual(sent[1].of, sent[0].of);
  await answer({ of: sent[1].of, taken: -1, refused: "another scan is on its way" });
  assert.deepEqual([view.failed, taken], [["another scan is on its way"], [1]]);
});

test("a file of a folder says where it lies there, however the folder came", async () => {
  const model = new Saved({ traits: { error: "" }, arrays: {} });
  const [view, target, sent] = [viewOf(model), new Bare(), []];
  model.answers = { drop: (details) => (sent.push(details.name), model.emit("msg:custom", { of: details.of, taken: details.size })) };
  const { folder } = takeFiles(view, target, "over", new Bare());
  const inside = (path) => ({ isFile: true, fullPath: path, file: (take) => take(new File(["scan"], path.split("/").at(-1))) });
  const found = [[inside("/case/imagesTr/a.nii"), inside("/case/labelsTr/a.nii")], []];
  const dropped = { isDirectory: true, createReader: () => ({ readEntries: (take) => take(found.shift()) }) };
  target.dispatchEvent(Object.assign(new Event("drop"), { dataTransfer: { files: [], items: [{ webkitGetAsEntry: () => dropped }] } }));
  await settled();
  await settled();
  const chosen = Object.defineProperty(new File(["scan"], "b.nii"), "webkitRelativePath", { value: "other/labelsTr/b.nii" });
  folder.files = [chosen];
  folder.dispatchEvent(new Event("change"));
  await settled();
  assert.deepEqual(sent, ["case/imagesTr/a.nii", "case/labelsTr/a.nii", "other/labelsTr/b.nii"]);
});
