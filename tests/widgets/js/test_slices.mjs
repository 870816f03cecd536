// Slices of volumes and how they are painted, without a browser: node --test tests/widgets/js/*.mjs

import assert from "node:assert/strict";
import test from "node:test";
import { Cut, agreement, area, dragged, edges, greys, known, lengthMm, millimetres, pixel, scrolled, stepped, strokeEdges } from "../../../widgets/js/slices.js";

const SHAPE = [2, 3, 4];
const VOLUME = Int16Array.from({ length: 24 }, (_, i) => i - 12);
const at = ([d, h, w]) => VOLUME[(d * 3 + h) * 4 + w];

function* planes() {
  for (const axis of [0, 1, 2]) {
    const [one, two] = [0, 1, 2].filter((other) => other !== axis);
    for (const [down, across] of [[one, two], [two, one]]) {
      for (const [flip_down, flip_across] of [[false, false], [false, true], [true, false], [true, true]]) {
        yield { axis, down, across, flip_down, flip_across };
      }
    }
  }
}

test("each pixel of a slice is the voxel that stands there, however a plane is turned", () => {
  for (const plane of planes()) {
    const cut = new Cut(plane, SHAPE);
    for (let index = 0; index < SHAPE[plane.axis]; index += 1) {
      const slice = new Int16Array(cut.size);
      cut.copy(VOLUME, index, slice);
      for (let i = 0; i < cut.size; i += 1) {
        const place = [Math.floor(i / cut.columns), i % cut.columns];
        const voxel = cut.voxel(index, ...place);
        assert.equal(slice[i], at(voxel), JSON.stringify(plane));
        assert.deepEqual(cut.place(voxel), place);
      }
    }
  }
});

test("a copy is translated by a table, whose first entry is the lowest value", () => {
  const cut = new Cut({ axis: 0, down: 1, across: 2, flip_down: false, flip_across: false }, SHAPE);
  const table = Uint32Array.from({ length: 24 }, (_, i) => 100 + i);
  const slice = new Uint32Array(12);
  cut.copy(VOLUME, 1, slice, table, 12);
  assert.deepEqual([...slice], [112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123]);
});

test("a window turns stored intensities into opaque greys", () => {
  const grey = ({ table, shift }, stored) => [...new Uint8Array(table.slice(stored + shift, stored + shift + 1).buffer)];
  const ct = greys(new Int16Array(), [1, -1000], [-100, 100]); // stored 1000 is 0 HU
  assert.deepEqual(grey(ct, 1000), [127, 127, 127, 255]);
  assert.deepEqual(grey(ct, 900), [0, 0, 0, 255]);
  assert.deepEqual(grey(ct, -32768), [0, 0, 0, 255]);
  assert.deepEqual(grey(ct, 32767), [255, 255, 255, 255]);
  const bytes = greys(new Uint8Array(), [1, 0], [0, 255]);
  assert.equal(bytes.table.length, 256);
  assert.deepEqual(grey(bytes, 77), [77, 77, 77, 255]);
  assert.deepEqual(grey(greys(new Uint8Array(), [1, 0], [9, 9]), 10), [255, 255, 255, 255]); // no width
});

test("a colour is red, green, blue and opacity in memory", () => {
  assert.deepEqual([...new Uint8Array(Uint32Array.of(pixel("#0102ff", 0.5)).buffer)], [1, 2, 255, 128]);
});

/** Edges as a map of unit pieces to labels: what `edges` says in runs. */
function pieces(runs) {
  const found = new Map();
  for (const [label, x0, y0, x1, y1, inX, inY] of runs) {
    for (let k = 0; k < x1 - x0 + (y1 - y0); k += 1) {
      const key = inY ? `${x0 + k},${y0} ${inX},${inY}` : `${x0},${y0 + k} ${inX},${inY}`;
      assert(!found.has(key));
      found.set(key, label);
    }
  }
  return found;
}

test("edges lie between different labels, on the side of the label that they enclose", () => {
  const [rows, columns] = [7, 9];
  let state = 3;
  const random = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
  const labels = Uint8Array.from({ length: rows * columns }, () => Math.floor(3 * random()));
  const label = (row, column) => (row >= 0 && row < rows && column >= 0 && column < columns ? labels[row * columns + column] : 0);
  const expected = new Map();
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const own = label(row, column);
      if (!own) continue;
      if (label(row - 1, column) !== own) expected.set(`${column},${row} 0,1`, own);
      if (label(row + 1, column) !== own) expected.set(`${column},${row + 1} 0,-1`, own);
      if (label(row, column - 1) !== own) expected.set(`${column},${row} 1,0`, own);
      if (label(row, column + 1) !== own) expected.set(`${column + 1},${row} -1,0`, own);
    }
  }
  assert.deepEqual(new Map([...pieces(edges(labels, rows, columns))].sort()), new Map([...expected].sort()));
});

