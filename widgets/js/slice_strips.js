// Below the slices: a slider, a player, and strips that show the area of the structures and the Dice of each map.

import { element, pen, sum } from "./viewer.js";
import { known, stepped } from "./slices.js";

/** @import { SliceState } from "./slice_state.js" */

const THUMB = 14; // as in slice_viewer.css
const STRIP_HEIGHT = 22;
const SPEEDS = [2, 5, 10, 20]; // slices a second

/** @param {SliceState} state */
export function sliceStrips(state) {
  const { view, shape, maps, arrays } = state;
  const slider = element("input", { type: "range", className: "l2g-slider", min: 0, max: shape[0] - 1, step: 1 });
  slider.setAttribute("aria-label", "slice");
  const number = element("output", { className: "l2g-number", title: "slices and voxels are counted from 1 here, from 0 in Python" });
  view.on(slider, "keydown", (event) => {
    const to = stepped(event.key, state.voxel[0], shape[0]);
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    state.move(0, to);
  });
  view.on(slider, "input", () => state.move(0, Number(slider.value)));
  const player = slicePlayer(state);
  const strips = (maps.length ? ["area", ...maps.slice(1)] : []).map((name) => {
    const canvas = element("canvas", { className: "l2g-strip", height: STRIP_HEIGHT });
    view.on(canvas, "pointerdown", (event) => {
      const { left, width } = canvas.getBoundingClientRect();
      state.move(0, Math.round(((event.clientX - left - THUMB / 2) / (width - THUMB)) * (shape[0] - 1)));
    });
    return { name, canvas, value: element("output", { className: "l2g-number" }), title: name === "area" ? "area" : `Dice, ${name}` };
  });
  const rows = element("div", { className: "l2g-scroll" }, player.element, slider, number);
  for (const { canvas, value, title } of strips) rows.append(element("span", { title }, title), canvas, value);

  /** @type {Map<string, {of: unknown[], values: number[]}>} */
  const held = new Map();
  /** The value of a strip on every slice, over the visible structures; NaN where there is none. */
  function valuesOf(/** @type {string} */ name) {
    const array = arrays.get(name === "area" ? "areas" : `dice of ${name}`);
    if (!array || array.rows < shape[0]) return null;
    const { visible } = state;
    const last = held.get(name);
    if (last && last.of[0] === array && last.of[1] === visible) return last.values;
    const [, row, column] = state.about.spacing_mm;
    const values = known(array, visible).map((each) =>
      name === "area" ? (sum(each) * row * column) / 100 : sum(each) / each.length,
    );
    held.set(name, { of: [array, visible], values });
    return values;
  }

  function draw() {
    const d = state.voxel[0];
    const [here, elsewhere] = [view.colour("--l2g-accent"), view.colour("--l2g-bar")];
    slider.value = String(d);
    slider.setAttribute("aria-valuetext", `slice ${d + 1} of ${shape[0]}`);
    number.textContent = `${d + 1} / ${shape[0]}`;
    for (const { name, canvas, value } of strips) {
      const values = valuesOf(name);
      if (!values) continue;
      const now = values[d];
      value.textContent = name === "area" ? `${now.toFixed(1)} cm²` : Number.isNaN(now) ? "–" : now.toFixed(3);
      const most = name === "area" ? Math.max(...values, 1e-9) : 1;
      const [width, height] = [Math.round(canvas.clientWidth * devicePixelRatio), STRIP_HEIGHT * devicePixelRatio];
      canvas.width = width;
      canvas.height = height;
      const context = pen(canvas);
      const margin = (THUMB / 2) * devicePixelRatio;
      const step = (width - 2 * margin) / Math.max(shape[0] - 1, 1);
      const bar = Math.min(Math.max(step * 0.7, 1), 2 * margin);
      values.forEach((share, slice) => {
        if (Number.isNaN(share)) return;
        const tall = Math.max((share / most) * (height - 2), share > 0 || name !== "area" ? 1 : 0);
        context.fillStyle = slice === d ? here : elsewhere;
        context.fillRect(margin + slice * step - bar / 2, height - tall, bar, tall);
      });
    }
  }

  return { element: rows, draw, player };
}

/**
 * Steps through the slices by itself, as fast as is chosen, once or round and round.
 *
 * @param {SliceState} state
 */
function slicePlayer(state) {
  const { view, shape } = state;
  let speed = 5;
  let loop = true;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const play = element("button", { className: "l2g-icon" });
  const round = element("button", { className: "l2g-icon", "aria-label": "loop" }, "↻");
  const pace = element("select", { title: "Slices a second ( < and > )", "aria-label": "slices a second" });
  pace.append(...SPEEDS.map((each) => element("option", { value: String(each) }, `${each} / s`)));
  const show = () => {
    play.textContent = timer ? "❚❚" : "▶";
    play.title = `${timer ? "Stop" : "Play the slices"} (space)`;
    play.setAttribute("aria-label", timer ? "stop" : "play");
    round.title = `${loop ? "Stop at the last slice" : "Begin again after the last slice"} (l)`;
    round.setAttribute("aria-pressed", String(loop));
    pace.value = String(speed);
  };
  const stop = () => {
    clearTimeout(timer);
    timer = undefined;
    show();
  };
  const step = view.guard(() => {
    const next = state.voxel[0] + 1;
    if (next >= shape[0] && !loop) return stop();
    state.move(0, next % shape[0]);
    timer = setTimeout(step, 1000 / speed);
    return undefined;
  });
  const toggle = () => {
    if (timer) return stop();
    if (state.voxel[0] === shape[0] - 1) state.move(0, 0);
    timer = setTimeout(step, 1000 / speed);
    return show();
  };
  const toggleLoop = () => {
    loop = !loop;
    show();
  };
  /** @param {number} way */
  const change = (way) => {
    speed = SPEEDS[Math.min(Math.max(SPEEDS.indexOf(speed) + way, 0), SPEEDS.length - 1)];
    show();
  };
  view.on(play, "click", toggle);
  view.on(round, "click", toggleLoop);
  view.on(pace, "change", () => change(SPEEDS.indexOf(Number(pace.value)) - SPEEDS.indexOf(speed)));
  view.signal.addEventListener("abort", stop);
  show();
  return { element: element("span", { className: "l2g-player" }, "slice", play, round, pace), toggle, toggleLoop, change };
}
