// What viewers share, without a browser: published arrays as they come, and when a picture is drawn.

import assert from "node:assert/strict";
import test from "node:test";
import { Arrays, RefusedError, View, sum } from "../../../widgets/js/viewer.js";

const MB = 1 << 20;

function published(shape, { voxel, dtype = "uint8" } = {}) {
  const traits = { arrays: { volume: { version: 1, dtype, shape } }, selection: voxel ? { voxel } : {} };
  const handlers = {};
  const model = {
    asked: [],
    traits,
    handlers,
    get: (name) => traits[name],
    send: ({ event, ...request }) => model.asked.push(request),
    on: (event, handler) => (handlers[event] = handler),
    off: (event) => delete handlers[event],
    /** Python's answer to the last request: every byte is the number of its row, from 1. */
    answer: (request = model.asked.at(-1)) => {
      const rowBytes = shape.slice(1).reduce((product, n) => product * n, 1);
      const bytes = new Uint8Array((request.stop - request.start) * rowBytes).map((_, i) => request.start + 1 + Math.floor(i / rowBytes));
      handlers["msg:custom"](request, [new DataView(bytes.buffer)]);
    },
    offer: () => handlers["change:arrays"](),
  };
  return model;
}

const ranges = (model) => model.asked.map(({ start, stop }) => [start, stop]);

test("nothing is fetched before a view is shown", () => {
  const model = published([4, 2]);
  const arrays = new Arrays(model);
  model.offer();
  assert.deepEqual(model.asked, []);
  arrays.show();
  assert.deepEqual(model.asked, [{ array: "volume", version: 1, start: 0, stop: 4 }]);
});

test("parts of at most 4 MB arrive one by one, the nearest to the selected slice first", () => {
  const model = published([5, 2 * MB], { voxel: [3, 0, 0] });
  const arrays = new Arrays(model);
  const heard = [];
  arrays.listeners.add((...values) => heard.push(values));
  arrays.show();
  assert.deepEqual(ranges(model), [[3, 5]]);
  assert.equal(arrays.progress(), 0);
  model.answer();
  assert.deepEqual(heard, [["volume", 3, 5]]);
  assert.equal(arrays.progress(), 0.4);
  assert.deepEqual([...arrays.get("volume").known], [0, 0, 0, 1, 1]);
  model.traits.selection = { voxel: [0, 0, 0] };
  model.answer(); // rows 1 and 2, that were asked for before the selection moved
  model.answer();
  assert.deepEqual(ranges(model), [[3, 5], [1, 3], [0, 1]]);
  const { data, rows } = arrays.get("volume");
  assert.equal(rows, 5);
  assert.deepEqual([0, 1, 2, 3, 4].map((row) => data[row * 2 * MB]), [1, 2, 3, 4, 5]);
  assert.equal(data.at(-1), 5);
});

test("of two arrays the one that lacks the selected slice comes first", () => {
  const model = published([5, 3 * MB], { voxel: [1, 0, 0] });
  new Arrays(model).show();
  model.traits.arrays = { ...model.traits.arrays, labels: { version: 1, dtype: "uint8", shape: [5, 3 * MB] } };
  model.answer();
  model.answer();
  assert.deepEqual(model.asked.map(({ array, start }) => [array, start]), [["volume", 1], ["labels", 1], ["volume", 2]]);
});

test("a row that is larger than a part is fetched all the same", () => {
  const model = published([2, 5 * MB]);
  new Arrays(model).show();
  model.answer();
  assert.deepEqual(ranges(model), [[0, 1], [1, 2]]);
});

test("an array that was replaced is fetched anew, and parts of the old one are dropped", () => {
  const model = published([4, 2 * MB]);
  const arrays = new Arrays(model);
  arrays.show();
  const [old] = model.asked;
  model.traits.arrays = { volume: { ...model.traits.arrays.volume, version: 2 } };
  model.offer();
  assert.deepEqual(model.asked.at(-1), { array: "volume", version: 2, start: 0, stop: 2 });
  model.answer(old);
  assert.equal(arrays.get("volume"), undefined);
  model.answer(model.asked[1]);
  assert.equal(arrays.get("volume").version, 2);
});

