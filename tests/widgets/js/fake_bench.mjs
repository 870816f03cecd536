// A workbench without a browser: one slice of 2 x 4 pixels with 1 x 2 tokens of codes 7 and 5, and two references.

import { PLANE, held, viewOf } from "./fake_page.mjs";
import { Bench } from "../../../widgets/js/bench_state.js";

const bytes = (array) => new DataView(array.buffer);
const plan = () => bytes(Float32Array.of(0.4, 0.1, 0.1, 0.4));
const shares = () => bytes(Float32Array.of(0.5, 0.5));

export const ABOUT = {
  scan: 0, model: "a", other: "", shape: [1, 2, 4], cells: [1, 2], spacing_mm: [1, 1, 1], affine: null, unit: "pixels", planes: [PLANE],
  range: [0, 255], structures: [{ label: 1, name: "organ", colour: "#ff0000" }], agreement: { right: "#00ff00", confused: "#a578ff" },
  truth: false, missing: "", heads: 1, references: 2, codes: 9, typical: [], names: {}, two: true,
};
export const NOW = {
  scan: 0, index: 0, labels: bytes(Uint8Array.of(0, 1, 0, 0, 0, 0, 0, 0)), confidence: bytes(new Uint8Array(8)), changed: 0,
  names: [7, 5], rows: bytes(Int32Array.of(0, 1)), source: shares(), target: shares(), sending: plan(), receiving: plan(),
};
const NONE = { silenced_codes: [], replaced_codes: {}, silenced_references: [], relation: "own", skips: [], epsilon: null, epsilon_receive: null };

/** A bench with these traits, of a model and its scan `about`, and with more arrays. */
export function benchOf({ about = {}, selection = {}, ...traits } = {}, arrays = {}) {
  const shape = about.shape ?? ABOUT.shape;
  const size = shape[1] * shape[2];
  const values = {
    about: { ...ABOUT, ...about }, now: NOW, interventions: NONE, selection: { voxel: [0, 0, 0], ...selection },
    scan: 0, plane: 0, overlay: "none", opacity: 0.5, window: [0, 255], outline: false, head: 0, card: {}, ...traits,
  };
  const published = {
    images: held(shape, new Uint8Array(size)), found: held(shape, Uint8Array.of(0, 1, 0, 0, 0, 0, 0, 0)), codes: held([1, 1, 2], Int32Array.of(7, 5)), ...arrays,
  };
  return new Bench(viewOf(values, new Map(Object.entries(published))));
}
