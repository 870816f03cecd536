// The workbench without a browser: the way back, and what is said of the scan that is shown.

import assert from "node:assert/strict";
import test from "node:test";
import answersOf from "../../../widgets/js/bench_answers.js";
import { leftAlone } from "../../../widgets/js/bench_slice.js";
import { Bench } from "../../../widgets/js/bench_state.js";
import { Saved } from "../../../widgets/js/page.js";

const NONE = { silenced_codes: [], replaced_codes: {}, silenced_references: [], relation: "own", skips: [], epsilon: null, epsilon_receive: null };

/** A bench with these traits; `arrays` is what has come from Python. */
function benchOf(traits = {}, arrays = new Map()) {
  const values = { interventions: NONE, selection: { voxel: [0, 0, 0] }, plane: 0, overlay: "prediction", opacity: 0.5, ...traits };
  return new Bench({ model: { get: (name) => values[name] }, arrays, set: (changes) => Object.assign(values, changes) });
}

test("a slider that is dragged is one step back, and all else a step each", () => {
  const bench = benchOf();
  for (let step = 1; step <= 40; step += 1) bench.intervene({ epsilon: step / 40 }, "epsilon");
  assert.equal(bench.past.length, 1);
  bench.intervene({ epsilon_receive: 0.5 }, "epsilon_receive");
  bench.intervene({ epsilon_receive: null });
  bench.intervene({ silenced_codes: [1] });
  bench.intervene({ silenced_codes: [1, 2] });
  assert.equal(bench.past.length, 5);
  for (let step = 1; step <= 9; step += 1) bench.change({ opacity: step / 10 });
  assert.equal(bench.past.length, 6);
  for (let step = 0; step < 5; step += 1) bench.undo();
  assert.deepEqual(bench.changes, { ...NONE, epsilon: 1 });
  bench.undo();
  assert.deepEqual(bench.changes, NONE);
});

test("the label map of a scan before is not shown for one that has none", () => {
  const arrays = new Map([["truth", "of a scan before"], ["found", "of this one"]]);
  assert.equal(benchOf({ about: { truth: true } }, arrays).held("truth"), "of a scan before");
  const bench = benchOf({ about: { truth: false } }, arrays);
  assert.deepEqual([bench.held("truth"), bench.held("found")], [undefined, "of this one"]);
});

test("across the slices the model is left alone, and that is said", () => {
  const said = (traits) => leftAlone(benchOf({ interventions: { ...NONE, relation: "none" }, plane: 1, ...traits }));
  for (const overlay of ["prediction", "right and wrong", "confidence", "models differ"]) assert.equal(said({ overlay }), "without the interventions");
  assert.match(said({ overlay: "changed" }), /in slices: choose the first plane/);
  assert.deepEqual([said({ overlay: "truth" }), said({ plane: 0 }), said({ interventions: NONE })], ["", "", ""]);
});

test("in a saved page each head has its own errors, and each code its card", () => {
  const traits = { about: {}, selection: { voxel: [0, 1, 1] }, order: "usage", head: 0, now: {}, card: {} };
  const model = new Saved({ traits, arrays: {} });
  const heads = [{ errors: [0.1] }, { errors: [0.2] }];
  const slices = [{ index: 0, errors: [0.1], heads, orders: { usage: [[0], [0]] } }];
  model.answers = answersOf(model, { slices, cards: { 3: { kind: "code", code: 3 } } });
  const shown = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    return [model.get("now").errors, model.get("card")];
  };
  assert.deepEqual(shown({ head: 1 }), [[0.2], { kind: "voxel" }]);
  const now = model.get("now");
  assert.deepEqual(shown({ selection: { voxel: [0, 1, 1], by: "code", code: 3 } }), [[0.2], { kind: "code", code: 3 }]);
  assert.equal(model.get("now"), now); // which is read anew when it changes
  assert.deepEqual(shown({ head: 0, selection: { voxel: [0, 1, 1], by: "code", code: 4 } }), [[0.1], { kind: "code" }]); // as where there are no codes
});
