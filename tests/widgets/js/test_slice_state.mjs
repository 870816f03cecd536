// What a slice viewer shows, without a browser.

import assert from "node:assert/strict";
import test from "node:test";
import { PLANE, viewOf } from "./fake_page.mjs";
import { SliceState } from "../../../widgets/js/slice_state.js";

test("of a selection in a larger scan the nearest voxel is shown", () => {
  const arrays = { offers: () => ({ volume: { shape: [3, 4, 4] } }) };
  const about = { shape: [3, 4, 4], planes: [PLANE], maps: [], structures: [] };
  assert.deepEqual(new SliceState(viewOf({ about, selection: { voxel: [8, 2, 9] } }, arrays)).voxel, [2, 2, 3]);
});
