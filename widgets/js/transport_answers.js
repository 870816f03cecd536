// What TransportExplorer lights without Python, from plans that were solved when the page was saved.

import { bytesOf, descending, numbers, percent, pointed } from "./answers.js";
import { coverage, relation } from "./plans.js";

/** @import { Saved } from "./page.js" */
/** @typedef {{epsilon: number, solved: Record<string, any>, orders: Record<string, object>}} Solution rows and columns by order */
/**
 * With the plan that receives, a row for each token, as `hearing` where tokens receive.
 *
 * @typedef {{problem: Record<string, any>, target: DataView, tokens: DataView | null, sides: Record<string, Solution>, hearing?: DataView}} Slice
 */
/** @typedef {{row: number, column: number, cell: number[] | null, title: string, text: string, unit: string}} Words */

/**
 * The three largest shares in words.
 *
 * @param {Float64Array} masses
 * @param {string} kind
 * @param {number[] | null} names
 */
function largest(masses, kind, names = null) {
  const total = Math.max(masses.reduce((sum, mass) => sum + mass, 0), 1e-30);
  const shares = descending(masses).slice(0, 3).map((i) => `${names ? names[i] : i} (${percent(masses[i] / total)})`);
  return `${kind}s ${shares.join(", ")}`;
}

/** The plans of a slice, and what follows from them (l2gnet/inspection/image_transport.py). */
export class Plans {
  /** @param {Slice} slice */
  constructor({ problem, target, tokens, sides, hearing }) {
    this.names = problem.names;
    this.cells = problem.cells;
    this.K = problem.names.length;
    this.target = numbers(Float32Array, target);
    this.references = this.target.length;
    this.source = numbers(Float32Array, problem.source);
    /** @type {Int32Array | null} */
    this.rows = problem.rows && numbers(Int32Array, problem.rows);
    this.tokens = tokens && numbers(Float32Array, tokens);
    /** @type {Record<string, Float32Array>} */
    this.plan = {};
    for (const [side, { solved }] of Object.entries(sides)) this.plan[side] = numbers(Float32Array, solved.plan);
    const { sends, receives } = this.plan; // where one plan serves both, it is the only one
    this.sending = sends ?? receives;
    this.receiving = receives ?? sends;
    this.hearing = hearing ? numbers(Float32Array, hearing) : null;
    this.N = this.rows?.length ?? 0;
    this.pixels = new Float64Array(this.K); // of each row
    this.rows?.forEach((/** @type {number} */ row) => (this.pixels[row] += 1));
  }

  /** The same as plans of one head, for a slice whose pixels have rows. */
  get onTokens() {
    const { names, rows, cells, references, source, target, sending, receiving, hearing } = this;
    return { names, rows: /** @type {Int32Array} */ (rows), cells, heads: 1, references, source, target, sending, receiving, hearing };
  }

  /**
   * The masses of a row, or of a column, of a plan; of the row of one of its tokens, where that is named and receives.
   *
   * @param {string} side
   * @param {number} row
   * @param {number} token
   */
  row(side, row, token = -1) {
    const [plan, at] = side === "receives" && token >= 0 && this.hearing ? [this.hearing, token] : [this.plan[side], row];
    return Float64Array.from({ length: this.references }, (_, r) => plan[at * this.references + r]);
  }

  /**
   * @param {string} side
   * @param {number} column
   */
  column(side, column) {
    return Float64Array.from({ length: this.K }, (_, k) => this.plan[side][k * this.references + column]);
  }

  /**
   * A value of each row, at the pixels that have it.
   *
   * @param {(row: number) => number} value
   */
  atPixels(value) {
    if (!this.rows) return null;
    const values = Float64Array.from({ length: this.K }, (_, k) => value(k));
    return Float32Array.from(this.rows, (row) => values[row]);
  }

