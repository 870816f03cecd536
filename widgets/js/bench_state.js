// What the workbench shows: its state with a way back, and what Python has computed for it.

import { typed } from "./drawing.js";

/** @import { View } from "./viewer.js" */
/** @import { Plane } from "./slices.js" */
/** @import { Plans } from "./plans.js" */
/** @typedef {{label: number, name: string, colour: string}} Structure */
/**
 * A model and a scan.
 *
 * @typedef {object} About
 * @property {number} scan
 * @property {string} model
 * @property {string} kind
 * @property {string} other name of a second model, or nothing
 * @property {string[]} scans
 * @property {number[]} shape
 * @property {number[] | null} cells
 * @property {number[]} spacing_mm
 * @property {number[][] | null} affine where mm are known
 * @property {string} unit of lengths within a slice, mm or pixels
 * @property {Plane[]} planes
 * @property {number[]} range
 * @property {Structure[]} structures
 * @property {Record<string, string>} agreement
 * @property {boolean} truth
 * @property {number} codes
 * @property {number[]} typical the structure that each code marks
 * @property {number} heads
 * @property {number} references
 * @property {boolean} two
 * @property {number[]} epsilons
 * @property {number} skips
 * @property {Record<string, string>} names
 * @property {string} missing
 * @property {boolean} [saved] in a page without Python
 */
/** @typedef {{name: string, pixels: number[], dice?: (number | null)[]}} Score before, after, and of the other model */
/**
 * What Python says of the slice.
 *
 * @typedef {object} Now
 * @property {number} scan
 * @property {number} index
 * @property {Changes} of
 * @property {Uint8Array} labels
 * @property {Uint8Array} confidence
 * @property {number} changed
 * @property {Score[]} scores
 * @property {number} ms
 * @property {number[]} errors
 * @property {number[][]} order
 * @property {Plans | null} plans
 */
/**
 * What is changed within the model; see `Interventions` in Python.
 *
 * @typedef {object} Changes
 * @property {number[]} silenced_codes
 * @property {Record<string, number>} replaced_codes
 * @property {number[]} silenced_references
 * @property {string} relation
 * @property {number[]} skips
 * @property {number | null} epsilon
 * @property {number | null} epsilon_receive
 */
/** @typedef {{voxel: number[], code?: number, reference?: number, by?: string}} Selection */

export const STATE = ["scan", "plane", "selection", "overlay", "opacity", "outline", "window", "head", "order", "plan_view", "interventions"];
const SAME_MS = 700; // between changes of one control that are one step back

