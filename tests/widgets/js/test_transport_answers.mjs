// What a saved page says of tokens that receive by rows of their own, against numbers computed by hand.

import assert from "node:assert/strict";
import test from "node:test";
import { bytesOf, numbers } from "../../../widgets/js/answers.js";
import { Saved } from "../../../widgets/js/page.js";
import answering from "../../../widgets/js/transport_answers.js";

// Codes 7 (three tokens) and 2 (one) on 2 x 2 tokens, two references: code 7 sends two thirds to reference 0.
const floats = (...values) => bytesOf(Float32Array.from(values));
const solution = (...plan) => ({ epsilon: 0.1, solved: { plan: floats(...plan) }, orders: { usage: {} } });
const slice = {
  problem: { images: [1, 4, 4], cells: [2, 2], names: [7, 2], rows: bytesOf(Int32Array.of(0, 0, 1, 0)), source: floats(0.75, 0.25) },
  target: floats(0.5, 0.5),
  tokens: null,
  sides: { sends: solution(0.5, 0.25, 0, 0.25), receives: solution(0.3, 0.45, 0.2, 0.05) },
};
const hearing = floats(0.25, 0, 0.05, 0.2, 0.2, 0.05, 0, 0.25); // its rows of code 7 add up to 0.3 and 0.45

/** What is lit once a page was clicked. */
function lit(slice, side, selection) {
  const model = new Saved({ traits: { problem: { index: 0 }, side, order: "usage", selection: {} }, arrays: {} });
  model.answers = answering(model, { slices: [slice] });
  model.set("selection", selection);
  model.save_changes();
  const { heat, text } = model.get("lit");
  return { heat: [...numbers(Float32Array, heat)], text };
}
const near = (found, wanted) => wanted.forEach((value, i) => assert.ok(Math.abs(found[i] - value) < 1e-5, `${found} is not ${wanted}`));

test("a token hears by its own row where tokens receive, and by that of its code elsewhere", () => {
  const first = { voxel: [0, 0, 0] };
  const own = lit({ ...slice, hearing }, "receives", first);
  near(own.heat, [4 / 3, 4 / 3, 0, 4 / 3]); // reference 0 alone, all of code 7
  assert.equal(own.text, "pixel (1, 1) has code 7; references 0 (100%), 1 (0%)");
  const last = lit({ ...slice, hearing }, "receives", { voxel: [0, 3, 3] });
  near(last.heat, [2 / 3, 2 / 3, 2, 2 / 3]); // reference 1 alone: half of code 7's three, half of code 2's one
  assert.equal(last.text, "pixel (2, 2) has code 7; references 1 (100%), 0 (0%)");
  const sends = lit({ ...slice, hearing }, "sends", first);
  near(sends.heat, own.heat);
  assert.equal(sends.text, "pixel (1, 1) has code 7; references 0 (67%), 1 (33%)");
  const codes = lit(slice, "receives", first);
  near(codes.heat, [0.4 * (4 / 3) + 0.6 * (2 / 3), 0.4 * (4 / 3) + 0.6 * (2 / 3), 0.6 * 2, 0.4 * (4 / 3) + 0.6 * (2 / 3)]);
  assert.equal(codes.text, "pixel (1, 1) has code 7; references 1 (60%), 0 (40%)");
});

test("a reference is heard token by token, and named by codes", () => {
  const selection = { by: "reference", reference: 0 };
  const own = lit({ ...slice, hearing }, "receives", selection);
  near(own.heat, [2, 0.4, 1.6, 0]);
  assert.equal(own.text, "reference 0: codes 7 (60%), 2 (40%)");
  near(lit({ ...slice, hearing }, "sends", selection).heat, [4 / 3, 4 / 3, 0, 4 / 3]);
  near(lit(slice, "receives", selection).heat, [0.8, 0.8, 1.6, 0.8]);
});