test("edges lie where the labels are, wherever on the slice", () => {
  const labels = new Uint8Array(60);
  labels[2 * 10 + 3] = 7; // a pixel of row 2 and column 3, and one of row 4 and column 8
  labels[4 * 10 + 8] = 7;
  const square = (x, y) => [[7, x, y, x + 1, y, 0, 1], [7, x, y + 1, x + 1, y + 1, 0, -1], [7, x, y, x, y + 1, 1, 0], [7, x + 1, y, x + 1, y + 1, -1, 0]];
  assert.deepEqual(edges(labels, 6, 10).map(String).sort(), [...square(3, 2), ...square(8, 4)].map(String).sort());
  assert.deepEqual(edges(new Uint8Array(60), 6, 10), []);
});

test("a straight edge is one run", () => {
  assert.equal(edges(Uint8Array.of(5, 5, 5, 5, 5, 5), 2, 3).length, 4);
});

test("two maps agree or differ in four ways", () => {
  const verdicts = new Uint8Array(5);
  agreement(Uint8Array.of(0, 2, 0, 2, 2), Uint8Array.of(0, 2, 1, 0, 1), verdicts);
  assert.deepEqual([...verdicts], [0, 1, 2, 3, 4]);
});

test("keys step through slices and stop at the ends", () => {
  assert.deepEqual(["ArrowUp", "ArrowLeft", "PageUp", "PageDown", "Home", "End"].map((key) => stepped(key, 5, 12)), [6, 4, 11, 0, 0, 11]);
  assert.equal(stepped("a", 5, 12), undefined);
  assert.equal(stepped("ArrowDown", 0, 1), 0);
});

/** Slices that a row of turns of the wheel steps through. */
function steps(turns) {
  let [gathered, total] = [0, 0];
  for (const turn of turns) {
    const { steps, left } = scrolled(gathered, turn);
    gathered = left;
    total += steps;
  }
  return total;
}

test("a notch of the wheel is a slice, and a trackpad is not faster than the hand", () => {
  for (const notch of [100, 120]) assert.equal(steps(Array(7).fill(notch)), -7);
  assert.equal(steps([240]), -2); // two that came as one
  assert.equal(steps([-120]), 1);
  assert.equal(steps(Array(20).fill(4)), -1);
  assert.equal(steps(Array(14).fill(4)), 0);
  assert.equal(steps([...Array(14).fill(4), -4, ...Array(14).fill(-4)]), 1); // what was gathered is forgotten at a turn
});

test("a line is as long as the voxels are wide", () => {
  assert.equal(lengthMm([1, 2, 3], [1, 6, 0.5], [5, 0.75, 1.6]), 5);
});

test("a drag across changes the width of a window, one down its level", () => {
  assert.deepEqual(dragged([-100, 300], 0, 0), [-100, 300]);
  assert.deepEqual(dragged([-100, 300], 0, 300), [300, 700]);
  const [low, high] = dragged([-100, 300], 200 * Math.log(2), 0);
  assert(Math.abs(low + 300) < 1e-9 && Math.abs(high - 500) < 1e-9);
});

test("millimetres are named after the side of the patient", () => {
  const affine = [[0, 0, -2, 10], [0, -3, 0, 0.25], [4, 0, 0, 0], [0, 0, 0, 1]];
  assert.equal(millimetres([1, 2, 3], affine, [4, 3, 2]), "R 4.0  P 5.8  S 4.0 mm");
  assert.equal(millimetres([0, 0, 6], affine, [4, 3, 2]), "L 2.0  A 0.3  S 0.0 mm");
  assert.equal(millimetres([1, 2, 3], null, [4, 3, 0.5]), "4.0, 6.0, 1.5 mm");
});

test("values that are not known are left out", () => {
  const data = Float32Array.of(1, 0.5, NaN, 2, NaN, NaN);
  assert.deepEqual(known({ data, shape: [2, 3] }, [1, 2]), [[0.5], []]);
});

test("where nothing is known two maps neither agree nor differ", () => {
  const verdicts = new Uint8Array(3).fill(9);
  agreement(Uint8Array.of(255, 255, 255), Uint8Array.of(0, 1, 255), verdicts);
  assert.deepEqual([...verdicts], [0, 0, 0]);
  agreement(Uint8Array.of(0, 1, 255), Uint8Array.of(255, 255, 255), verdicts.fill(9));
  assert.deepEqual([...verdicts], [0, 0, 0]);
  agreement(Uint8Array.of(255, 0, 255), Uint8Array.of(0, 255, 255), verdicts, null); // a structure like any other
  assert.deepEqual([...verdicts], [3, 2, 1]);
});

test("an area is told in cm² where pixels have a size", () => {
  assert.equal(area(300, [5, 2, 0.5], "mm"), "3.0 cm²");
  assert.equal(area(300, [1, 1, 1], "voxels"), "300 pixels");
});

test("a label without a colour has no outline", () => {
  globalThis.Path2D = class {
    moveTo() {}
    lineTo() {}
  };
  const stroked = [];
  const context = { setLineDash() {}, stroke: () => stroked.push(context.strokeStyle) };
  strokeEdges(context, edges(Uint8Array.of(1, 255, 0, 2), 1, 4), [0, 0, 1, 1], [null, "#111111", "#222222"], 1, []);
  assert.deepEqual(stroked, ["#111111", "#222222"]);
});
