// Transport between two piles of sand on a line, computed in the browser: no kernel is needed.
//
// Places are directions between 0° and 90°, and moving a grain by an angle costs (1 - cos)/2, as from a code to a
// reference. That cost is convex in the angle, and so the cheapest plan is known in closed form.

const LEAST_MASS = 1e-300; // mass of a column that is too little for a number: its potential still rises

/** @typedef {Float64Array} Plan K x R, row by row */
/**
 * A plan, the potential that makes it, and how far it can be trusted.
 *
 * @typedef {object} Solution
 * @property {Plan} plan
 * @property {Float64Array} potential of the target, -Infinity where it takes nothing
 * @property {number} error L1 distance of the column sums from the target
 * @property {number} iterations
 */

/**
 * The places of n bins, in radians.
 *
 * @param {number} n
 */
export const places = (n) => Float64Array.from({ length: n }, (_, i) => ((i / (n - 1)) * Math.PI) / 2);

/**
 * What it costs to move one unit of mass from each of K places to each of R.
 *
 * @param {number} K
 * @param {number} R
 */
export function lineCost(K, R) {
  const [from, to] = [places(K), places(R)];
  return Float64Array.from({ length: K * R }, (_, i) => (1 - Math.cos(from[Math.floor(i / R)] - to[i % R])) / 2);
}

/**
 * Heights as shares of their sum.
 *
 * @param {ArrayLike<number>} heights
 */
export function shares(heights) {
  const all = Float64Array.from(heights);
  const total = all.reduce((sum, height) => sum + height, 0);
  return all.map((height) => height / total);
}

/**
 * The cheapest plan, which keeps the order: the first grain of the source goes to the first place with room, and so on.
 *
 * @param {ArrayLike<number>} source
 * @param {ArrayLike<number>} target
 * @returns {Plan}
 */
export function monotone(source, target) {
  const plan = new Float64Array(source.length * target.length);
  let [k, r] = [0, 0];
  let [left, room] = [source[0], target[0]];
  while (k < source.length && r < target.length) {
    const moved = Math.min(left, room);
    plan[k * target.length + r] += moved;
    [left, room] = [left - moved, room - moved];
    if (left <= room) left = source[(k += 1)];
    else room = target[(r += 1)];
  }
  return plan;
}

/**
 * The entropic plan by Sinkhorn's iterations on logarithms, from a potential that is already near if there is one.
 *
 * Rows are exact by construction: T_kr = a_k softmax_r((g_r - C_kr) / epsilon). The iterations make the columns so.
 *
 * @param {Float64Array} cost
 * @param {Float64Array} source
 * @param {Float64Array} target
 * @param {number} epsilon
 * @param {{potential?: Float64Array, iterations?: number, tolerance?: number}} options
 * @returns {Solution}
 */
export function sinkhorn(cost, source, target, epsilon, { potential, iterations: most = 5000, tolerance = 1e-4 } = {}) {
  const [K, R] = [source.length, target.length];
  // A bin that was empty until now has no potential to start from.
  const g = target.map((c, r) => (c === 0 ? -Infinity : Number.isFinite(potential?.[r]) ? Number(potential?.[r]) : 0));
  const plan = new Float64Array(K * R);
  const columns = new Float64Array(R);
  for (let iterations = 0; ; iterations += 1) {
    columns.fill(0);
    for (let k = 0; k < K; k += 1) {
      const row = k * R;
      let [best, total] = [-Infinity, 0];
      for (let r = 0; r < R; r += 1) best = Math.max(best, (plan[row + r] = (g[r] - cost[row + r]) / epsilon));
      for (let r = 0; r < R; r += 1) total += plan[row + r] = Math.exp(plan[row + r] - best);
      for (let r = 0; r < R; r += 1) columns[r] += plan[row + r] *= source[k] / total;
    }
    const error = columns.reduce((sum, column, r) => sum + Math.abs(column - target[r]), 0);
    if (error <= tolerance || iterations >= most) return { plan, potential: g, error, iterations };
    for (let r = 0; r < R; r += 1) if (target[r] > 0) g[r] += epsilon * Math.log(target[r] / Math.max(columns[r], LEAST_MASS));
  }
}

/**
 * What a plan costs: <T, C>.
 *
 * @param {Plan} plan
 * @param {Float64Array} cost
 */
export const priceOf = (plan, cost) => plan.reduce((sum, mass, i) => sum + mass * cost[i], 0);

/**
 * The ways of `count` grains, [from, to] each: as many take a way as its share of the plan, to a grain.
 *
 * @param {Plan} plan
 * @param {number} R
 * @param {number} count
 * @returns {[from: number, to: number][]}
 */
export function grains(plan, R, count) {
  /** @type {[number, number][]} */
  const ways = [];
  let passed = 0;
  plan.forEach((mass, i) => {
    passed += mass;
    while (ways.length < count && (ways.length + 0.5) / count < passed) ways.push([Math.floor(i / R), i % R]);
  });
  return ways;
}

const EXACT = -3.1; // where the slider says 0, just beyond the smallest epsilon
export const SLIDER = { min: EXACT, max: 0.5, step: 0.1 };

/**
 * The epsilon of a slider's position, and back: logarithms, with 0 at its left end.
 *
 * @param {number} position
 */
export const epsilonAt = (position) => (position < EXACT + 0.05 ? 0 : Number((10 ** position).toPrecision(3)));
/** @param {number} epsilon */
export const positionOf = (epsilon) => (epsilon === 0 ? EXACT : Math.min(SLIDER.max, Math.max(EXACT + SLIDER.step, Math.log10(epsilon))));
