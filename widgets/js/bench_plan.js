// The plans of a slice: mass that flows from codes to references and on to codes, or the two matrices.

import { element } from "./viewer.js";
import { PLAN_COLOURS, brief, drawCells, outline, percent, permille, position, sharp } from "./drawing.js";
import { ofHead, partsOf, ribbons, strongest } from "./plans.js";

/** @import { Bench } from "./bench_state.js" */
/** @import { Box } from "./drawing.js" */
/** @import { Plans } from "./plans.js" */
/** @typedef {{box: Box, keys: Record<string, any>, text: string}} Spot a place to click, and what it is */
/** @typedef {{row: number, column: number, from: number, to: number, thick: number, right: boolean, weight: number}} Drawn */

const [ROOF, FLOOR, SIDE, BAR, BOX] = [34, 18, 26, 9, 34];
const MOVING_MS = 1400;
const MOST_MOVING = 40;

/** @param {Bench} bench */
export function planPanel(bench) {
  const { view } = bench;
  const canvas = element("canvas", { tabIndex: 0, role: "img", "aria-label": "the plans: codes, references, codes" });
  const hint = element("div", { className: "l2g-hint", hidden: true });
  const note = element("div", { className: "l2g-bench-note" });
  const verdict = element("div", { className: "l2g-quiet l2g-bench-verdict", role: "status" });
  const box = element("div", { className: "l2g-bench-plan" }, canvas, hint, note);
  /** @type {Spot[]} */
  let spots = [];
  /** @type {{path: Path2D, ribbon: Drawn}[]} */
  let drawn = [];
  let moved = -Infinity;

  /** @type {(plans: Plans, row: number) => string} */
  const wordsOfRow = (plans, row) => {
    const { two } = bench.about;
    const head = bench.get("head");
    const list = (/** @type {"sending" | "receiving"} */ which) =>
      strongest(plans, which, head, row, 3).map(({ reference, share }) => `r${reference} ${percent(share)}`).join(", ");
    const code = plans.names[row];
    const start = `${bench.nameOf(code)}: ${percent(plans.source[row])} of the slice's tokens`;
    return two ? `${start}\nsends to ${list("sending")}\nhears from ${list("receiving")}` : `${start}\nshares with ${list("sending")}`;
  };
  /** @type {(plans: Plans, column: number) => string} */
  const wordsOfColumn = (plans, column) => {
    const plan = ofHead(plans, "sending", bench.get("head"));
    const R = plans.references;
    const from = plans.names
      .map((code, row) => ({ code, share: plan[row * R + column] / Math.max(plans.target[column], 1e-30) }))
      .sort((a, b) => b.share - a.share)
      .slice(0, 3);
    const words = from.map(({ code, share }) => `${bench.nameOf(code)} ${percent(share)}`).join("\n");
    return `reference ${column} gathers ${percent(plans.target[column])} of the mass, most from\n${words}`;
  };

  /** @type {(context: CanvasRenderingContext2D, width: number, height: number, plans: Plans, order: number[][]) => void} */
  const drawFlow = (context, width, height, plans, [rows, columns]) => {
    const tall = height - ROOF - FLOOR;
    const Y = (/** @type {number} */ share) => ROOF + share * tall;
    const [left, middle, right] = [SIDE, (width - BOX) / 2, width - SIDE - BAR];
    const head = bench.get("head");
    const { by = "voxel" } = bench.selection;
    const weight = partsOf(plans, head, { by, row: bench.row, column: bench.column, token: bench.token });
    const quiet = view.colour("--l2g-quiet");
    /** @type {Drawn[]} */
    const all = [];
    for (const side of [false, true]) {
      const plan = ofHead(plans, side ? "receiving" : "sending", head);
      for (const ribbon of ribbons(plan, rows, columns)) {
        all.push({ ...ribbon, right: side, weight: weight(ribbon.row, ribbon.column, side) });
      }
    }
    all.sort((a, b) => a.weight - b.weight);
    drawn = [];
    for (const ribbon of all) {
      if (ribbon.thick * tall < 0.12) continue;
      const path = ribbonPath(ribbon, [left + BAR, middle, middle + BOX, right], Y);
      context.fillStyle = bench.colourOf(plans.names[ribbon.row]);
      context.globalAlpha = 0.05 + 0.8 * ribbon.weight;
      context.fill(path);
      drawn.push({ path, ribbon });
    }
    context.globalAlpha = 1;
    let top = 0;
    for (const row of rows) {
      const share = plans.source[row];
      const colour = bench.colourOf(plans.names[row]);
      for (const x of [left, right]) {
        const spot = /** @type {Box} */ ([x, Y(top), BAR, Math.max(1, share * tall)]);
        context.fillStyle = colour;
        context.fillRect(...spot);
        spots.push({ box: [x - 14, spot[1], BAR + 28, spot[3]], keys: { by: "code", code: plans.names[row], reference: null }, text: wordsOfRow(plans, row) });
        if (row === bench.row) outline(context, ...spot);
      }
      if (share * tall > 10) {
        context.fillStyle = quiet;
        context.font = `10px ${getComputedStyle(view.body).fontFamily}`;
        context.textBaseline = "middle";
        context.textAlign = "right";
        context.fillText(String(plans.names[row]), left - 3, Y(top + share / 2));
        context.textAlign = "left";
        context.fillText(String(plans.names[row]), right + BAR + 3, Y(top + share / 2));
      }
      top += share;
    }
    top = 0;
    for (const column of columns) {
      const share = plans.target[column];
      const spot = /** @type {Box} */ ([middle, Y(top) + 0.5, BOX, Math.max(1, share * tall - 1)]);
      context.fillStyle = view.colour("--l2g-panel");
      context.fillRect(...spot);
      context.strokeStyle = view.colour("--l2g-line");
      context.lineWidth = 1;
      context.strokeRect(...spot);
      if (column === bench.column) outline(context, ...spot);
      if (share * tall > 10) {
        context.fillStyle = view.colour("--l2g-text");
        context.font = `11px ${getComputedStyle(view.body).fontFamily}`;
        context.textBaseline = "middle";
        context.textAlign = "center";
        context.fillText(`r${column}`, middle + BOX / 2, Y(top + share / 2));
      }
      spots.push({ box: spot, keys: { by: "reference", reference: column, code: null }, text: wordsOfColumn(plans, column) });
      top += share;
    }
    const words = bench.about.two ? ["codes send", width > 310 ? "references" : "", receivers(plans)] : ["codes", "references", "codes"];
    titles(context, words, [left, middle + BOX / 2, right + BAR], 13, quiet);
    drawMoving(context, [left + BAR, middle, middle + BOX, right], Y);
  };

  /** @type {(context: CanvasRenderingContext2D, xs: number[], Y: (share: number) => number) => void} */
  const drawMoving = (context, xs, Y) => {
    const t = (performance.now() - moved) / MOVING_MS;
    if (t >= 1) return;
    const moving = drawn.filter(({ ribbon }) => ribbon.weight > 0.3).sort((a, b) => b.ribbon.thick - a.ribbon.thick);
    context.fillStyle = view.colour("--l2g-text");
    for (const { ribbon } of moving.slice(0, MOST_MOVING)) {
      const along = 2 * t - Number(ribbon.right);
      if (along < 0 || along > 1) continue;
      const [x, y] = alongRibbon(ribbon, xs, Y, along);
      context.beginPath();
      context.arc(x, y, 2.6, 0, 2 * Math.PI);
      context.fill();
    }
    requestAnimationFrame(() => view.signal.aborted || draw());
  };

  /** @type {(context: CanvasRenderingContext2D, width: number, height: number, plans: Plans, order: number[][]) => void} */
  const drawMatrices = (context, width, height, plans, [rows, columns]) => {
    const { two } = bench.about;
    const R = columns.length;
    const sides = two ? /** @type {const} */ (["sending", "receiving"]) : /** @type {const} */ (["sending"]);
    const gap = 26;
    const wide = (width - SIDE - 8 - gap * (sides.length - 1)) / sides.length;
    const [roof, tall] = [ROOF + 22, height - ROOF - 22 - FLOOR];
    const [cellWide, cellTall] = [wide / R, tall / Math.max(rows.length, 1)];
    const quiet = view.colour("--l2g-quiet");
    sides.forEach((which, n) => {
      const plan = ofHead(plans, which, bench.get("head"));
      const x = SIDE + n * (wide + gap);
      const values = new Float32Array(rows.length * R);
      let top = 0;
      rows.forEach((row, i) => columns.forEach((column, j) => {
        values[i * R + j] = plan[row * R + column];
        top = Math.max(top, values[i * R + j]);
      }));
      drawCells(context, values, R, rows.length, top, PLAN_COLOURS, [x, roof, wide, tall]);
      rows.forEach((row, i) => {
        if (n === 0) {
          const long = (SIDE - 6) * (plans.source[row] / Math.max(...plans.source, 1e-30));
          context.fillStyle = bench.colourOf(plans.names[row]);
          context.fillRect(x - 3 - long, roof + i * cellTall, long, Math.max(0.7, cellTall - 0.5));
          spots.push({ box: [0, roof + i * cellTall, SIDE - 2, cellTall], keys: { by: "code", code: plans.names[row], reference: null }, text: wordsOfRow(plans, row) });
        }
        columns.forEach((column, j) => {
          const share = plan[row * R + column];
          const words = `${bench.nameOf(plans.names[row])} ${which === "sending" ? "→" : "←"} reference ${column}\n${permille(share)} of the slice's mass, ${percent(share / Math.max(plans.source[row], 1e-30))} of the code's`;
          const keys = { by: "cell", code: plans.names[row], reference: column };
          spots.push({ box: [x + j * cellWide, roof + i * cellTall, cellWide, cellTall], keys, text: words });
        });
      });
      const most = Math.max(...plans.target, 1e-30);
      columns.forEach((column, j) => {
        const high = 18 * (plans.target[column] / most);
        context.fillStyle = quiet;
        context.fillRect(x + j * cellWide + 0.5, roof - 3 - high, Math.max(1, cellWide - 1), high);
        spots.push({ box: [x + j * cellWide, ROOF - 6, cellWide, 26], keys: { by: "reference", reference: column, code: null }, text: wordsOfColumn(plans, column) });
      });
      const [atRow, atColumn] = [rows.indexOf(bench.row), columns.indexOf(bench.column)];
      if (atRow >= 0 && atColumn >= 0) outline(context, x + atColumn * cellWide, roof + atRow * cellTall, cellWide, Math.max(3, cellTall));
      else if (atRow >= 0) outline(context, x, roof + atRow * cellTall, wide, Math.max(3, cellTall));
      else if (atColumn >= 0) outline(context, x + atColumn * cellWide, roof, cellWide, tall);
      const what = !two ? "codes and references share" : which === "sending" ? "codes send" : receivers(plans);
      titles(context, [wide > 180 ? `${what} up to ${permille(top)}` : what], [x + wide / 2], 13, quiet);
      titles(context, [`${R} references →`], [x + wide / 2], height - 5, quiet);
    });
    context.save();
    context.translate(9, roof + tall / 2);
    context.rotate(-Math.PI / 2);
    titles(context, [`${rows.length} codes →`], [0], 0, quiet);
    context.restore();
  };

  const draw = () => {
    const { context, width, height } = sharp(canvas);
    spots = [];
    drawn = [];
    const { now, plans } = bench;
    note.textContent = bench.about.missing || (plans ? "" : now ? "Without the relation there are no plans." : "solving …");
    canvas.style.visibility = plans ? "visible" : "hidden";
    verdict.textContent = "";
    if (!plans || !now) return;
    if (bench.get("plan_view") === "flow") drawFlow(context, width, height, plans, now.order);
    else drawMatrices(context, width, height, plans, now.order);
    const worst = Math.max(...now.errors);
    verdict.textContent = `${plans.names.length} codes · marginal error ${brief(worst)} ${worst <= 1e-3 ? "(converged)" : "(NOT converged)"}`;
  };

  const animate = () => {
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) moved = performance.now();
    draw();
  };

  const spotAt = (/** @type {number[]} */ [x, y]) => {
    return spots.find(({ box: [left, top, wide, high] }) => x >= left && x < left + wide && y >= top && y < top + high);
  };
  view.on(canvas, "click", (event) => {
    const at = position(event);
    const spot = spotAt(at) ?? ribbonAt(at);
    if (spot) bench.select(spot.keys);
  });
  const ribbonAt = (/** @type {number[]} */ [x, y]) => {
    const ratio = window.devicePixelRatio || 1;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const { plans } = bench;
    const found = drawn.findLast(({ path }) => context.isPointInPath(path, x * ratio, y * ratio));
    if (!found || !plans) return undefined;
    const { row, column, right, thick } = found.ribbon;
    const code = plans.names[row];
    const way = right ? `reference ${column} → ${bench.nameOf(code)}` : `${bench.nameOf(code)} → reference ${column}`;
    return { keys: { by: "cell", code, reference: column }, text: `${way}\n${permille(thick)} of the slice's mass` };
  };
  view.on(canvas, "pointermove", (event) => {
    const at = position(event);
    const spot = spotAt(at) ?? ribbonAt(at);
    hint.hidden = !spot;
    if (!spot) return;
    hint.textContent = spot.text;
    const [x, y] = at;
    const toLeft = x > canvas.clientWidth / 2;
    Object.assign(hint.style, {
      left: toLeft ? "" : `${x + 14}px`,
      right: toLeft ? `${box.clientWidth - x + 14}px` : "",
      top: `${Math.min(y + 10, canvas.clientHeight - 70)}px`,
    });
  });
  view.on(canvas, "pointerleave", () => (hint.hidden = true));
  view.on(canvas, "keydown", (event) => {
    const { now, plans } = bench;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const aside = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!now || !plans || (!step && !aside)) return;
    event.preventDefault();
    const [rows, columns] = now.order;
    const near = (/** @type {number[]} */ list, /** @type {number} */ at, /** @type {number} */ by) => list[(list.indexOf(at) + by + list.length) % list.length];
    if (step) bench.select({ by: "code", code: plans.names[near(rows, bench.row, step)], reference: null });
    else bench.select({ by: "reference", reference: near(columns, bench.column, aside ?? 0), code: null });
  });
  return { element: box, verdict, draw, animate };
}

