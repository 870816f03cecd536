// The transport of one image. Python solves and gathers (widgets/transport_explorer.py); this only shows and asks.

import { element, viewer } from "./viewer.js";
import { HEAT_COLOURS, PLAN_COLOURS, WAYS, brief, cellAt, cellOf, choice, drawCells, drawImage, fitted } from "./drawing.js";
import { itself, labelColour, neighbour, outline, panel, pixelBeside, position, sharp, typed } from "./drawing.js";
import { fileFetcher } from "./files.js";

/** @import { Box } from "./drawing.js" */
/**
 * The slice and its codes; without bottleneck pixels `rows` is null.
 *
 * @typedef {object} Problem
 * @property {number[]} images
 * @property {number} index
 * @property {number[]} cells
 * @property {number} aspect
 * @property {Int32Array | null} rows the row of each bottleneck pixel in the plan
 * @property {Float32Array} source
 * @property {number[]} names of the codes
 * @property {number[] | null} labels of the codes
 * @property {string[]} classes
 * @property {boolean} tokens
 * @property {boolean} two whether there is another plan, to receive by
 */
/**
 * Its plan, and how the solver came there.
 *
 * @typedef {object} Solved
 * @property {Float32Array} plan
 * @property {number} references
 * @property {number[]} rows in the order in which they are shown
 * @property {number[]} columns
 * @property {[iteration: number, error: number][]} curve
 * @property {number} cost
 * @property {number} marginal_error
 * @property {number} iterations
 * @property {boolean} converged
 * @property {number} tolerance
 */
/**
 * What is selected: -1 and null stand for nothing.
 *
 * @typedef {object} Lit
 * @property {number} row
 * @property {number} column
 * @property {number[] | null} cell
 * @property {Float32Array | null} heat
 * @property {Float32Array | null} attention
 * @property {number} top
 * @property {string} unit
 * @property {string} title
 * @property {string} text
 */

const SLOWEST = -3; // log10 of the smallest epsilon on the slider, and of the largest
const FASTEST = 0.5;
const SIDE = 58; // room for the marginals, in pixels: at the left of the plan
const ROOF = 44; // and above it
const GAP = 4;

/**
 * The plan in the order in which it is shown, with the sums and the largest of its cells.
 *
 * @param {Pick<Solved, "plan" | "rows" | "columns" | "references">} solved
 */
export function arranged({ plan, rows, columns, references: R }) {
  const values = new Float32Array(rows.length * R);
  const [sent, received] = [new Float32Array(rows.length), new Float32Array(R)];
  let top = 0;
  rows.forEach((row, i) => {
    columns.forEach((column, j) => {
      const value = plan[row * R + column];
      values[i * R + j] = value;
      sent[i] += value;
      received[j] += value;
      top = Math.max(top, value);
    });
  });
  return { values, sent, received, top };
}

