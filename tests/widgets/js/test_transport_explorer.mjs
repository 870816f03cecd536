// A plan as it is shown, without a browser.

import assert from "node:assert/strict";
import test from "node:test";
import { arranged } from "../../../widgets/js/transport_explorer.js";

test("rows and columns of a plan are shown in their order, with what each sends and receives", () => {
  const plan = Float32Array.of(1, 2, 3, 4, 5, 6);
  const { values, sent, received, top } = arranged({ plan, rows: [1, 0], columns: [2, 0, 1], references: 3 });
  assert.deepEqual([...values], [6, 4, 5, 3, 1, 2]);
  assert.deepEqual([...sent], [15, 6]);
  assert.deepEqual([...received], [9, 5, 7]);
  assert.equal(top, 6);
});
