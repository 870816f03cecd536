// The transport of one image. Python solves and gathers (widgets/transport_explorer.py); this only shows and asks.

import { element, viewer } from "./viewer.js";
import { HEAT_COLOURS, PLAN_COLOURS, brief, choice, drawCells, drawImage, labelColour, outline, panel, position, sharp, typed } from "./drawing.js";

const SLOWEST = -3; // log10 of the smallest epsilon on the slider, and of the largest
const FASTEST = 0.5;
const SIDE = 58; // room for the marginals, in pixels: at the left of the plan
const ROOF = 44; // and above it
const GAP = 4;

export default viewer((view) => {
  const { model, body } = view;
  const get = (name) => model.get(name);
  body.classList.add("l2g-transport");

  // Controls
  const slider = element("input", { type: "range", min: SLOWEST, max: FASTEST, step: 0.01, "aria-label": "epsilon, on a log scale" });
  const epsilonText = element("output", { className: "l2g-number" });
  view.on(slider, "input", () => view.set({ epsilon: Number((10 ** slider.value).toPrecision(3)), exact: false }));
  const kind = choice(view, "plan", [[false, "entropic"], [true, "exact"]], (value) => view.set({ exact: value }));
  const orders = [["usage", "usage"], ["label", "label"], ["clustering", "clustering"]];
  const order = choice(view, "order of rows and columns", orders, (value) => view.set({ order: value }));
  const slices = element("input", { type: "range", min: 0, step: 1, "aria-label": "slice" });
  const sliceText = element("output", { className: "l2g-number" });
  const sliceRow = element("label", {}, "slice", slices, sliceText);
  view.on(slices, "input", () => view.select({ voxel: [Number(slices.value), ...get("selection").voxel.slice(1)] }));
  const save = element("button", { title: "Save plan and image as npz, and what they are as JSON" }, "Export");
  view.on(save, "click", () => view.send("export"));

  // Pictures
  const relation = panel("", "the image, and where the selection lights up", { bar: HEAT_COLOURS });
  const attention = panel("", "the same for softmax attention", { bar: HEAT_COLOURS });
  const plan = panel("transport plan", "transport plan: codes down, references across; arrow keys move", { bar: PLAN_COLOURS });
  const curve = panel("convergence", "marginal error by iteration");
  plan.figure.classList.add("l2g-plan");
  curve.figure.classList.add("l2g-curve");
  const verdict = element("span", { className: "l2g-verdict", role: "status" });
  curve.caption.append(" ", verdict);
  const legend = element("div", { className: "l2g-row l2g-legend" });
  body.append(
    element("div", { className: "l2g-row" }, element("label", {}, "ε", slider, epsilonText), kind.group,
      element("span", { className: "l2g-named" }, "order by", order.group), sliceRow, save),
    element("div", { className: "l2g-grid" }, relation.figure, attention.figure, curve.figure, plan.figure),
    legend,
  );

  // What Python sent last, as typed arrays.
  let problem = {};
  let solved = {};
  let lit = {};
  const take = () => {
    const [p, s, l] = [get("problem"), get("solved"), get("lit")];
    problem = { ...p, rows: typed(Int32Array, p.rows), source: typed(Float32Array, p.source) };
    solved = { ...s, plan: typed(Float32Array, s.plan) };
    lit = { ...l, heat: typed(Float32Array, l.heat), attention: typed(Float32Array, l.attention) };
  };

  const showControls = () => {
    slider.value = Math.log10(get("epsilon"));
    epsilonText.textContent = brief(get("epsilon"));
    kind.show(get("exact"));
    order.show(get("order"));
    order.group.querySelector("[value=label]").disabled = !problem.labels;
    const [D] = problem.images;
    sliceRow.hidden = D < 2;
    slices.max = D - 1;
    slices.value = problem.index;
    sliceText.textContent = `${problem.index + 1} / ${D}`;
    const classes = problem.labels ? problem.classes : [];
    const swatch = (name, i) => element("span", {}, element("i", { style: { background: labelColour(i) } }), name);
    legend.replaceChildren(...(classes.length ? ["colour of a code: the label most above its share", ...classes.map(swatch)] : []));
  };

  // The image with its bottleneck pixels
  const imageBox = (width, height) => {
    const [, H, W] = problem.images;
    const tall = (H / W) * problem.aspect;
    const wide = Math.min(width, height / tall);
    return [(width - wide) / 2, (height - wide * tall) / 2, wide, wide * tall];
  };
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
  const planBox = (width, height) => [SIDE, ROOF, Math.max(1, width - SIDE), Math.max(1, height - ROOF)];
  const drawPlan = () => {
    const { context, width, height } = sharp(plan.canvas);
    const [x, y, w, h] = planBox(width, height);
    const { plan: values, rows, columns, references: R } = solved;
    const K = rows.length;
    const [high, wide] = [h / K, w / R];
    const ordered = new Float32Array(K * R);
    const sums = { row: new Float32Array(K), column: new Float32Array(R) };
    let top = 0;
    for (let i = 0; i < K; i += 1) {
      for (let j = 0; j < R; j += 1) {
        const value = values[rows[i] * R + columns[j]];
        ordered[i * R + j] = value;
        sums.row[i] += value;
        sums.column[j] += value;
        top = Math.max(top, value);
      }
    }
    drawCells(context, ordered, R, K, top, PLAN_COLOURS, [x, y, w, h]);
    plan.top.textContent = `${brief(1000 * top)} ‰ of the image`;
    const quiet = view.colour("--l2g-quiet");
    const bars = (shares, largest, colour, across) => {
      const room = (across ? ROOF : SIDE) - GAP - 2;
      shares.forEach((share, i) => {
        const length = (room * share) / largest;
        context.fillStyle = colour(i);
        if (across) context.fillRect(x + i * wide, y - GAP - length, Math.max(0.6, wide - 0.6), length);
        else context.fillRect(x - GAP - length, y + i * high, length, Math.max(0.6, high - 0.6));
      });
    };
    const largestOf = (shares) => Math.max(...shares, 1e-30);
    const [atRow, atColumn] = [rows.indexOf(lit.row), columns.indexOf(lit.column)];
    const faded = (colour) => `color-mix(in srgb, ${colour} 35%, transparent)`;
    // Beside the marginals, what the selected code sends where, and what the selected reference receives from whom.
    const rowColour = (i) => (problem.labels ? labelColour(problem.labels[rows[i]]) : quiet);
    const share = (i, j) => ordered[i * R + j];
    if (atColumn >= 0) {
      bars(sums.row, largestOf(sums.row), (i) => faded(rowColour(i)), false);
      const received = Array.from(rows, (_, i) => share(i, atColumn));
      bars(received, largestOf(received), rowColour, false);
    } else bars(sums.row, largestOf(sums.row), rowColour, false);
    if (atRow >= 0) {
      bars(sums.column, largestOf(sums.column), () => faded(quiet), true);
      const sent = Array.from(columns, (_, j) => share(atRow, j));
      bars(sent, largestOf(sent), () => view.colour("--l2g-accent"), true);
      outline(context, x, y + atRow * high, w, Math.max(2, high));
    } else bars(sums.column, largestOf(sums.column), () => quiet, true);
    if (atColumn >= 0) outline(context, x + atColumn * wide, y, Math.max(2, wide), h);
    plan.caption.textContent = `${get("exact") ? "exact" : "entropic"} plan: ${K} codes to ${R} references, cost ${solved.cost.toFixed(4)}`;
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
    const last = Math.max(1, points.at(-1)[0]);
    const X = (n) => left + (n / last) * (width - left - right);
    const Y = (e) => roof + ((high - Math.min(high, Math.max(low, Math.log10(e || 1e-30)))) / (high - low)) * (height - roof - floor);
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
    context.arc(X(points.at(-1)[0]), Y(points.at(-1)[1]), 3.5, 0, 2 * Math.PI);
    context.fill();
    context.globalAlpha = 1;
  };

  const draw = () => {
    take();
    showControls();
    drawPlan();
    drawCurve();
    drawImages();
    if (lit.text) view.status(lit.text);
  };

  // Clicks and keys: a pixel, a code, a reference, or a cell of the plan
  const cellAt = (event) => {
    const [px, py] = position(event);
    const { clientWidth, clientHeight } = event.currentTarget;
    const [x, y, w, h] = imageBox(clientWidth, clientHeight);
    const [, H, W] = problem.images;
    const inside = px >= x && py >= y && px < x + w && py < y + h;
    return inside ? [Math.floor(((py - y) / h) * H), Math.floor(((px - x) / w) * W)] : null;
  };
  const selectPixel = ([row, column]) => {
    const [, H, W] = problem.images;
    const [h, w] = problem.cells;
    const code = problem.names[problem.rows[Math.floor((row * h) / H) * w + Math.floor((column * w) / W)]];
    view.select({ voxel: [problem.index, row, column], code, reference: null, by: "voxel" });
  };
  for (const { canvas } of [relation, attention]) {
    view.on(canvas, "click", (event) => {
      const pixel = cellAt(event);
      if (pixel) selectPixel(pixel);
    });
    view.on(canvas, "keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      const [[, H, W], [h, w]] = [problem.images, problem.cells];
      const [row, column] = lit.cell ?? [h >> 1, w >> 1];
      const clamp = (value, size) => Math.max(0, Math.min(size - 1, value));
      const [r, c] = [clamp(row + step[0], h), clamp(column + step[1], w)];
      selectPixel([Math.floor(((r + 0.5) * H) / h), Math.floor(((c + 0.5) * W) / w)]);
    });
  }
  const planAt = (event) => {
    const [px, py] = position(event);
    const [x, y, w, h] = planBox(plan.canvas.clientWidth, plan.canvas.clientHeight);
    const [i, j] = [Math.floor(((py - y) / h) * solved.rows.length), Math.floor(((px - x) / w) * solved.references)];
    return { row: py >= y ? solved.rows[i] : undefined, column: px >= x ? solved.columns[j] : undefined };
  };
  const selectPlan = (row, column) => {
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
    if (parts.length === 2) parts.push(`${brief(1000 * solved.plan[row * solved.references + column])} ‰ of the image go from one to the other`);
    if (parts.length) view.status(parts.join(" · "));
  });
  view.on(plan.canvas, "mouseleave", () => view.status(lit.text ?? ""));
  view.on(plan.canvas, "keydown", (event) => {
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [];
    if (down === undefined) return;
    event.preventDefault();
    const moved = (order, current, step) => order[(order.indexOf(current) + step + order.length) % order.length];
    if (down) selectPlan(moved(solved.rows, lit.row, down), undefined);
    else selectPlan(undefined, moved(solved.columns, lit.column, right));
  });

  // Files come as bytes, so that they reach people who have no access to the kernel's disk.
  const download = view.guard((content, buffers) => {
    if (!content.files) return;
    content.files.forEach((name, i) => {
      const link = element("a", { href: URL.createObjectURL(new Blob([buffers[i]])), download: name });
      link.click();
      URL.revokeObjectURL(link.href);
    });
    view.status(`saved ${content.files.join(" and ")}`);
  });
  model.on("msg:custom", download);
  view.signal.addEventListener("abort", () => model.off("msg:custom", download));

  const redraw = view.eachFrame(draw);
  view.watch(["problem", "solved", "lit", "order", "exact", "epsilon"], redraw);
  view.onArray(redraw);
  view.onLook(body, redraw);
  redraw();
});
