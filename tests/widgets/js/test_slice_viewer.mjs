// What the slice viewer reads out, and its keys, without a browser.

import assert from "node:assert/strict";
import test from "node:test";
import { PLANE, all, answer, rendered, settle, words } from "./fake_page.mjs";
import sliceViewer from "../../../widgets/js/slice_viewer.js";

const SHAPE = [5, 10, 10];

/** A viewer whose volume has come, with a hand on its first picture. */
function opened(traits = {}) {
  const about = {
    shape: SHAPE, frames: 1, spacing_mm: [1, 1, 1], affine: null, unit: "voxels", scale: [1, 0], presets: {}, maps: [], structures: [], agreement: {}, hatched: false,
    planes: [PLANE, { ...PLANE, name: "rows", axis: 1, down: 0 }, { ...PLANE, name: "columns", axis: 2, down: 0, across: 1 }],
  };
  const page = rendered(sliceViewer, {
    about, selection: { voxel: [1, 5, 5] }, frame: 0, window: [0, 1], three_planes: false, side_by_side: false, overlay: "outline", mode: "labels", opacity: 0.4,
    visible: [], shown: [], tool: "window", ruler: [], looks: {}, arrays: { volume: { version: 1, dtype: "uint8", shape: SHAPE } }, ...traits,
  });
  answer(page, 7);
  const canvas = () => all(page.el, "canvas").find(({ tabIndex }) => tabIndex === 0);
  const hand = (type, given) => {
    canvas().handlers[type]({ currentTarget: canvas(), preventDefault: () => {}, stopPropagation: () => {}, ...given });
    settle();
  };
  return { ...page, canvas, hand, said: () => /voxel [\d, ]*\d/.exec(words(page.el))[0] };
}

test("what is read out lies under the pointer, whatever is shown there by now", () => {
  const { canvas, hand, model, said } = opened();
  assert.equal(said(), "voxel 2, 6, 6");
  const { width } = canvas();
  hand("pointermove", { pointerId: 1, clientX: 0, clientY: 0 });
  assert.equal(said(), "voxel 2, 1, 1");
  hand("pointermove", { pointerId: 1, clientX: 0.25 * width, clientY: 0.85 * width });
  assert.equal(said(), "voxel 2, 9, 3");
  hand("wheel", { deltaY: -100, deltaMode: 0 });
  assert.equal(said(), "voxel 3, 9, 3");
  model.set("looks", { slices: { zoom: 2, centre: [0.5, 0.5] } });
  settle();
  assert.equal(said(), "voxel 3, 7, 4");
  hand("pointerleave", {});
  assert.equal(said(), "voxel 3, 6, 6");
});

test("a pane that takes the place of another has no pointer over it yet", () => {
  const { hand, model, said } = opened();
  hand("pointermove", { pointerId: 1, clientX: 1, clientY: 1 });
  assert.equal(said(), "voxel 2, 1, 1");
  model.set("three_planes", true);
  settle();
  assert.equal(said(), "voxel 2, 6, 6");
});

test("Escape also takes back the first end of a ruler", () => {
  const { hand, model } = opened({ tool: "ruler" });
  const press = (key) => hand("keydown", { key });
  const go = (voxel) => model.set("selection", { voxel });
  press("Enter");
  press("Escape");
  go([1, 5, 8]);
  press("Enter");
  assert.deepEqual(model.get("ruler"), []);
  go([1, 2, 8]);
  press("Enter");
  assert.deepEqual(model.get("ruler"), [[1, 5, 8], [1, 2, 8]]);
});