test("what was replaced is not there any more, though the new one has not come yet", () => {
  const model = published([4, 2 * MB]);
  const arrays = new Arrays(model);
  arrays.show();
  model.answer();
  model.traits.arrays = { volume: { ...model.traits.arrays.volume, version: 2 } };
  model.offer();
  assert.deepEqual([arrays.get("volume"), arrays.progress()], [undefined, 0]);
  model.answer();
  assert.deepEqual([arrays.get("volume").version, arrays.progress()], [2, 0.5]);
});

test("an array without rows, and a selection outside, are no trouble", () => {
  const empty = published([0, 3]);
  new Arrays(empty).show();
  assert.deepEqual(empty.asked, []);
  const outside = published([3, 3 * MB], { voxel: [9, 0, 0] });
  new Arrays(outside).show();
  assert.deepEqual(ranges(outside), [[2, 3]]);
});

test("what no view shows any more is not kept, and fetched again for one that does", () => {
  const model = published([9, MB]);
  const arrays = new Arrays(model);
  arrays.show();
  arrays.show(); // a second view
  model.answer();
  arrays.hide();
  assert.equal(arrays.get("volume").rows, 4);
  arrays.hide();
  assert.equal(arrays.get("volume"), undefined);
  model.answer(); // a part that was under way
  model.offer();
  assert.equal(arrays.get("volume"), undefined);
  assert.equal(model.asked.length, 2);
  arrays.show();
  for (let part = 0; part < 3; part += 1) model.answer();
  assert.equal(arrays.get("volume").rows, 9);
});

test("what was asked for by a view that is gone is counted once", () => {
  const model = published([4, 2 * MB]);
  const arrays = new Arrays(model);
  arrays.show();
  arrays.hide();
  arrays.show();
  const [before, after] = model.asked;
  model.answer(before);
  model.answer(after);
  assert.equal(arrays.get("volume").rows, 2);
  assert.equal(arrays.progress(), 0.5);
});

/** Pages that all hear what Python says to one, and the requests that it has not dealt with. */
function pagesOf(count, shape) {
  const models = Array.from({ length: count }, () => published(shape));
  const waiting = [];
  for (const model of models) model.send = ({ event, ...request }) => (model.asked.push(request), waiting.push(request));
  const pages = models.map((model) => new Arrays(model));
  for (const page of pages) page.show();
  const answer = () => {
    const request = waiting.shift();
    for (const model of models) model.answer(request);
  };
  return { models, pages, waiting, answer };
}

test("pages that load at once ask for no more parts each than one that is alone", () => {
  const { models, pages, waiting, answer } = pagesOf(3, [9, 2 * MB]);
  for (let answers = 0; waiting.length && answers < 100; answers += 1) answer();
  assert.deepEqual(models.map(({ asked }) => asked.length), [5, 5, 5]);
  assert.deepEqual(pages.map((page) => page.progress()), [1, 1, 1]);
});

test("what another page has asked for is kept, and not asked for again", () => {
  const model = published([7, 2 * MB]);
  const arrays = new Arrays(model);
  arrays.show();
  for (const [start, stop] of [[2, 4], [5, 7]]) model.answer({ array: "volume", version: 1, start, stop });
  assert.deepEqual(ranges(model), [[0, 2]]); // that part is still awaited
  assert.equal(arrays.get("volume").rows, 4);
  model.answer();
  assert.deepEqual(ranges(model), [[0, 2], [4, 5]]);
  model.answer();
  assert.deepEqual([ranges(model).length, arrays.progress()], [2, 1]);
});

test("a part of an old version, whoever asked for it, is not waited for", () => {
  const model = published([4, 2 * MB]);
  new Arrays(model).show();
  const [old] = model.asked;
  model.traits.arrays = { volume: { ...model.traits.arrays.volume, version: 2 } };
  model.offer();
  model.answer(old); // the same rows as those that are awaited
  assert.equal(model.asked.length, 2);
  model.answer(model.asked[1]);
  assert.deepEqual(ranges(model).at(-1), [2, 4]);
});

test("labels are packed where that was offered", () => {
  const model = published([3, 2, 5]);
  Object.assign(model.traits.arrays.volume, { dtype: "uint8", packed: true });
  const arrays = new Arrays(model);
  arrays.show();
  model.answer();
  const { data, packed, rows } = arrays.get("volume");
  assert.deepEqual([data.length, rows, packed.shape], [0, 3, [3, 2, 5]]);
});

