// Below the slices: players with their sliders, and strips of the area of the structures and the Dice of each map.

import { element, pen, sum } from "./viewer.js";
import { playerOf } from "./player.js";
import { area, known, stepped } from "./slices.js";

/** @import { Reel } from "./player.js" */
/** @import { SliceState } from "./slice_state.js" */

const THUMB = 14; // as in slice_viewer.css
const STRIP_HEIGHT = 22;

/** @param {SliceState} state */
export function sliceStrips(state) {
  const { view, shape, maps, arrays } = state;
  const cine = state.moments > 1;
  const slices = sliderOf(state, {
    what: "slice",
    count: () => shape[0],
    at: () => state.voxel[0],
    go: (index) => state.move(0, index),
    isHere: () => true,
  }, !cine);
  const moments = sliderOf(state, {
    what: "moment",
    count: () => state.moments,
    at: () => state.moment,
    go: (moment) => state.goTo(moment),
    isHere: (moment) => state.isHere(moment),
  }, cine);
  const strips = (maps.length ? ["area", ...maps.slice(1)] : []).map((name) => {
    const title = name === "area" ? "area" : `Dice, ${name}`;
    const canvas = element("canvas", { className: "l2g-strip", height: STRIP_HEIGHT, role: "img", "aria-label": `${title} of each slice` });
    view.on(canvas, "pointerdown", (event) => {
      const { left, width } = canvas.getBoundingClientRect();
      state.move(0, Math.round(((event.clientX - left - THUMB / 2) / (width - THUMB)) * (shape[0] - 1)));
    });
    return { name, canvas, value: element("output", { className: "l2g-number" }), title };
  });
  const rows = element("div", { className: "l2g-scroll" }, ...(cine ? moments.row : []), ...slices.row);
  for (const { canvas, value, title } of strips) rows.append(element("span", { title }, title), canvas, value);

  const nameOf = (/** @type {string} */ name) => (name === "area" ? "areas" : `dice of ${name}`);
  /** @type {Map<string, {of: unknown[], values: number[]}>} */
  const held = new Map();
  /** The value of a strip on every slice, over the visible structures, pixels or Dice; NaN where there is none. */
  function valuesOf(/** @type {string} */ name) {
    const array = arrays.get(nameOf(name));
    if (!array || array.rows < array.shape[0]) return null;
    const { visible, moment } = state;
    const last = held.get(name);
    if (last && last.of[0] === array && last.of[1] === visible && last.of[2] === moment) return last.values;
    const values = known(state.part(nameOf(name)) ?? array, visible).map((each) =>
      name === "area" ? sum(each) : sum(each) / each.length,
    );
    held.set(name, { of: [array, visible, moment], values });
    return values;
  }

  function draw() {
    const d = state.voxel[0];
    const [here, elsewhere] = [view.colour("--l2g-accent"), view.colour("--l2g-bar")];
    for (const { show } of [slices, moments]) show();
    for (const { name, canvas, value } of strips) {
      const values = valuesOf(name);
      if (!values) continue;
      const now = values[d];
      value.textContent = name === "area" ? area(now, state.about.spacing_mm, state.about.unit) : Number.isNaN(now) ? "–" : now.toFixed(3);
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

  return { element: rows, draw, player: (cine ? moments : slices).player };
}

/**
 * A player, a slider and a number in one row.
 *
 * @param {SliceState} state
 * @param {Reel} reel
 * @param {boolean} keys
 */
function sliderOf({ view }, reel, keys) {
  const { what, at, go } = reel;
  const count = reel.count();
  const slider = element("input", { type: "range", className: "l2g-slider", min: 0, max: count - 1, step: 1, "aria-label": what });
  const number = element("output", { className: "l2g-number", title: `${what}s are counted from 1 here, from 0 in Python` });
  view.on(slider, "keydown", (event) => {
    const to = stepped(event.key, at(), count);
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    go(to);
  });
  view.on(slider, "input", () => go(Number(slider.value)));
  const player = playerOf(view, reel, keys);
  const show = () => {
    slider.value = String(at());
    slider.setAttribute("aria-valuetext", `${what} ${at() + 1} of ${count}`);
    number.textContent = `${at() + 1} / ${count}`;
  };
  return { row: [player.element, slider, number], player, show };
}