export class Bench {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    /** @type {Record<string, any>[]} */
    this.past = [];
    /** @type {Record<string, any>[]} */
    this.future = [];
    this.last = { control: "", at: 0 };
    /** @type {any} */
    this.taken = null;
    /** @type {Now | null} */
    this.told = null;
  }

  /** @returns {About} */
  get about() {
    return this.view.model.get("about");
  }

  /** @returns {Selection} */
  get selection() {
    return this.view.model.get("selection");
  }

  /** @returns {Changes} */
  get changes() {
    return this.view.model.get("interventions");
  }

  /** @param {string} name */
  get(name) {
    return this.view.model.get(name);
  }

  /**
   * A published array; a label map of a scan before, which stays published, is none of this scan.
   *
   * @param {string} name
   */
  held(name) {
    return name === "truth" && !this.about.truth ? undefined : this.view.arrays.get(name);
  }

  /** Whether another scan was chosen, and what is here is still of the one before. */
  get opening() {
    return this.about.scan !== this.get("scan");
  }

  /** What Python has said of the slice that is shown; null while it is still at it. */
  get now() {
    const now = this.get("now");
    if (now !== this.taken) {
      this.taken = now;
      this.told = "labels" in now ? this.read(now) : null;
    }
    const fits = this.told && this.told.index === this.selection.voxel[0] && this.told.scan === this.get("scan");
    return fits ? this.told : null;
  }

  /** @param {any} now */
  read(now) {
    const { heads, references, cells } = this.about;
    const floats = (/** @type {string} */ name) => typed(Float32Array, now[name]) ?? new Float32Array();
    const plans = now.names ? {
      names: now.names, rows: typed(Int32Array, now.rows), cells, heads, references,
      source: floats("source"), target: floats("target"), sending: floats("sending"), receiving: floats("receiving"),
      hearing: typed(Float32Array, now.hearing),
    } : null;
    return /** @type {Now} */ ({ ...now, labels: typed(Uint8Array, now.labels), confidence: typed(Uint8Array, now.confidence), plans });
  }

  /** The plans of the slice, if there are any here. */
  get plans() {
    return this.now?.plans ?? null;
  }

  /** The row of the plans that the selected code or pixel has; -1 if there is none. */
  get row() {
    const { plans } = this;
    if (!plans) return -1;
    const { by = "voxel", code } = this.selection;
    if (by === "voxel") return plans.rows[this.token];
    return by === "code" || by === "cell" ? plans.names.indexOf(code ?? -1) : -1;
  }

  /** The reference that is selected; -1 if there is none. */
  get column() {
    const { by, reference = -1 } = this.selection;
    return by === "reference" || by === "cell" ? reference : -1;
  }

  /** The token that the selected voxel lies in. */
  get token() {
    const { cells, shape } = this.about;
    if (!cells) return -1;
    const [, row, column] = this.selection.voxel;
    return Math.floor((row * cells[0]) / shape[1]) * cells[1] + Math.floor((column * cells[1]) / shape[2]);
  }

  /** The token that is selected by its pixel; -1 where something else is. */
  get listener() {
    const { by = "voxel" } = this.selection;
    return by === "voxel" ? this.token : -1;
  }

  /** @param {number} code */
  nameOf(code) {
    const { typical, structures, names } = this.about;
    const marks = structures.find(({ label }) => label === typical[code])?.name ?? "background";
    return names[code] ? `code ${code} “${names[code]}”` : `code ${code} (${marks})`;
  }

  /** @param {number} code */
  colourOf(code) {
    const { typical, structures } = this.about;
    return structures.find(({ label }) => label === typical[code])?.colour ?? "#8c8c8c";
  }

  /**
   * Change some of the state; one can go back, in one step over changes of one `control` that follow each other fast.
   *
   * @param {Record<string, any>} values
   * @param {string} control nothing for a step of its own
   */
  change(values, control = Object.keys(values).join(" ")) {
    const at = performance.now();
    const same = control && control === this.last.control && at - this.last.at < SAME_MS;
    this.last = { control, at };
    if (!same) this.past.push(this.snapshot());
    this.future = [];
    this.view.set(values);
  }

  /**
   * Change keys of the selection; a value of null removes its key.
   *
   * @param {Record<string, any>} keys
   */
  select(keys) {
    const entries = Object.entries({ ...this.selection, ...keys }).filter(([, value]) => value !== null);
    this.change({ selection: Object.fromEntries(entries) });
  }

  /**
   * Change something within the model; a step of its own, but for a slider that is dragged.
   *
   * @param {Partial<Changes>} changes
   * @param {string} slider
   */
  intervene(changes, slider = "") {
    this.change({ interventions: { ...this.changes, ...changes } }, slider);
  }

  /** @param {number[]} voxel */
  point(voxel) {
    this.select({ voxel, by: "voxel", code: null, reference: null });
  }

  snapshot() {
    return Object.fromEntries(STATE.map((name) => [name, this.get(name)]));
  }

  undo() {
    this.travel(this.past, this.future);
  }

  redo() {
    this.travel(this.future, this.past);
  }

  /**
   * @param {Record<string, any>[]} from
   * @param {Record<string, any>[]} to
   */
  travel(from, to) {
    const state = from.pop();
    if (!state) return;
    to.push(this.snapshot());
    this.last.control = "";
    this.view.set(state);
  }
}

/** Whether anything is changed within the model. @param {Changes} changes */
export function interferes(changes) {
  const { silenced_codes: codes, replaced_codes: replaced, silenced_references: references, skips, relation } = changes;
  const some = codes.length + Object.keys(replaced).length + references.length + skips.length > 0;
  return some || relation !== "own" || changes.epsilon != null || changes.epsilon_receive != null;
}
