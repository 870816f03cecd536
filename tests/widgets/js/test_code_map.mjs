// What a search in a codebook finds, without a browser: node --test tests/widgets/js/*.mjs

import assert from "node:assert/strict";
import test from "node:test";
import { foundCodes } from "../../../widgets/js/code_map.js";

const LABELS = [0, 2, 1, 2];
const NAMES = ["background", "right ventricle", "left ventricle"];
const found = (text) => [...foundCodes(text, LABELS, NAMES)];

test("a code is found by its number", () => {
  assert.deepEqual(found("3"), [3]);
  assert.deepEqual(found(" Code 1 "), [1]);
  assert.deepEqual(found("4"), []);
});

test("codes are found by a part of their structure's name", () => {
  assert.deepEqual(found("LEFT"), [1, 3]);
  assert.deepEqual(found("ventricle"), [1, 2, 3]);
  assert.deepEqual(found("liver"), []);
  assert.deepEqual([...foundCodes("left", LABELS, [])], []);
});

test("without a text nothing is looked for", () => {
  assert.equal(foundCodes("  ", LABELS, NAMES), null);
});
