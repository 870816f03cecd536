// Where a plane lies on a canvas, zoomed and panned. No element is known here.

import { fitted } from "./drawing.js";

/** @import { Box } from "./drawing.js" */
/**
 * How a plane is looked at: zoom 1 shows all of it; `centre` lies in the middle, in shares of its height and width.
 *
 * @typedef {{zoom: number, centre: number[]}} Look
 */
/** @typedef {[width: number, height: number, tall: number]} Room a canvas, and the plane's height for each of its width */

const MOST_ZOOM = 40;

/** @type {Look} */
export const WHOLE = { zoom: 1, centre: [0.5, 0.5] };

/**
 * The box of the whole plane on the canvas, most of it outside when it is zoomed.
 *
 * @param {Look} look
 * @param {Room} room
 * @returns {Box}
 */
export function boxOf({ zoom, centre: [down, across] }, [width, height, tall]) {
  const [, , wide, high] = fitted(width, height, tall).map((length) => zoom * length);
  return [width / 2 - across * wide, height / 2 - down * high, wide, high];
}

/**
 * The look after a change of zoom by `factor`; what is at `point` stays there.
 *
 * @param {Look} look
 * @param {Room} room
 * @param {number} factor
 * @param {number[]} point
 */
export function zoomed(look, room, factor, [x, y]) {
  const zoom = Math.min(Math.max(look.zoom * factor, 1), MOST_ZOOM);
  const [left, top, wide, high] = boxOf(look, room);
  const grown = zoom / look.zoom;
  const middle = [room[1] / 2 - y, room[0] / 2 - x];
  const centre = [((y - top) * grown + middle[0]) / (high * grown), ((x - left) * grown + middle[1]) / (wide * grown)];
  return kept({ zoom, centre }, room);
}

/**
 * The look after a drag by `dx` and `dy`.
 *
 * @param {Look} look
 * @param {Room} room
 * @param {number} dx
 * @param {number} dy
 */
export function panned({ zoom, centre: [down, across] }, room, dx, dy) {
  const [, , wide, high] = boxOf({ zoom, centre: [down, across] }, room);
  return kept({ zoom, centre: [down - dy / high, across - dx / wide] }, room);
}

/**
 * The look with the plane in the middle where it is smaller than the canvas, and without a gap where it is larger.
 *
 * @param {Look} look
 * @param {Room} room
 * @returns {Look}
 */
function kept({ zoom, centre }, room) {
  const [, , wide, high] = boxOf({ zoom, centre }, room);
  const halves = [room[1] / high / 2, room[0] / wide / 2];
  return { zoom, centre: centre.map((at, i) => (halves[i] >= 0.5 ? 0.5 : Math.min(Math.max(at, halves[i]), 1 - halves[i]))) };
}
