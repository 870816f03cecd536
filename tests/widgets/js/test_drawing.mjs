// What the viewers draw by: colours, numbers and places. No browser is needed.

import assert from "node:assert/strict";
import test from "node:test";
import {
  HEAT_COLOURS, LABELS, PLAN_COLOURS, WAYS, brief, cellAt, cellOf, fitted, labelColour, neighbour, position, spread, typed,
} from "../../../widgets/js/drawing.js";

test("ten colours of labels come round, and background is grey", () => {
  assert.deepEqual([0, 1, 10, 11, 21].map(labelColour), [LABELS[0], LABELS[1], LABELS[10], LABELS[1], LABELS[1]]);
});

test("a ramp leads from its first stop to its last, as pixels and as CSS", () => {
  const stop = ({ colours }, i) => [...colours.slice(4 * i, 4 * i + 4)];
  assert.deepEqual(stop(PLAN_COLOURS, 0), [68, 1, 84, 255]);
  assert.deepEqual(stop(PLAN_COLOURS, 255), [253, 231, 37, 255]);
  assert.deepEqual(stop(HEAT_COLOURS, 0), [230, 100, 0, 0]); // nothing hides nothing
  assert.deepEqual(stop(HEAT_COLOURS, 85), [236, 120, 0, 140]); // the second of four stops
  assert.match(HEAT_COLOURS.css, /^linear-gradient\(to right, rgba\(230, 100, 0, 0\), .*rgba\(255, 226, 90, 0.88\)\)$/);
});

test("bytes become numbers wherever they lie in their buffer", () => {
  const bytes = new Uint8Array([9, 9, 9, ...new Uint8Array(Float32Array.of(1.5, -2).buffer), 9]);
  assert.deepEqual(typed(Float32Array, new DataView(bytes.buffer, 3, 8)), Float32Array.of(1.5, -2));
  assert.equal(typed(Float32Array, null), null);
});

test("numbers are as short as they may be", () => {
  const numbers = [0, 3.1, 42, 0.03124, 0.0001, 99.96, 100, 1234.5, -250.4, -0.5];
  assert.deepEqual(numbers.map(brief), ["0", "3.1", "42", "0.0312", "1.0e-4", "100", "100", "1235", "-250", "-0.5"]);
});

test("a picture fills its canvas along one side, and stands in the middle along the other", () => {
  assert.deepEqual(fitted(100, 60, 1), [20, 0, 60, 60]);
  assert.deepEqual(fitted(100, 60, 2), [35, 0, 30, 60]);
  assert.deepEqual(fitted(100, 600, 2), [0, 200, 100, 200]);
});

test("a point of a picture is a cell of it, or lies outside", () => {
  const box = [20, 10, 60, 40];
  assert.deepEqual(cellAt([20, 10], box, 4, 6), [0, 0]);
  assert.deepEqual(cellAt([79.9, 49.9], box, 4, 6), [3, 5]);
  assert.deepEqual(cellAt([19.9, 50], box, 4, 6), [4, -1]);
});

test("a pixel lies in the bottleneck pixel that Python says: h * rows // H", () => {
  assert.deepEqual(cellOf([0, 99], [50, 100], [7, 12]), [0, 11]);
  assert.deepEqual(cellOf([7, 8], [50, 100], [7, 12]), [0, 0]);
  assert.deepEqual(cellOf([8, 9], [50, 100], [7, 12]), [1, 1]);
});

test("the neighbours of the ends are each other", () => {
  assert.equal(neighbour([4, 9, 2], 2, 1), 4);
  assert.equal(neighbour([4, 9, 2], 4, -1), 2);
  assert.equal(neighbour([4, 9, 2], 7, 1), 4); // nothing was selected
});

test("values are spread between two ends, whichever is larger", () => {
  assert.deepEqual(spread([3, 5, 4], 10, 110), [10, 110, 60]);
  assert.deepEqual(spread([3, 5, 4], 110, 10), [110, 10, 60]);
  assert.deepEqual(spread([3, 3], 10, 110), [10, 10]);
});

test("arrow keys lead down and across", () => {
  assert.deepEqual([WAYS.ArrowDown, WAYS.ArrowRight, WAYS.Enter], [[1, 0], [0, 1], undefined]);
});

test("a pointer is where it is on the canvas", () => {
  const currentTarget = { getBoundingClientRect: () => ({ left: 30, top: 8 }) };
  assert.deepEqual(position({ clientX: 35, clientY: 10, currentTarget }), [5, 2]);
});