export default viewer((view) => {
  const { model, body } = view;
  const get = (/** @type {string} */ name) => model.get(name);
  body.classList.add("l2g-transport");

  // Controls
  const slider = element("input", { type: "range", min: SLOWEST, max: FASTEST, step: 0.01, "aria-label": "epsilon, on a log scale", "data-needs-python": "" });
  const epsilonText = element("output", { className: "l2g-number" });
  view.on(slider, "input", () => view.set({ epsilon: Number((10 ** Number(slider.value)).toPrecision(3)), exact: false }));
  const kind = choice(view, "plan", [[false, "entropic"], [true, "exact"]], (exact) => view.set({ exact }));
  for (const button of kind.buttons) button.dataset.needsPython = "";
  const side = choice(view, "which plan", ["sends", "receives"].map(itself), (side) => view.set({ side }));
  const sides = element("span", { className: "l2g-named" }, "a code", side.group);
  const orders = ["usage", "label", "clustering"].map(itself);
  const order = choice(view, "order of rows and columns", orders, (order) => view.set({ order }));
  const slices = element("input", { type: "range", min: 0, step: 1, "aria-label": "slice" });
  const sliceText = element("output", { className: "l2g-number" });
  const sliceRow = element("label", {}, "slice", slices, sliceText);
  view.on(slices, "input", () => view.select({ voxel: [Number(slices.value), ...view.voxelIn(problem.images).slice(1)] }));
  const save = element("button", { title: "Save plan and image as npz, and what they are as JSON", "data-needs-python": "" }, "Export");
  const fetchFiles = fileFetcher(view); // as bytes, so that they reach people who have no access to the kernel's disk
  view.on(save, "click", () => fetchFiles("export"));

  // Pictures
  const relation = panel("", "the image, and where the selection lights up", HEAT_COLOURS);
  const attention = panel("", "the same for softmax attention", HEAT_COLOURS);
  const plan = panel("transport plan", "transport plan: codes down, references across; arrow keys move", PLAN_COLOURS);
  const curve = panel("convergence", "marginal error by iteration");
  plan.figure.classList.add("l2g-plan");
  curve.figure.classList.add("l2g-curve");
  const verdict = element("span", { className: "l2g-verdict", role: "status" });
  curve.caption.append(" ", verdict);
  const legend = element("div", { className: "l2g-row l2g-legend" });
  body.append(
    element("div", { className: "l2g-row" }, sides, element("label", {}, "ε", slider, epsilonText), kind.group,
      element("span", { className: "l2g-named" }, "order by", order.group), sliceRow, save),
    element("div", { className: "l2g-grid" }, relation.figure, attention.figure, curve.figure, plan.figure),
    legend,
  );

  // What Python sent last, as typed arrays.
  const take = () => {
    const [problem, solved, lit] = [get("problem"), get("solved"), get("lit")];
    const [rows, source] = [typed(Int32Array, problem.rows), typed(Float32Array, problem.source)];
    const [heat, attention] = [typed(Float32Array, lit.heat), typed(Float32Array, lit.attention)];
    return {
      problem: /** @type {Problem} */ ({ ...problem, rows, source }),
      solved: /** @type {Solved} */ ({ ...solved, plan: typed(Float32Array, solved.plan) }),
      lit: /** @type {Lit} */ ({ ...lit, heat, attention }),
    };
  };
  let { problem, solved, lit } = take();

  const showControls = () => {
    slider.value = String(Math.log10(get("epsilon")));
    epsilonText.textContent = brief(get("epsilon"));
    kind.show(get("exact"));
    sides.hidden = !problem.two;
    side.show(get("side"));
    order.show(get("order"));
    order.buttons[1].disabled = !problem.labels;
    const [D] = problem.images;
    sliceRow.hidden = D < 2;
    slices.max = String(D - 1);
    slices.value = String(problem.index);
    sliceText.textContent = `${problem.index + 1} / ${D}`;
    const classes = problem.labels ? problem.classes : [];
    const swatch = (/** @type {string} */ name, /** @type {number} */ i) =>
      element("span", {}, element("i", { style: { background: labelColour(i) } }), name);
    legend.replaceChildren(...(classes.length ? ["colour of a code: the label most above its share", ...classes.map(swatch)] : []));
  };

  // The image with its bottleneck pixels
  const imageBox = (/** @type {number} */ width, /** @type {number} */ height) => {
    const [, H, W] = problem.images;
    return fitted(width, height, (H / W) * problem.aspect);
  };
  /**
   * @param {ReturnType<typeof panel>} panel
   * @param {Float32Array | null} heat
   * @param {string} title
   */
  const drawHeat = ({ canvas, figure, caption, scale, top }, heat, title) => {
    const withImage = problem.rows !== null;
    figure.hidden = !withImage;
    if (!withImage) return;
    const [, H, W] = problem.images;
    canvas.style.aspectRatio = `${W} / ${H * problem.aspect}`;
    const { context, width, height } = sharp(canvas);
    const box = imageBox(width, height);
    const volume = view.arrays.get("images");
    const { index } = problem;
    if (volume?.known[index]) drawImage(context, volume.data.subarray(index * H * W, (index + 1) * H * W), W, H, box);
    const [h, w] = problem.cells;
    if (heat) drawCells(context, heat, w, h, lit.top, HEAT_COLOURS, box);
    scale.style.visibility = heat ? "visible" : "hidden";
    top.textContent = heat ? `${brief(lit.top)} ${lit.unit}` : "";
    if (lit.cell) {
      const [row, column] = lit.cell;
      outline(context, box[0] + (column * box[2]) / w, box[1] + (row * box[3]) / h, box[2] / w, box[3] / h);
    }
    caption.textContent = title;
    caption.title = title;
  };
  const drawImages = () => {
    drawHeat(relation, lit.heat, lit.title || "click a pixel, a code or a reference");
    drawHeat(attention, lit.attention, lit.attention ? "softmax attention, same tokens" : "softmax attention: click a pixel");
    attention.figure.hidden ||= !problem.tokens;
  };

  // The plan with its marginals
  /** @type {(width: number, height: number) => Box} */
  const planBox = (width, height) => [SIDE, ROOF, Math.max(1, width - SIDE), Math.max(1, height - ROOF)];
  const drawPlan = () => {
    const { context, width, height } = sharp(plan.canvas);
    const [x, y, w, h] = planBox(width, height);
    const { rows, columns, references: R } = solved;
    const K = rows.length;
    const [high, wide] = [h / K, w / R];
    const { values, sent, received, top } = arranged(solved);
    drawCells(context, values, R, K, top, PLAN_COLOURS, [x, y, w, h]);
    plan.top.textContent = `${brief(1000 * top)} ‰ of the image`;
    const quiet = view.colour("--l2g-quiet");
    /**
     * @param {Float32Array} shares
     * @param {(i: number) => string} colour
     * @param {boolean} across
     */
    const bars = (shares, colour, across) => {
      const largest = Math.max(...shares, 1e-30);
      const room = (across ? ROOF : SIDE) - GAP - 2;
      shares.forEach((share, i) => {
        const length = (room * share) / largest;
        context.fillStyle = colour(i);
        if (across) context.fillRect(x + i * wide, y - GAP - length, Math.max(0.6, wide - 0.6), length);
        else context.fillRect(x - GAP - length, y + i * high, length, Math.max(0.6, high - 0.6));
      });
    };
    const [atRow, atColumn] = [rows.indexOf(lit.row), columns.indexOf(lit.column)];
    const faded = (/** @type {string} */ colour) => `color-mix(in srgb, ${colour} 35%, transparent)`;
    // Beside the marginals, what the selected code sends where, and what the selected reference receives from whom.
    const rowColour = (/** @type {number} */ i) => (problem.labels ? labelColour(problem.labels[rows[i]]) : quiet);
    if (atColumn >= 0) {
      bars(sent, (i) => faded(rowColour(i)), false);
      bars(Float32Array.from(rows, (_, i) => values[i * R + atColumn]), rowColour, false);
    } else bars(sent, rowColour, false);
    if (atRow >= 0) {
      bars(received, () => faded(quiet), true);
      bars(values.subarray(atRow * R, (atRow + 1) * R), () => view.colour("--l2g-accent"), true);
      outline(context, x, y + atRow * high, w, Math.max(2, high));
    } else bars(received, () => quiet, true);
    if (atColumn >= 0) outline(context, x + atColumn * wide, y, Math.max(2, wide), h);
    const way = get("side") === "receives" ? `${K} codes from ${R} references` : `${K} codes to ${R} references`;
    plan.caption.textContent = `${get("exact") ? "exact" : "entropic"} plan: ${way}, cost ${solved.cost.toFixed(4)}`;
  };

  // The convergence curve: always there, red when the plan cannot be trusted
  const drawCurve = () => {
    const { converged, marginal_error: error, iterations, tolerance, curve: points } = solved;
    const exact = get("exact");
    verdict.className = `l2g-verdict ${converged ? "l2g-good" : "l2g-bad"}`;
    verdict.textContent = exact
      ? `exact, marginal error ${brief(error)}`
      : `${converged ? "converged" : "NOT converged"}: marginal error ${brief(error)} after ${iterations} iterations`;
    const { context, width, height } = sharp(curve.canvas);
    const [left, right, roof, floor] = [44, 10, 8, 26];
    const [low, high] = [Math.floor(Math.log10(tolerance)) - 1, 0];
    const end = points[points.length - 1];
    const last = Math.max(1, end[0]);
    const X = (/** @type {number} */ n) => left + (n / last) * (width - left - right);
    const Y = (/** @type {number} */ e) => roof + ((high - Math.min(high, Math.max(low, Math.log10(e || 1e-30)))) / (high - low)) * (height - roof - floor);
    const [text, line] = [view.colour("--l2g-quiet"), view.colour("--l2g-line")];
    context.font = `11px ${getComputedStyle(body).fontFamily}`;
    context.fillStyle = text;
    context.strokeStyle = line;
    context.lineWidth = 1;
    context.textBaseline = "middle";
    for (let power = low; power <= high; power += 1) {
      const y = Math.round(Y(10 ** power)) + 0.5;
      context.beginPath();
      context.moveTo(left, y);
      context.lineTo(width - right, y);
      context.stroke();
      context.textAlign = "right";
      context.fillText(power === 0 ? "1" : `1e${power}`, left - 6, y);
    }
    context.textBaseline = "alphabetic";
    context.textAlign = "center";
    context.fillText("0", left, height - 10);
    context.fillText("iteration", (left + width - right) / 2, height - 10);
    context.textAlign = "right";
    context.fillText(String(last), width - right, height - 10);
    const ink = view.colour(converged ? "--l2g-good" : "--l2g-alarm");
    context.strokeStyle = text;
    context.setLineDash([4, 4]);
    context.beginPath();
    context.moveTo(left, Y(tolerance));
    context.lineTo(width - right, Y(tolerance));
    context.stroke();
    context.setLineDash([]);
    context.fillText("tolerance", width - right - 2, Y(tolerance) - 5);
    context.globalAlpha = exact ? 0.35 : 1;
    context.strokeStyle = ink;
    context.fillStyle = ink;
    context.lineWidth = 2;
    context.beginPath();
    for (const [n, e] of points) context.lineTo(X(n), Y(e));
    context.stroke();
    context.beginPath();
    context.arc(X(end[0]), Y(end[1]), 3.5, 0, 2 * Math.PI);
    context.fill();
    context.globalAlpha = 1;
  };

  const draw = () => {
    ({ problem, solved, lit } = take());
    showControls();
    drawPlan();
    drawCurve();
    drawImages();
    if (lit.text) view.status(lit.text);
  };

  // Clicks and keys: a pixel, a code, a reference, or a cell of the plan
  const selectPixel = (/** @type {number[]} */ [row, column]) => {
    if (!problem.rows) return;
    const [r, c] = cellOf([row, column], problem.images.slice(1), problem.cells);
    const code = problem.names[problem.rows[r * problem.cells[1] + c]];
    view.select({ voxel: [problem.index, row, column], code, reference: null, by: "voxel" });
  };
  for (const { canvas } of [relation, attention]) {
    view.on(canvas, "click", (event) => {
      const [, H, W] = problem.images;
      const [row, column] = cellAt(position(event), imageBox(canvas.clientWidth, canvas.clientHeight), H, W);
      if (row >= 0 && row < H && column >= 0 && column < W) selectPixel([row, column]);
    });
    view.on(canvas, "keydown", (event) => {
      const step = WAYS[event.key];
      if (!step) return;
      event.preventDefault();
      const { images, cells } = problem;
      selectPixel(pixelBeside(lit.cell ?? cells.map((n) => n >> 1), step, images.slice(1), cells));
    });
  }
  /** @type {(event: MouseEvent) => {row?: number, column?: number}} */
  const planAt = (event) => {
    const box = planBox(plan.canvas.clientWidth, plan.canvas.clientHeight);
    const [i, j] = cellAt(position(event), box, solved.rows.length, solved.references);
    return { row: solved.rows[i], column: solved.columns[j] }; // undefined over the marginals
  };
  const selectPlan = (/** @type {number | undefined} */ row, /** @type {number | undefined} */ column) => {
    const by = column === undefined ? "code" : "reference";
    view.select({ code: row === undefined ? null : problem.names[row], reference: column ?? null, by });
  };
  view.on(plan.canvas, "click", (event) => {
    const { row, column } = planAt(event);
    if (row !== undefined || column !== undefined) selectPlan(row, column);
  });
  view.on(plan.canvas, "mousemove", (event) => {
    const { row, column } = planAt(event);
    const parts = [];
    if (row !== undefined) parts.push(`code ${problem.names[row]}: ${(100 * problem.source[row]).toFixed(1)} % of the image`);
    if (column !== undefined) parts.push(`reference ${column}`);
    if (row !== undefined && column !== undefined) parts.push(`${brief(1000 * solved.plan[row * solved.references + column])} ‰ of the image go from one to the other`);
    if (parts.length) view.status(parts.join(" · "));
  });
  view.on(plan.canvas, "mouseleave", () => view.status(lit.text ?? ""));
  view.on(plan.canvas, "keydown", (event) => {
    const way = WAYS[event.key];
    if (!way) return;
    event.preventDefault();
    const [down, right] = way;
    if (down) selectPlan(neighbour(solved.rows, lit.row, down), undefined);
    else selectPlan(undefined, neighbour(solved.columns, lit.column, right));
  });

  const redraw = view.eachFrame(draw);
  view.watch(["problem", "solved", "lit", "order", "exact", "epsilon", "side"], redraw);
  view.onArray(redraw);
  view.onLook(body, redraw);
  redraw();
});
