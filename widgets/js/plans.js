// What the plans of a slice say of its tokens. No element and no trait is known here.

/**
 * The plans of one slice: of each head, what every row (a code) sends to each reference, and what it receives.
 *
 * @typedef {object} Plans
 * @property {number[]} names the code of each row
 * @property {Int32Array} rows the row of each token; -1 where it has none
 * @property {number[]} cells rows and columns of tokens
 * @property {number} heads
 * @property {number} references
 * @property {Float32Array} source mass of each row
 * @property {Float32Array} target mass of each reference
 * @property {Float32Array} sending (heads, rows, references)
 * @property {Float32Array} receiving the same; where one plan serves both, the same array
 * @property {Float32Array | null} [hearing] (heads, tokens, references), where each token receives by itself
 */

/**
 * The plan (rows, references) of one head.
 *
 * @param {Plans} plans
 * @param {"sending" | "receiving"} which
 * @param {number} head
 */
export function ofHead({ names, references, ...plans }, which, head) {
  const size = names.length * references;
  return plans[which].subarray(head * size, (head + 1) * size);
}

/**
 * How many tokens each row has.
 *
 * @param {Plans} plans
 */
function tokensOf({ names, rows }) {
  const counts = new Float32Array(names.length);
  for (const row of rows) if (row >= 0) counts[row] += 1;
  return counts;
}

/**
 * How much of a reference's mass comes from each token (or goes there, by the plan of receiving), as times an even
 * share: their mean is 1.
 *
 * @param {Plans} plans
 * @param {"sending" | "receiving"} which
 * @param {number} head
 * @param {number} reference
 */
export function coverage(plans, which, head, reference) {
  const { references: R, rows, hearing } = plans;
  const gain = rows.length / Math.max(plans.target[reference], 1e-30);
  if (which === "receiving" && hearing) {
    return Float32Array.from(rows, (row, token) => gain * hearing[(head * rows.length + token) * R + reference]);
  }
  const plan = ofHead(plans, which, head);
  const counts = tokensOf(plans);
  return Float32Array.from(rows, (row) => (row < 0 ? 0 : (gain * plan[row * R + reference]) / counts[row]));
}

/**
 * The share that each reference has of what a row sends or receives; of what one of its tokens receives, where that is
 * named and receives by itself.
 *
 * @param {Plans} plans
 * @param {"sending" | "receiving"} which
 * @param {number} head
 * @param {number} row
 * @param {number} token
 */
export function shares(plans, which, head, row, token = -1) {
  const { references: R, source, rows, hearing } = plans;
  const byToken = which === "receiving" && token >= 0 && hearing;
  const start = byToken ? (head * rows.length + token) * R : row * R;
  const own = (byToken ? hearing : ofHead(plans, which, head)).subarray(start, start + R);
  const mass = byToken ? own.reduce((sum, each) => sum + each, 0) : source[row];
  return own.map((each) => each / Math.max(mass, 1e-30));
}

/**
 * What a token of `row` takes from each token, as times an even share: a row of N R S T^T, its mean is 1.
 *
 * @param {Plans} plans
 * @param {number} head
 * @param {number} row
 * @param {number} token where it receives by itself; else, and where none is named, it is the mean over those of the row
 */
export function relation(plans, head, row, token = -1) {
  const { references: R, target, names, rows } = plans;
  const [sent, taken] = [ofHead(plans, "sending", head), shares(plans, "receiving", head, row, token)];
  const counts = tokensOf(plans);
  const shown = new Float32Array(names.length);
  for (let from = 0; from < names.length; from += 1) {
    let share = 0;
    for (let r = 0; r < R; r += 1) {
      if (target[r] > 0) share += (taken[r] / target[r]) * sent[from * R + r];
    }
    shown[from] = (share * rows.length) / Math.max(counts[from], 1);
  }
  return Float32Array.from(rows, (from) => (from < 0 ? 0 : shown[from]));
}

/**
 * The references that a row goes to (or takes from) most, with its share; or one of its tokens, as in `shares`.
 *
 * @param {Plans} plans
 * @param {"sending" | "receiving"} which
 * @param {number} head
 * @param {number} row
 * @param {number} most
 * @param {number} token
 */
export function strongest(plans, which, head, row, most, token = -1) {
  return Array.from(shares(plans, which, head, row, token), (share, reference) => ({ reference, share }))
    .sort((a, b) => b.share - a.share)
    .slice(0, most);
}

/**
 * How much a ribbon is part of what is selected, 0 to 1; everything is, a little, where nothing is selected.
 *
 * @param {Plans} plans
 * @param {number} head
 * @param {{by: string, row: number, column: number, token: number}} selected by voxel, code, reference or cell; -1 for none
 * @returns {(row: number, column: number, right: boolean) => number}
 */
export function partsOf(plans, head, { by, row, column, token }) {
  if (by === "cell") return (r, c) => Number(r === row && c === column);
  if (column >= 0) return (_, c) => Number(c === column);
  if (row < 0) return () => 0.25;
  // A pixel hears: back from what it receives. A code sends: on from where its mass goes.
  const back = by === "voxel";
  const own = shares(plans, back ? "receiving" : "sending", head, row, back ? token : -1);
  const most = Math.max(...own, 1e-30);
  return (r, c, right) => (right === back ? Number(r === row) : own[c] / most > 0.15 ? 0.75 * (own[c] / most) : 0);
}

/**
 * Where the matter of a reference lies that was sent to it: its middle, and how far it scatters, both in millimetres
 * along (down, across) once multiplied by the size of a token.
 *
 * @param {Plans} plans
 * @param {number} head
 * @param {number} reference
 * @param {number[]} tokenMm height and width of a token
 * @returns {{row: number, column: number, spreadMm: number}}
 */
export function matter(plans, head, reference, [highMm, wideMm]) {
  const heat = coverage(plans, "sending", head, reference);
  const [, w] = plans.cells;
  let [mass, row, column] = [0, 0, 0];
  heat.forEach((value, i) => {
    mass += value;
    row += value * (Math.floor(i / w) + 0.5);
    column += value * ((i % w) + 0.5);
  });
  if (mass <= 0) return { row: NaN, column: NaN, spreadMm: NaN };
  [row, column] = [row / mass, column / mass];
  let variance = 0;
  heat.forEach((value, i) => {
    const [down, across] = [(Math.floor(i / w) + 0.5 - row) * highMm, ((i % w) + 0.5 - column) * wideMm];
    variance += (value / mass) * (down * down + across * across);
  });
  return { row, column, spreadMm: Math.sqrt(variance) };
}

/**
 * Ribbons between a column of bars and the references: where each starts and how thick it is, as shares of the whole
 * height. Bars are stacked in the given orders; a ribbon leaves its bar below those before it.
 *
 * @param {Float32Array} plan (rows, references)
 * @param {number[]} rows in the order in which they are stacked
 * @param {number[]} columns
 */
export function ribbons(plan, rows, columns) {
  const R = columns.length;
  let total = 0;
  for (const value of plan) total += value;
  const scale = total > 0 ? 1 / total : 0;
  const into = new Float32Array(R);
  /** @type {number[]} */
  const topOf = [];
  let top = 0;
  for (const column of columns) {
    topOf[column] = top;
    for (const row of rows) top += plan[row * R + column] * scale;
  }
  const found = [];
  let at = 0;
  for (const row of rows) {
    for (const column of columns) {
      const thick = plan[row * R + column] * scale;
      if (thick > 0) found.push({ row, column, from: at, to: topOf[column] + into[column], thick });
      into[column] += thick;
      at += thick;
    }
  }
  return found;
}
