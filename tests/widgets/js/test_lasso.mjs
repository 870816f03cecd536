// What a line drawn by hand encloses, without a browser: node --test tests/widgets/js/*.mjs

import assert from "node:assert/strict";
import test from "node:test";
import { enclosed, toggled } from "../../../widgets/js/lasso.js";

const XS = [1, 5, 9, 5];
const YS = [5, 5, 5, 9.5];

test("a line encloses what lies within it, whichever way it was drawn", () => {
  const line = [[0, 0], [6, 0], [6, 8], [0, 8]];
  assert.deepEqual(enclosed(line, XS, YS), [0, 1]);
  assert.deepEqual(enclosed([...line].reverse(), XS, YS), [0, 1]);
});

test("a bay of the line is outside", () => {
  const horseshoe = [[0, 0], [10, 0], [10, 10], [7, 10], [7, 2], [3, 2], [3, 10], [0, 10]];
  assert.deepEqual(enclosed(horseshoe, XS, YS), [0, 2]);
});

test("a line too short to enclose anything encloses nothing", () => {
  assert.deepEqual(enclosed([], XS, YS), []);
  assert.deepEqual(enclosed([[0, 5], [9, 5]], XS, YS), []);
});

test("a code joins a group, and leaves it again", () => {
  assert.deepEqual(toggled([], 3), [3]);
  assert.deepEqual(toggled([3, 10], 5), [3, 5, 10]);
  assert.deepEqual(toggled([3, 5, 10], 5), [3, 10]);
});
