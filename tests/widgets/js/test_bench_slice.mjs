// What lies over the slice of the workbench, without a browser.

import assert from "node:assert/strict";
import test from "node:test";
import { all, held, painted, words } from "./fake_page.mjs";
import { NOW, benchOf } from "./fake_bench.mjs";
import { slicePanel } from "../../../widgets/js/bench_slice.js";
import { codeColour } from "../../../widgets/js/drawing.js";
import { pixel } from "../../../widgets/js/slices.js";

/** The panel of a bench with these traits, and what was painted on it. */
function shown(traits, arrays) {
  for (const each of Object.values(painted)) each.length = 0;
  const panel = slicePanel(benchOf(traits, arrays));
  panel.show();
  return panel;
}

test("what the interventions change is shown on the model that is changed alone, and not on the other one", () => {
  const other = held([1, 2, 4], Uint8Array.of(1, 1, 1, 1, 0, 0, 0, 0));
  shown({ overlay: "changed", about: { other: "b" } }, { other });
  assert.deepEqual([...new Set(painted.fills.map(String))], [String(Array(8).fill(0))]); // nothing is changed
  shown({ overlay: "models differ", about: { other: "b" } }, { other });
  assert.deepEqual([...new Set(painted.fills.map(String))], ["1,0,1,1,0,0,0,0"]);
});

test("where models differ has its colour in the key", () => {
  assert.match(words(shown({ overlay: "models differ", about: { other: "b" } }).legend), /organ the models differ/);
});

test("a code that is silenced hears nothing, and not nothing times an even share", () => {
  const silent = new DataView(Float32Array.of(0, 0, 0.5, 0.5).buffer);
  const panel = shown({ overlay: "relation", now: { ...NOW, receiving: silent }, selection: { by: "code", code: 7 } });
  assert.equal(words(panel.legend), "code 7 hears nothing");
});

test("a cell of the plans is of its code, wherever the pixel lies that was selected before", () => {
  const cell = { by: "cell", code: 5, reference: 0 }; // the pixel has code 7
  const panel = shown({ overlay: "relation", selection: cell });
  assert.match(words(panel.legend), /^code 5 hears: 0/);
  assert.doesNotMatch(words(panel.legend), /±/);
  assert.match(words(shown({ overlay: "relation" }).legend), /^it hears: 0/);
  shown({ overlay: "codes", selection: cell });
  assert.equal(Math.min(...painted.edges.at(-1).map(([, x]) => x)), 2); // where the token of code 5 begins
});

test("each code of a slice has its colour, however many there are", () => {
  const codes = Int32Array.from({ length: 300 }, (_, code) => code);
  shown({ overlay: "codes", about: { shape: [1, 15, 20], cells: [15, 20] }, now: {} }, { codes: held([1, 15, 20], codes) });
  assert.deepEqual(painted.pixels.at(-1), Array.from(codes, (code) => pixel(codeColour(code), 0.5)));
});

test("what is told of a place is told of the one under the pointer, on the slice that is shown by now", () => {
  const panel = shown({ about: { shape: [2, 2, 4] } }, { found: held([2, 2, 4], new Uint8Array(16)) });
  const [canvas] = all(panel.frame, "canvas");
  canvas.handlers.pointermove({ currentTarget: canvas, pointerId: 1, clientX: 90, clientY: 70 });
  assert.match(panel.place.textContent, /^slice 1, row 2, column 4/);
  canvas.handlers.wheel({ currentTarget: canvas, preventDefault: () => {}, deltaY: -100, deltaMode: 0 });
  panel.show();
  assert.match(panel.place.textContent, /^slice 2, row 2, column 4/);
  canvas.handlers.pointerleave({});
  assert.match(panel.place.textContent, /^slice 2, row 1, column 1/);
});

test("no millimetre is told of a scan that has none", () => {
  const relation = { overlay: "relation" };
  const voxels = shown(relation);
  voxels.show(); // the key follows the picture
  assert.equal(voxels.place.textContent, "slice 1, row 1, column 1 · value 0 · background");
  assert.match(words(voxels.legend), /r0 80 %: 1 ± 1 pixels/);
  const placed = shown({ ...relation, about: { unit: "mm", affine: [[0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]] } });
  placed.show();
  assert.match(placed.place.textContent, / · R 0.0  A 0.0  S 0.0 mm · /);
  assert.match(words(placed.legend), /r0 80 %: 1 ± 1 mm/);
});