  /**
   * What softmax attention gives it, times an even share.
   *
   * @param {number} row
   */
  attention(row) {
    const { tokens } = this;
    if (!tokens) return null;
    const d = tokens.length / this.K;
    const scores = Float64Array.from({ length: this.K }, (_, k) => {
      let sum = 0;
      for (let i = 0; i < d; i += 1) sum += tokens[k * d + i] * tokens[row * d + i];
      return sum / Math.sqrt(d);
    });
    const top = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - top));
    const total = weights.reduce((sum, weight, k) => sum + weight * this.pixels[k], 0);
    return this.atPixels((k) => (this.N * weights[k]) / total);
  }
}

/**
 * @param {Saved} model
 * @param {{slices: Slice[]}} data
 */
export default (model, { slices }) => {
  const [, H, W] = slices[0].problem.images;
  let { index } = model.get("problem");
  let plans = new Plans(slices[index]);
  const voxelNow = () => model.get("selection").voxel ?? [index, H >> 1, W >> 1];

  function show() {
    const { sides, problem } = slices[index];
    const { epsilon, solved, orders } = sides[model.get("side")];
    model.set("problem", problem);
    model.set("epsilon", epsilon);
    model.set("solved", { ...solved, ...(orders[model.get("order")] ?? orders.usage) });
  }

  /** As TransportExplorer._light does. */
  function light() {
    const { selection, side } = model.traits;
    const { code, reference } = selection;
    /** @type {Words} */
    const lit = { row: -1, column: -1, cell: null, title: "", text: "", unit: "" };
    /** @type {Float32Array | null} */
    let heat = null;
    /** @type {Float32Array | null} */
    let attention = null;
    if (pointed(selection) === "voxel") {
      if (plans.rows) {
        const [h, w] = slices[index].problem.cells;
        const [, y, x] = voxelNow();
        const [row, column] = [Math.floor((y * h) / H), Math.floor((x * w) / W)];
        lit.cell = [row, column];
        const token = row * w + column;
        const at = (lit.row = plans.rows[token]);
        [heat, attention] = [relation(plans.onTokens, 0, at, token), plans.attention(at)];
        const pixel = `pixel (${row + 1}, ${column + 1})`;
        Object.assign(lit, { title: `${pixel} takes from`, unit: "× an even share" });
        lit.text = `${pixel} has code ${plans.names[at]}; ${largest(plans.row(side, at, token), "reference")}`;
      }
    } else {
      const row = (lit.row = plans.names.indexOf(code));
      if (reference !== undefined && pointed(selection) === "reference") {
        lit.column = reference;
        heat = plans.rows && coverage(plans.onTokens, side === "receives" ? "receiving" : "sending", 0, reference);
        const word = side === "receives" ? "is heard by" : "receives from";
        Object.assign(lit, { title: `reference ${reference} ${word}`, unit: "× an even share" });
        lit.text = `reference ${reference}: ${largest(plans.column(side, reference), "code", plans.names)}`;
      } else if (row < 0) lit.text = `code ${code} does not fire in this slice`;
      else {
        heat = plans.atPixels((k) => Number(k === row));
        Object.assign(lit, { title: `code ${code} fires at`, unit: "(fires)" });
        lit.text = `code ${code}, ${percent(plans.source[row], 1)} of the image: ${largest(plans.row(side, row), "reference")}`;
      }
    }
    const top = Math.max(0, ...(heat ?? []), ...(attention ?? []));
    model.set("lit", { ...lit, top, heat: heat && bytesOf(heat), attention: attention && bytesOf(attention) });
  }

  return {
    changed(/** @type {string[]} */ names) {
      const [d] = voxelNow();
      if (!slices[d]) throw new Error(`slice must lie in 0..${slices.length - 1}, got ${d}`);
      if (d !== index) plans = new Plans(slices[(index = d)]);
      if (names.some((name) => ["selection", "side", "order"].includes(name))) {
        show();
        light();
      }
    },
  };
};
