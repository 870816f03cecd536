// The pictures of a codebook, without a browser: pixels taller than wide, and keys that go from cell to cell.

import assert from "node:assert/strict";
import test from "node:test";
import { all, answer, rendered, settle } from "./fake_page.mjs";
import codebookExplorer from "../../../widgets/js/codebook_explorer.js";

const floats = (...values) => new DataView(Float32Array.from(values).buffer);

/** An image of 4 x 4 pixels in 2 x 2 cells, a code each. */
function opened() {
  const page = rendered(codebookExplorer, {
    book: { map: floats(0, 0, 1, 1, 2, 2, 3, 3), variance: 1, labels: [0, 0, 0, 0], mostly: [0, 0, 0, 0], purity: [0, 0, 0, 0], classes: [], volumes: ["one"], cells: [2, 2], aspect: 2, field_px: 2, cell_px: [2, 2] },
    place: { images: [1, 4, 4], index: 0, codes: [0, 1, 2, 3] }, usage: { counts: floats(1, 1, 1, 1), order: [0, 1, 2, 3], text: "", top: 0.25 },
    lit: { code: 3, group: [], named: "code 3", heat: floats(0, 0, 0, 1), top: 1, unit: "(fires)", title: "", patches: new DataView(new ArrayBuffer(16)), patch_px: 4, count: 1, shares: [], places: [""], text: "" },
    group: [], scope: "slice", order: "usage", volume: 0, arrays: { thumbnails: { version: 1, dtype: "uint8", shape: [4, 2, 2] } },
  });
  answer(page, 7);
  const [image, , map, gallery] = all(page.el, "canvas");
  return { ...page, image, map, gallery };
}
const pictures = (canvas) => canvas.drawn.filter(([name]) => name === "drawImage").map(([, , ...box]) => box);

test("patches and the picture of a code have pixels as tall as the image has", () => {
  const { gallery, map } = opened();
  const side = (100 - 7 * 8) / 8;
  assert.deepEqual(pictures(gallery).at(-1), [side / 4, 0, side / 2, side]);
  const boxes = gallery.drawn.filter(([name]) => name === "strokeRect").map(([, ...box]) => box);
  assert.deepEqual(boxes.at(-1), [(3 * side) / 8, side / 4, side / 4, side / 2]); // a cell, in the middle
  assert.deepEqual(boxes.at(-3), boxes.at(-1)); // the receptive field
  map.handlers.pointermove({ currentTarget: map, clientX: 14, clientY: 86 }); // the dot of code 0
  settle();
  const [, , wide, tall] = pictures(map).at(-1);
  assert.deepEqual([wide, tall], [42, 84]);
});

test("arrow keys go over the image from cell to cell, and stop at its border", () => {
  const { image, model } = opened();
  const after = (key) => {
    image.handlers.keydown({ key, preventDefault: () => {} });
    return model.get("selection");
  };
  assert.deepEqual(after("ArrowUp"), { voxel: [0, 1, 3], code: 1, by: "voxel" });
  assert.deepEqual(after("ArrowRight"), { voxel: [0, 1, 3], code: 1, by: "voxel" });
  assert.deepEqual(after("ArrowLeft"), { voxel: [0, 1, 1], code: 0, by: "voxel" });
  assert.deepEqual(after("x"), { voxel: [0, 1, 1], code: 0, by: "voxel" });
});
