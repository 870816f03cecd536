// Sand that moves from one pile to another: touch the piles and epsilon, and see the plan. It needs no kernel.

import { element, viewer } from "./viewer.js";
import { PLAN_COLOURS, brief, cellAt, drawCells, outline, panel, position, sharp } from "./drawing.js";
import { SLIDER, epsilonAt, grains, lineCost, monotone, positionOf, priceOf, shares, sinkhorn } from "./line_transport.js";

/** @typedef {"source" | "target"} Pile */
/** @typedef {{pile: Pile, bin: number}} Place */

const SIDE = 26; // beside the piles, in pixels
const ROOM = 118; // for the tallest bar of each pile
const FLOOR = 20; // below the target, for the angles
const TOP = 1.12; // of the room, as a multiple of the tallest bar
const LEAST = 4e-4; // what a ribbon must carry to be drawn, as a share of the sand
const GRAINS = 220;
const POUR_MS = 4200;
const FLIGHT = 0.34; // of a grain, as a share of the pouring
const REST_MS = 700; // after a change, until the sand moves
const AT_ONCE = 400; // iterations before the next picture

const ORIGINS = [[59, 111, 214], [0, 158, 115], [230, 159, 0], [213, 94, 0]]; // blue, green, orange, red

/**
 * The colour of sand by how much of its pile lies to the left of it, 0 to 1: neighbours stay neighbours, and the whole
 * range is used wherever the pile is.
 *
 * @param {number} quantile
 */
export function originColour(quantile) {
  const at = Math.min(quantile, 1) * (ORIGINS.length - 1);
  const low = Math.min(Math.floor(at), ORIGINS.length - 2);
  const mix = (/** @type {number} */ c) => Math.round(ORIGINS[low][c] + (at - low) * (ORIGINS[low + 1][c] - ORIGINS[low][c]));
  return `rgb(${mix(0)}, ${mix(1)}, ${mix(2)})`;
}

/**
 * How much of the sand has left, how much has arrived, and the grains in the air: [index, share of its way] each.
 *
 * @param {number} t of the pouring, 0 to 1
 * @param {number} count of the grains
 */
export function poured(t, count) {
  const passed = (/** @type {number} */ after) => Math.max(0, Math.min(1, (t - after) / (1 - FLIGHT)));
  /** @type {[number, number][]} */
  const flying = [];
  for (let i = 0; i < count; i += 1) {
    const start = ((i * 0.6180339887) % 1) * (1 - FLIGHT); // spread evenly, in an order that looks like none
    const way = (t - start) / FLIGHT;
    if (way > 0 && way < 1) flying.push([i, way]);
  }
  return { left: passed(0), arrived: passed(FLIGHT), flying };
}

/**
 * Heights with one bar changed: never below nothing, and never without any sand.
 *
 * @param {ArrayLike<number>} heights
 * @param {number} bin
 * @param {number} height
 */
export function raised(heights, bin, height) {
  const changed = Array.from(heights);
  changed[bin] = Math.max(0, height);
  return changed.some((value) => value > 0) ? changed : Array.from(heights);
}

