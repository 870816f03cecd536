// What the desk shows while one scan, or one moment, takes the place of another, without a browser.

import assert from "node:assert/strict";
import test from "node:test";
import { PLANE, all, answer, painted, rendered, settle, words } from "./fake_page.mjs";
import desk from "../../../widgets/js/scan_desk.js";

const scan = (name) => ({ name, shape: [1, 2, 2], planes: [PLANE], spacing_mm: [1, 1, 1], scale: [1, 0], frames: 2, presets: { all: [0, 9] } });
const offers = (version) => ({ volume: { version, dtype: "uint8", shape: [1, 2, 2] }, labels: { version, dtype: "uint8", shape: [1, 2, 2] } });

/** A desk whose scan has come, with its labels. */
function opened() {
  const traits = { answer: {}, task: {}, frame: 0, window: [0, 9], selection: { voxel: [0, 0, 0] }, scan: scan("scan 1"), arrays: offers(1) };
  const page = rendered(desk, { ...traits, about: { examples: [], model: "heart", structures: [{ label: 1, name: "organ", colour: "#ff0000" }] } });
  answer(page, 9);
  answer(page, 1);
  assert.deepEqual(painted.fills.at(-1), [1, 1, 1, 1]);
  for (const each of Object.values(painted)) each.length = 0;
  return { ...page, canvas: all(page.el, "canvas")[0] };
}

test("the labels of one scan never lie on another", () => {
  const page = opened();
  page.model.set("arrays", offers(2));
  page.model.set("scan", scan("scan 2"));
  settle();
  assert.match(words(page.el), /1 of 1 · loading/); // nor does the scan before stay under the name of the next
  answer(page, 5);
  assert.deepEqual([painted.pixels.length, painted.fills], [1, []]);
  answer(page, 0);
  assert.deepEqual(painted.fills, [[0, 0, 0, 0]]);
});

test("a moment stays until all of the next is here", () => {
  const page = opened();
  page.canvas.drawn.length = 0;
  page.model.set("arrays", offers(2));
  page.model.set("frame", 1);
  settle();
  answer(page, 5);
  assert.deepEqual(page.canvas.drawn, []);
  answer(page, 1);
  assert.deepEqual(painted.fills, [[1, 1, 1, 1]]);
});
