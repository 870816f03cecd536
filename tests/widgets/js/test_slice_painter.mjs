// Errors as the slice viewer paints them, without a browser; Python draws the same (tests/widgets/test_slice_viewer.py).

import assert from "node:assert/strict";
import test from "node:test";
import { PLANE, held, painted, viewOf } from "./fake_page.mjs";
import { SlicePainter } from "../../../widgets/js/slice_painter.js";
import { SliceState } from "../../../widgets/js/slice_state.js";
import { Cut } from "../../../widgets/js/slices.js";

/** The verdicts on a second map, and how many edges of the first have an outline, where these structures are told. */
function errors(truth, found, labels) {
  const shape = [1, 1, truth.length];
  const arrays = new Map([
    ["volume", held(shape, new Uint8Array(truth.length))],
    ["labels of truth", held(shape, Uint8Array.from(truth))],
    ["labels of found", held(shape, Uint8Array.from(found))],
  ]);
  arrays.offers = () => Object.fromEntries(arrays);
  const agreement = { right: "#00ff00", added: "#0000ff", missed: "#00ffff", confused: "#a578ff" };
  const about = {
    shape, frames: 1, spacing_mm: [1, 1, 1], affine: null, unit: "mm", planes: [PLANE], scale: [1, 0], presets: {}, maps: ["truth", "found"],
    structures: labels.map((label) => ({ label, name: `structure ${label}`, colour: "#ff0000" })), agreement, hatched: false,
  };
  const values = { about, selection: { voxel: [0, 0, 0] }, frame: 0, window: [0, 1], mode: "errors", visible: labels, shown: about.maps, opacity: 0.5 };
  for (const each of Object.values(painted)) each.length = 0;
  const state = new SliceState(viewOf(values, arrays));
  new SlicePainter(state, new Cut(PLANE, shape), about.maps).paint(document.createElement("canvas").getContext("2d"), [0, 0, 1, 1], 1);
  return { verdicts: painted.fills.at(-1), outlined: painted.edges.at(-1).length };
}

test("what either map does not know is neither right nor wrong", () => {
  assert.deepEqual(errors([0, 1, 255, 1, 0], [255, 255, 1, 1, 1], [1]).verdicts, [0, 0, 0, 1, 2]);
});

test("a mask of 0 and 255 is compared as one of 0 and 1", () => {
  const [truth, found] = [[0, 255, 255, 0], [0, 255, 0, 255]];
  const binary = (mask) => mask.map(Boolean).map(Number);
  assert.deepEqual(errors(truth, found, [255]), errors(binary(truth), binary(found), [1]));
  assert.deepEqual(errors(truth, found, [255]).verdicts, [0, 1, 3, 2]);
});
