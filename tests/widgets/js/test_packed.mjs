// Labels kept small, without a browser: node --test tests/widgets/js/*.mjs

import assert from "node:assert/strict";
import test from "node:test";
import { Packed } from "../../../widgets/js/packed.js";
import { Cut } from "../../../widgets/js/slices.js";

const SHAPE = [5, 19, 26]; // no side is made of whole tiles

/** Discs of three labels, and noise in a corner. */
function labels() {
  const [D, H, W] = SHAPE;
  const made = new Uint8Array(D * H * W);
  let k = 0;
  for (let d = 0; d < D; d += 1) {
    for (let h = 0; h < H; h += 1) {
      for (let w = 0; w < W; w += 1, k += 1) {
        if ((h - 9) ** 2 + (w - 12) ** 2 < 40 + 9 * d) made[k] = 1 + (d % 3);
        if (h > 16 && w > 20) made[k] = (k * 7919) % 256;
      }
    }
  }
  return made;
}

function packed() {
  const map = new Packed(SHAPE);
  const row = SHAPE[1] * SHAPE[2];
  for (const [start, stop] of [[2, 3], [3, 5], [0, 2]]) map.set(labels().subarray(start * row, stop * row), start);
  return map;
}

test("every voxel keeps its label, in whatever order slices come", () => {
  const [map, whole] = [packed(), labels()];
  for (let d = 0, k = 0; d < SHAPE[0]; d += 1) {
    for (let h = 0; h < SHAPE[1]; h += 1) for (let w = 0; w < SHAPE[2]; w += 1, k += 1) assert.equal(map.at(d, h, w), whole[k]);
  }
});

test("slices of every plane are those of the whole, however it is turned, and of a cine's moment", () => {
  const [map, whole] = [packed(), labels()];
  const row = SHAPE[1] * SHAPE[2];
  for (const axis of [0, 1, 2]) {
    const [one, two] = [0, 1, 2].filter((other) => other !== axis);
    for (const [down, across] of [[one, two], [two, one]]) {
      for (const [flip_down, flip_across] of [[false, false], [true, false], [false, true], [true, true]]) {
        const plane = { name: "", letters: [], axis, down, across, flip_down, flip_across };
        for (const [first, end] of [[0, 5], [1, 4]]) {
          const shape = [end - first, SHAPE[1], SHAPE[2]];
          const cut = new Cut(plane, shape);
          const index = shape[axis] - 2;
          const table = Uint8Array.from({ length: 256 }, (_, label) => 255 - label);
          const [seen, known] = [new Uint8Array(cut.size), new Uint8Array(cut.size)];
          cut.copy(map.slices(first, end), index, seen, table);
          cut.copy(whole.subarray(first * row, end * row), index, known, table);
          assert.deepEqual(seen, known);
        }
      }
    }
  }
});

test("areas of one label take hardly any memory", () => {
  const [H, W] = [512, 512];
  const map = new Packed([4, H, W]);
  const one = new Uint8Array(4 * H * W).map((_, i) => ((i % W) - 256) ** 2 + (Math.floor(i / W) % H - 256) ** 2 < 100 ** 2 ? 3 : 0);
  map.set(one, 0);
  assert.equal(map.at(2, 256, 256), 3);
  assert.ok(map.tiles.byteLength + map.store.pixels.byteLength < one.length / 8);
});
