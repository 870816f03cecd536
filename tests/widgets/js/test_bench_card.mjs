// The card of the workbench, without a browser.

import assert from "node:assert/strict";
import test from "node:test";
import { all, words } from "./fake_page.mjs";
import { NOW, benchOf } from "./fake_bench.mjs";
import { cardPanel } from "../../../widgets/js/bench_card.js";

globalThis.HTMLInputElement = class {};
const CARD = {
  kind: "code", code: 7, name: "", count: 1, tokens: 2, slices: 1, among: 1, shares: [1], typical: 0, purity: 1,
  neighbours: [[5, 0.5]], examples: { nearest: [[0, 0, 1]] },
};

/** A bench of which this is selected, and its card. */
function opened(selection, traits = {}) {
  const bench = benchOf({ selection, card: CARD, ...traits });
  const card = cardPanel(bench);
  card.show();
  return { bench, card: card.element };
}
const press = (card, text) => all(card, "button").find((each) => words(each).includes(text)).handlers.click();

test("a code is replaced by one that is named, and by none while the field is empty", () => {
  const { bench, card } = opened({ by: "code", code: 7 });
  const [field] = all(card, "input").filter(({ type }) => type === "number");
  field.value = "";
  press(card, "replace by");
  assert.deepEqual(bench.changes.replaced_codes, {});
  field.value = "5";
  press(card, "replace by");
  assert.deepEqual(bench.changes.replaced_codes, { 7: 5 });
  const again = opened({ by: "code", code: 7 }, { interventions: bench.changes });
  all(again.card, "input").find(({ type }) => type === "number").value = "";
  press(again.card, "put it back");
  assert.deepEqual(again.bench.changes.replaced_codes, {});
});

test("an example is a button that leads to its token", () => {
  const { bench, card } = opened({ by: "code", code: 7 });
  const thumb = all(card, "button").find((each) => all(each, "canvas").length);
  assert.equal(thumb.title, "slice 1: go there");
  thumb.handlers.click();
  assert.deepEqual(bench.selection.voxel, [0, 1, 3]);
});

test("a reference that is silenced says so, and shares nothing", () => {
  const { card } = opened({ by: "reference", reference: 1 }, { interventions: { ...benchOf().changes, silenced_references: [1] } });
  assert.match(words(card), /plan silenced: it gathers and passes on nothing/);
  assert.doesNotMatch(words(card), /gathers from|takes the same/);
  assert.match(words(opened({ by: "reference", reference: 1 }).card), /gathers from .* takes the same/);
});

test("rows and columns are counted from 1, as slices are", () => {
  assert.match(words(opened({ voxel: [0, 1, 3] }).card), /^pixel \(2, 4\) of slice 1/);
  assert.match(words(opened({ by: "reference", reference: 0 }).card), /row 2, column 2,/); // most of it is of the token at the left
});

test("a pixel whose code is silenced hears nothing", () => {
  const silent = new DataView(Float32Array.of(0, 0, 0.5, 0.5).buffer);
  assert.match(words(opened({}, { now: { ...NOW, receiving: silent } }).card), /hears from nothing/);
});

test("nothing is said of another scan, or of plans, until they are here", () => {
  const opening = opened({ by: "code", code: 7 }, { scan: 1, about: { scans: ["A", "B"] } });
  assert.equal(words(opening.card), "opening B …");
  assert.match(words(opened({ by: "code", code: 7 }, { now: {} }).card), /plan …/);
  assert.match(words(opened({ by: "cell", code: 7, reference: 0 }, { now: {} }).card), /plan …/);
  assert.match(words(opened({ by: "cell", code: 1, reference: 0 }).card), /plan the code does not fire in this slice/);
});

test("how far a reference scatters is told in pixels where nobody knows their size", () => {
  for (const unit of ["pixels", "mm"]) {
    const { card } = opened({ by: "reference", reference: 0 }, { about: { unit }, now: NOW });
    assert.match(words(card), new RegExp(`scattered by 1 ${unit}`));
  }
});
