// A plan as it is shown, without a browser.

import assert from "node:assert/strict";
import test from "node:test";
import { all, rendered, words } from "./fake_page.mjs";
import transportExplorer, { arranged } from "../../../widgets/js/transport_explorer.js";

test("rows and columns of a plan are shown in their order, with what each sends and receives", () => {
  const plan = Float32Array.of(1, 2, 3, 4, 5, 6);
  const { values, sent, received, top } = arranged({ plan, rows: [1, 0], columns: [2, 0, 1], references: 3 });
  assert.deepEqual([...values], [6, 4, 5, 3, 1, 2]);
  assert.deepEqual([...sent], [15, 6]);
  assert.deepEqual([...received], [9, 5, 7]);
  assert.equal(top, 6);
});

test("files that another page has asked for are not kept here", () => {
  const kept = [];
  Object.getPrototypeOf(document.createElement("a")).click = function () {
    kept.push(this.download);
  };
  const [ints, floats] = [new DataView(Int32Array.of(0).buffer), new DataView(Float32Array.of(1).buffer)];
  const { el, model } = rendered(transportExplorer, {
    problem: { images: [1, 2, 2], index: 0, cells: [1, 1], aspect: 1, rows: ints, source: floats, names: [0], labels: null, classes: [], tokens: false, two: false },
    solved: { plan: floats, references: 1, rows: [0], columns: [0], curve: [[0, 1]], cost: 0, marginal_error: 0, iterations: 0, converged: true, tolerance: 0.001 },
    lit: { row: -1, column: -1, cell: null, heat: null, attention: null, top: 0, unit: "", title: "", text: "" }, epsilon: 0.1, exact: false, side: "sends", order: "usage",
  });
  const files = () => model.emit("msg:custom", { files: ["plan.npz"] }, [floats]);
  files();
  assert.deepEqual(kept, []);
  all(el, "button").find((each) => words(each) === "Export").handlers.click();
  files();
  assert.deepEqual(kept, ["plan.npz"]);
  assert.match(words(el), /saved plan\.npz/);
});