/** @type {(plans: Plans) => string} */
const receivers = (plans) => plans.hearing ? "tokens receive" : "codes receive";

/**
 * @param {CanvasRenderingContext2D} context
 * @param {string[]} words
 * @param {number[]} xs
 * @param {number} y
 * @param {string} colour
 */
function titles(context, words, xs, y, colour) {
  context.fillStyle = colour;
  context.font = `600 11px ${getComputedStyle(context.canvas).fontFamily}`;
  context.textBaseline = "alphabetic";
  words.forEach((word, i) => {
    context.textAlign = words.length === 1 || i === 1 ? "center" : i === 0 ? "left" : "right";
    context.fillText(word, xs[i], y);
  });
}

/**
 * Where a ribbon begins and ends.
 *
 * @param {Drawn} ribbon
 * @param {number[]} xs
 */
function ends({ right, from, to }, xs) {
  return right ? { x0: xs[2], x1: xs[3], y0: to, y1: from } : { x0: xs[0], x1: xs[1], y0: from, y1: to };
}

/**
 * @param {Drawn} ribbon
 * @param {number[]} xs
 * @param {(share: number) => number} Y
 */
function ribbonPath(ribbon, xs, Y) {
  const { x0, x1, y0, y1 } = ends(ribbon, xs);
  const bend = (x0 + x1) / 2;
  const path = new Path2D();
  path.moveTo(x0, Y(y0));
  path.bezierCurveTo(bend, Y(y0), bend, Y(y1), x1, Y(y1));
  path.lineTo(x1, Y(y1 + ribbon.thick));
  path.bezierCurveTo(bend, Y(y1 + ribbon.thick), bend, Y(y0 + ribbon.thick), x0, Y(y0 + ribbon.thick));
  path.closePath();
  return path;
}

/**
 * A point along the middle of a ribbon, t from 0 to 1.
 *
 * @param {Drawn} ribbon
 * @param {number[]} xs
 * @param {(share: number) => number} Y
 * @param {number} t
 */
function alongRibbon(ribbon, xs, Y, t) {
  const { x0, x1, y0, y1 } = ends(ribbon, xs);
  const bend = (x0 + x1) / 2;
  const [a, b] = [Y(y0 + ribbon.thick / 2), Y(y1 + ribbon.thick / 2)];
  const curve = (/** @type {number[]} */ [p, q, r, s]) => (1 - t) ** 3 * p + 3 * (1 - t) ** 2 * t * q + 3 * (1 - t) * t * t * r + t ** 3 * s;
  return [curve([x0, bend, bend, x1]), curve([a, a, b, b])];
}