test("what is released hears nothing more", () => {
  const model = published([2, 1]);
  const arrays = new Arrays(model);
  arrays.show();
  model.answer();
  arrays.release();
  assert.deepEqual(model.handlers, {});
  assert.equal(arrays.get("volume"), undefined);
});

test("numbers are added up", () => {
  assert.equal(sum(Float32Array.of(1, 2, 0.5)), 3.5);
  assert.equal(sum([]), 0);
});

/** A view without elements, and the frames that it waits for. */
function bareView() {
  const frames = [];
  globalThis.requestAnimationFrame = (frame) => frames.push(frame);
  const traits = {};
  const log = [];
  const model = { set: (name, value) => (traits[name] = value), save_changes: () => log.push("saved") };
  const view = Object.assign(Object.create(View.prototype), { model, signal: { aborted: false }, setting: false });
  Object.assign(view, { due: new Set(), body: { clientWidth: 1 }, showError: (text) => log.push(text) });
  const nextFrame = () => frames.splice(0).forEach((frame) => frame());
  return { view, traits, log, nextFrame };
}

test("the first change of a frame is drawn at once, and those that follow it together", () => {
  const { view, log, nextFrame } = bareView();
  const draw = view.eachFrame(() => log.push("drawn"));
  draw();
  assert.deepEqual(log, ["drawn"]);
  draw();
  draw();
  assert.deepEqual(log, ["drawn"]);
  nextFrame();
  assert.deepEqual(log, ["drawn", "drawn"]);
  nextFrame();
  nextFrame();
  draw();
  assert.deepEqual(log, ["drawn", "drawn", "drawn"]);
});

test("what is set together is drawn once, before it is sent", () => {
  const { view, traits, log } = bareView();
  const draw = view.eachFrame(() => log.push(`drawn ${traits.one} ${traits.two}`));
  view.model.set = (name, value) => {
    traits[name] = value;
    draw();
  };
  view.set({ one: 1, two: 2 });
  assert.deepEqual(log, ["drawn 1 2", "saved"]);
});

test("a hidden view is drawn when it is shown, and one that is gone never", () => {
  const { view, log, nextFrame } = bareView();
  const draw = view.eachFrame(() => log.push("drawn"));
  view.body.clientWidth = 0;
  draw();
  view.body.clientWidth = 1;
  assert.deepEqual(log, []);
  nextFrame();
  assert.deepEqual(log, ["drawn"]);
  view.signal.aborted = true;
  draw();
  nextFrame();
  assert.deepEqual(log, ["drawn"]);
});

test("what goes wrong later is shown as well", async () => {
  const { view, log } = bareView();
  await view.guard(() => Promise.reject(new Error("no clipboard")))().catch(() => {});
  await null;
  view.guard(() => {
    throw new RefusedError("not now");
  })();
  assert.deepEqual(log, ["Error: no clipboard", "not now"]);
});

test("where no voxel is selected it is the middle one", () => {
  const { view } = bareView();
  view.model.get = () => ({ code: 3 });
  assert.deepEqual(view.voxelIn([3, 8, 9]), [1, 4, 4]);
  view.model.get = () => ({ voxel: [2, 0, 1] });
  assert.deepEqual(view.voxelIn([3, 8, 9]), [2, 0, 1]);
});

test("of a cine the frame that is looked at is fetched, then the next, and no others", () => {
  const model = published([6, 4], { voxel: [1, 0, 0] });
  model.traits.arrays.volume.rows = 2;
  model.traits.frame = 2;
  const arrays = new Arrays(model);
  arrays.show();
  assert.deepEqual(ranges(model), [[4, 6]]);
  assert.equal(arrays.progress(), 0);
  model.answer();
  assert.equal(arrays.progress(), 1);
  model.answer(); // round to the first
  assert.deepEqual(ranges(model), [[4, 6], [0, 2]]);
  assert.deepEqual([...arrays.get("volume").known], [1, 1, 0, 0, 1, 1]);
  model.traits.frame = 0;
  model.handlers["change:frame"]();
  assert.deepEqual(ranges(model).at(-1), [2, 4]);
});