export default viewer((view) => {
  const { model, body } = view;
  body.classList.add("l2g-sand");

  // Controls
  const slider = element("input", { type: "range", ...SLIDER, "aria-label": "epsilon, on a log scale; 0 at the left end" });
  const epsilonText = element("output", { className: "l2g-number" });
  const pour = element("button", { title: "See the sand move again" }, "Pour");
  const figures = element("output", { className: "l2g-quiet" });
  body.append(element("div", { className: "l2g-row" }, element("label", {}, "ε", slider, epsilonText), pour, figures));

  // Pictures
  const flow = element("canvas", { className: "l2g-flow", "aria-hidden": "true" });
  const pile = (/** @type {Pile} */ name, /** @type {string} */ label) =>
    element("canvas", { className: `l2g-${name}`, tabIndex: 0, role: "slider", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 });
  const piles = {
    source: pile("source", "source: share of a bin; left and right choose it, up and down change it"),
    target: pile("target", "target: share of a bin; left and right choose it, up and down change it"),
  };
  const names = [element("span", { className: "l2g-from" }, "source"), element("span", { className: "l2g-to" }, "target")];
  const stage = element("div", { className: "l2g-stage" }, flow, piles.source, piles.target, ...names);
  const matrix = panel("the plan", "the plan as a matrix: source down, target across", PLAN_COLOURS);
  body.append(element("div", { className: "l2g-grid" }, stage, matrix.figure));

  // What is shown: two piles, the plan between them, and how far the sand has come (null: it does not move)
  /** @type {Record<Pile, Float64Array>} */
  let heights = { source: shares(model.get("source")), target: shares(model.get("target")) };
  let cost = lineCost(heights.source.length, heights.target.length);
  /** @type {Float64Array} */
  let plan = new Float64Array(cost.length);
  /** @type {Float64Array | undefined} */
  let potential;
  /** @type {[number, number][]} */
  let ways = [];
  /** @type {string[]} */
  let colours = []; // of the source's bins
  let top = 1; // the share that fills the room; held while a bar is dragged
  let held = false;
  /** @type {Place | null} */
  let picked = null;
  /** @type {number | null} */
  let time = null;

  const solve = () => {
    const [source, target, epsilon] = [shares(heights.source), shares(heights.target), model.get("epsilon")];
    const exact = monotone(source, target);
    const cheapest = `the cheapest plan's ${priceOf(exact, cost).toFixed(4)}`;
    if (epsilon === 0) {
      plan = exact;
      figures.textContent = `cost ${cheapest.replace("the cheapest plan's ", "")}: this is the cheapest plan`;
    } else {
      const solved = sinkhorn(cost, source, target, epsilon, { potential, iterations: AT_ONCE });
      ({ plan, potential } = solved);
      const found = solved.error <= 1e-4;
      figures.textContent = `cost ${priceOf(plan, cost).toFixed(4)}, ${cheapest}${found ? "" : `; still at work, marginal error ${brief(solved.error)}`}`;
      if (!found) refresh(); // it goes on at the next frame, from where it is
    }
    ways = grains(plan, target.length, GRAINS);
    let passed = 0;
    colours = Array.from(source, (share) => originColour((passed += share) - share / 2));
    if (!held) top = TOP * Math.max(...source, ...target);
  };

  // Places on the stage, in pixels
  const wide = () => stage.clientWidth - 2 * SIDE;
  const across = (/** @type {number} */ bin, /** @type {number} */ n) => SIDE + (bin / (n - 1)) * wide();
  const barWidth = (/** @type {number} */ n) => (0.8 * wide()) / (n - 1);
  const tall = (/** @type {number} */ share) => Math.min(1, share / top) * ROOM;
  const floor = () => stage.clientHeight - FLOOR;
  const degrees = (/** @type {number} */ bin, /** @type {number} */ n) => `${Math.round((90 * bin) / (n - 1))}°`;

  const drawSource = (/** @type {number} */ left) => {
    const { context } = sharp(piles.source);
    const n = heights.source.length;
    heights.source.forEach((share, k) => {
      const [x, w, h] = [across(k, n) - barWidth(n) / 2, barWidth(n), tall(share)];
      context.fillStyle = colours[k];
      context.globalAlpha = 0.25;
      context.fillRect(x, ROOM - h, w, h);
      context.globalAlpha = 1;
      context.fillRect(x, ROOM - h * (1 - left), w, h * (1 - left));
    });
    ground(context, ROOM);
    mark(context, "source", ROOM);
  };

  const drawTarget = (/** @type {number} */ arrived) => {
    const { context, height } = sharp(piles.target);
    const [K, R] = [heights.source.length, heights.target.length];
    const base = height - FLOOR;
    const empty = view.colour("--l2g-line");
    heights.target.forEach((share, r) => {
      const [x, w, full] = [across(r, R) - barWidth(R) / 2, barWidth(R), tall(share)];
      context.fillStyle = empty;
      context.globalAlpha = 0.6;
      context.fillRect(x, base - full, w, full);
      context.globalAlpha = 1;
      let column = 0;
      for (let k = 0; k < K; k += 1) column += plan[k * R + r];
      let y = base;
      for (let k = 0; k < K && column > 0; k += 1) {
        const h = (full * arrived * plan[k * R + r]) / column;
        if (h < 0.01) continue;
        context.fillStyle = colours[k];
        context.fillRect(x, y - h, w, h + 0.3);
        y -= h;
      }
    });
    ground(context, base);
    mark(context, "target", base);
    context.fillStyle = view.colour("--l2g-quiet");
    context.font = `11px ${getComputedStyle(body).fontFamily}`;
    context.textAlign = "center";
    for (const angle of [0, 30, 60, 90]) context.fillText(`${angle}°`, SIDE + (angle / 90) * wide(), height - 5);
  };

  const ground = (/** @type {CanvasRenderingContext2D} */ context, /** @type {number} */ y) => {
    context.fillStyle = view.colour("--l2g-quiet");
    context.fillRect(4, y, stage.clientWidth - 8, 1);
  };
  /** @type {(context: CanvasRenderingContext2D, name: Pile, base: number) => void} */
  const mark = (context, name, base) => {
    if (picked?.pile !== name) return;
    const n = heights[name].length;
    const h = Math.max(3, tall(heights[name][picked.bin]));
    outline(context, across(picked.bin, n) - barWidth(n) / 2, base - h, barWidth(n), h);
  };

  const drawFlow = (/** @type {ReturnType<typeof poured> | null} */ now) => {
    const { context } = sharp(flow);
    const [K, R] = [heights.source.length, heights.target.length];
    const [source, target] = [shares(heights.source), shares(heights.target)];
    const scale = Math.min(barWidth(K) / Math.max(...source), barWidth(R) / Math.max(...target)); // pixels a share
    const taken = target.map((share) => -share / 2);
    for (let k = 0; k < K; k += 1) {
      let given = -source[k] / 2;
      context.strokeStyle = colours[k];
      for (let r = 0; r < R; r += 1) {
        const mass = plan[k * R + r];
        const [from, to] = [across(k, K) + (given + mass / 2) * scale, across(r, R) + (taken[r] + mass / 2) * scale];
        given += mass;
        taken[r] += mass;
        if (mass < LEAST) continue;
        const chosen = picked === null || picked.bin === (picked.pile === "source" ? k : r);
        context.globalAlpha = now ? 0.16 : chosen ? 0.55 : 0.1;
        context.lineWidth = Math.max(0.7, mass * scale);
        const end = floor() - tall(heights.target[r]);
        const middle = (ROOM + end) / 2;
        context.beginPath();
        context.moveTo(from, ROOM + 1);
        context.bezierCurveTo(from, middle, to, middle, to, end);
        context.stroke();
      }
    }
    context.globalAlpha = 1;
    for (const [i, way] of now?.flying ?? []) {
      const [k, r] = ways[i];
      const eased = way * way * (3 - 2 * way);
      const x = across(k, K) + eased * (across(r, R) - across(k, K));
      const end = floor() - tall(heights.target[r]) * (now?.arrived ?? 1);
      context.fillStyle = colours[k];
      context.beginPath();
      context.arc(x, ROOM + way * (end - ROOM), 2.6, 0, 2 * Math.PI);
      context.fill();
    }
  };

  const drawMatrix = () => {
    const { context, width, height } = sharp(matrix.canvas);
    const [K, R] = [heights.source.length, heights.target.length];
    const most = Math.max(...plan);
    drawCells(context, Float32Array.from(plan), R, K, most, PLAN_COLOURS, [0, 0, width, height]);
    matrix.top.textContent = `${brief(100 * most)} % of the sand`;
    if (picked?.pile === "source") outline(context, 0, (picked.bin * height) / K, width, height / K);
    if (picked?.pile === "target") outline(context, (picked.bin * width) / R, 0, width / R, height);
  };

  const draw = () => {
    const now = time === null ? null : poured(time, ways.length);
    drawSource(now?.left ?? 0);
    drawTarget(now?.arrived ?? 1);
    drawFlow(now);
  };
  const redraw = view.eachFrame(draw);
  const refresh = view.eachFrame(() => {
    solve();
    slider.value = String(positionOf(model.get("epsilon")));
    epsilonText.textContent = model.get("epsilon") === 0 ? "0: exact" : brief(model.get("epsilon"));
    drawMatrix();
    draw();
  });

  // The sand moves once after each change
  let began = 0;
  /** @type {number | undefined} */
  let soon;
  const step = (/** @type {number} */ now) => {
    if (view.signal.aborted || time === null) return;
    time = Math.max(0, (now - began) / POUR_MS);
    if (time >= 1) time = null;
    else requestAnimationFrame(step);
    draw();
  };
  const start = () => {
    const moving = time !== null;
    began = performance.now();
    time = 0;
    if (!moving) requestAnimationFrame(step);
  };
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const rest = () => {
    clearTimeout(soon);
    time = null;
    if (!still.matches) soon = setTimeout(view.guard(() => held || start()), REST_MS);
  };
  view.signal.addEventListener("abort", () => clearTimeout(soon));
  view.on(pour, "click", () => (clearTimeout(soon), start()));

  view.on(slider, "input", () => view.set({ epsilon: epsilonAt(Number(slider.value)) }));

  const say = (/** @type {Place} */ { pile, bin }) => {
    const share = `${brief(100 * shares(heights[pile])[bin])} %`;
    const canvas = piles[pile];
    canvas.setAttribute("aria-valuenow", String(100 * shares(heights[pile])[bin]));
    canvas.setAttribute("aria-valuetext", `${degrees(bin, heights[pile].length)}: ${share} of the sand`);
    view.status(`${pile}, ${canvas.getAttribute("aria-valuetext")}`);
  };
  const pick = (/** @type {Place | null} */ place) => {
    picked = place;
    if (place) say(place);
    drawMatrix();
    redraw();
  };
  /** @type {(name: Pile, bin: number, height: number) => void} */
  const change = (name, bin, height) => {
    heights[name] = Float64Array.from(raised(heights[name], bin, height));
    view.set({ [name]: Array.from(shares(heights[name])) });
    pick({ pile: name, bin });
  };

  for (const name of /** @type {Pile[]} */ (["source", "target"])) {
    const canvas = piles[name];
    /** @type {(event: PointerEvent) => {bin: number, height: number}} */
    const at = (event) => {
      const [x, y] = position(event);
      const n = heights[name].length;
      const bin = Math.max(0, Math.min(n - 1, Math.round(((x - SIDE) / wide()) * (n - 1))));
      const base = name === "source" ? ROOM : canvas.clientHeight - FLOOR;
      return { bin, height: Math.max(0, Math.min(1, (base - y) / ROOM)) * top };
    };
    let last = -1; // the bin that was touched before, so that a quick stroke leaves none out
    view.on(canvas, "pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      held = true;
      const { bin, height } = at(event);
      last = bin;
      change(name, bin, height);
    });
    view.on(canvas, "pointermove", (event) => {
      const { bin, height } = at(event);
      if (!held) return void pick({ pile: name, bin });
      const way = Math.sign(bin - last);
      for (; last !== bin; last += way) heights[name] = Float64Array.from(raised(heights[name], last + way, height));
      change(name, bin, height);
    });
    const release = () => {
      if (!held) return;
      held = false;
      heights[name] = shares(heights[name]);
      rest();
      refresh();
    };
    view.on(canvas, "pointerup", release);
    view.on(canvas, "pointercancel", release);
    view.on(canvas, "pointerleave", () => held || pick(null));
    view.on(canvas, "focus", () => canvas.matches(":focus-visible") && pick({ pile: name, bin: picked?.bin ?? 0 }));
    view.on(canvas, "blur", () => pick(null));
    view.on(canvas, "keydown", (event) => {
      const [side, up] = [{ ArrowLeft: -1, ArrowRight: 1 }[event.key], { ArrowDown: -1, ArrowUp: 1 }[event.key]];
      if (side === undefined && up === undefined) return;
      event.preventDefault();
      const n = heights[name].length;
      const bin = Math.max(0, Math.min(n - 1, (picked?.bin ?? 0) + (side ?? 0)));
      if (up === undefined) return void pick({ pile: name, bin });
      change(name, bin, heights[name][bin] + (up * top) / 40);
      heights[name] = shares(heights[name]);
    });
  }
  view.on(matrix.canvas, "pointermove", (event) => {
    const [K, R] = [heights.source.length, heights.target.length];
    const [k, r] = cellAt(position(event), [0, 0, matrix.canvas.clientWidth, matrix.canvas.clientHeight], K, R);
    if (k < 0 || r < 0 || k >= K || r >= R) return;
    view.status(`from ${degrees(k, K)} to ${degrees(r, R)}: ${brief(100 * plan[k * R + r])} % of the sand, each grain at ${brief(cost[k * R + r])}`);
  });

  view.watch(["source", "target", "epsilon"], () => {
    if (!held) {
      heights = { source: shares(model.get("source")), target: shares(model.get("target")) };
      if (heights.source.length * heights.target.length !== cost.length) potential = undefined;
      cost = lineCost(heights.source.length, heights.target.length);
    }
    rest();
    refresh();
  });
  view.onLook(body, refresh);
  refresh();
  rest();
});
