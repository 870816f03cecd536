// How sand moves and changes, without a browser.

import assert from "node:assert/strict";
import test from "node:test";
import { originColour, poured, raised } from "../../../widgets/js/sand.js";

test("sand is coloured by where it comes from", () => {
  assert.deepEqual([0, 1 / 3, 1, 1.1].map(originColour), ["rgb(59, 111, 214)", "rgb(0, 158, 115)", "rgb(213, 94, 0)", "rgb(213, 94, 0)"]);
  assert.equal(originColour(1 / 6), "rgb(30, 135, 165)");
});

test("all sand leaves, flies and arrives", () => {
  assert.deepEqual(poured(0, 50), { left: 0, arrived: 0, flying: [] });
  const { left, arrived, flying } = poured(0.5, 1000);
  assert.ok(left > arrived && arrived > 0);
  assert.ok(Math.abs(flying.length / 1000 - (left - arrived)) < 0.01); // what is in neither pile is in the air
  const end = poured(1, 50);
  assert.deepEqual([end.left, end.arrived, end.flying], [1, 1, []]);
});

test("a bar changes alone, does not fall below nothing, and a pile never vanishes", () => {
  assert.deepEqual(raised([0.5, 0.5], 1, 0.2), [0.5, 0.2]);
  assert.deepEqual(raised([0.5, 0.5], 0, -3), [0, 0.5]);
  assert.deepEqual(raised([0, 1], 1, 0), [0, 1]);
});
