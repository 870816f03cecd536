// A pane: one slice of a volume on a canvas, with all that a hand does on it. It knows no trait and keeps no state but
// how it is looked at: what it shows it asks for, what is done it tells, and whoever owns it draws it anew.
//
//   const pane = new Pane(view, new Cut(plane, shape), spacingMm, "axial", {
//     now: () => ({ voxel, window, tool: "window" }), // asked at each drawing and each press
//     paint: (context, box, ratio) => { ... }, // the slice into the box, which may be larger than the canvas
//     onPoint: (voxel) => { ... }, // clicked, or reached by the crosshair
//     onSlice: (index) => { ... }, // by wheel or key
//     onWindow: (window) => { ... }, // by a drag
//     onRuler: (ends) => { ... }, // two places [d, h, w], or null
//     onHover: (voxel) => { ... }, // null when the pointer leaves
//     onView: (look) => { ... }, // zoomed or panned; `pane.see(look)` does the same from outside
//   });
//   somewhere.append(pane.element);
//   pane.resize(width, height); // in CSS pixels; it draws
//   pane.draw(); // after each change of what `now` returns
//   pane.close(); // before it is left
//
// The left button does what the tool says: a click always points, a drag changes the window, moves the crosshair, pans
// or measures. With Shift, or the middle button, a drag pans; with Alt it moves the crosshair. The wheel steps through
// slices, and zooms with Ctrl, as two fingers do. Double click shows the whole plane. PANE_KEYS says the same in words.

import { element, pen } from "./viewer.js";
import { dragged, lengthMm, scrolled, stepped } from "./slices.js";
import { WAYS, position } from "./drawing.js";
import { WHOLE, boxOf, panned, zoomed } from "./look.js";

/** @import { View } from "./viewer.js" */
/** @import { Cut } from "./slices.js" */
/** @import { Box } from "./drawing.js" */
/** @import { Look, Room } from "./look.js" */
/** @typedef {"window" | "crosshair" | "pan" | "ruler"} Tool what a drag with the left button does */
/**
 * @typedef {object} Now what a pane shows
 * @property {number[]} voxel [d, h, w]: its slice is shown, and the crosshair is there
 * @property {number[]} window lowest and highest intensity
 * @property {Tool} [tool] "window" if there is no choice
 * @property {boolean} [cross] whether the crosshair is drawn
 * @property {number[][] | null} [ruler] two places [d, h, w]; drawn on the slices that hold both
 */
/**
 * @typedef {object} Owner who owns a pane
 * @property {() => Now} now
 * @property {(context: CanvasRenderingContext2D, box: Box, ratio: number) => boolean | void} paint
 *   the slice into a box, in pixels of the canvas, `ratio` of them a CSS pixel; false if it is not here yet
 * @property {(voxel: number[]) => void} [onPoint]
 * @property {(index: number) => void} [onSlice]
 * @property {(window: number[]) => void} [onWindow]
 * @property {(ends: number[][] | null) => void} [onRuler]
 * @property {(voxel: number[] | null) => void} [onHover]
 * @property {(look: Look) => void} [onView]
 */
/**
 * @typedef {object} Press
 * @property {Tool} tool
 * @property {number[]} at
 * @property {number[]} place
 * @property {number[]} window
 * @property {Look} look
 * @property {boolean} dragged
 */

const ZOOM_STEP = 1.25;
const PAN_PX = 40;
const CLICK_PX = 3; // a hand is not steady

/** What a pane understands, for a page of help. */
export const PANE_KEYS = [
  ["click, Enter", "point at a voxel"],
  ["wheel, arrows, Page Up, Page Down, Home, End", "step through the slices"],
  ["Ctrl + wheel, pinch, +, −", "zoom"],
  ["Shift + drag, middle button, Shift + arrows", "pan"],
  ["Alt + drag, Alt + arrows", "move the crosshair"],
  ["double click, 0", "show the whole slice"],
];

export class Pane {
  /**
   * @param {Pick<View, "on">} host whose errors are shown
   * @param {Cut} cut
   * @param {number[]} spacingMm
   * @param {string} title
   * @param {Owner} owner
   */
  constructor(host, cut, spacingMm, title, owner) {
    this.cut = cut;
    this.spacingMm = spacingMm;
    this.title = title;
    this.owner = owner;
    this.look = WHOLE;
    this.canvas = element("canvas", { tabIndex: 0, role: "img" });
    this.caption = element("div", { className: "l2g-caption" });
    this.element = element("div", { className: "l2g-pane" }, this.canvas, this.caption);
    const { down, across } = cut.plane;
    this.lengthsMm = [cut.rows * spacingMm[down], cut.columns * spacingMm[across]];
    this.controller = new AbortController();
    /** @type {<Type extends keyof HTMLElementEventMap>(type: Type, handler: (event: HTMLElementEventMap[Type]) => void) => void} */
    const listen = (type, handler) =>
      host.on(this.canvas, type, handler, { signal: this.controller.signal, passive: false });
    listen("keydown", (event) => this.onKey(event));
    this.gathered = 0;
    listen("wheel", (event) => this.onWheel(event));
    /** @type {Press | null} */
    this.press = null;
    /** @type {Map<number, number[]>} */
    this.fingers = new Map();
    listen("pointerdown", (event) => this.onPress(event));
    listen("pointermove", (event) => this.onMove(event));
    listen("pointerup", (event) => this.onRelease(event));
    listen("pointercancel", (event) => this.onRelease(event));
    listen("pointerleave", () => owner.onHover?.(null));
    listen("dblclick", () => this.changeLook(WHOLE));
  }

  /** End all listeners. */
  close() {
    this.controller.abort();
  }

  /** @returns {Room} */
  get room() {
    return [this.canvas.clientWidth, this.canvas.clientHeight, this.lengthsMm[0] / this.lengthsMm[1]];
  }

  /**
   * Give the canvas a size, in CSS pixels.
   *
   * @param {number} width
   * @param {number} height
   */
  resize(width, height) {
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${height}px` });
    this.canvas.width = Math.max(1, Math.round(width * devicePixelRatio));
    this.canvas.height = Math.max(1, Math.round(height * devicePixelRatio));
    this.draw();
  }

  /**
   * Look at the plane as another pane does, without telling of it.
   *
   * @param {Look} look
   */
  see(look) {
    this.look = look;
    this.draw();
  }

  draw() {
    const { cut, canvas, title } = this;
    const index = this.owner.now().voxel[cut.plane.axis];
    const here = this.drawOn(canvas, devicePixelRatio);
    const zoom = this.look.zoom > 1 ? ` · ${this.look.zoom.toFixed(1)} ×` : "";
    this.caption.textContent = `${title} · ${index + 1} of ${cut.count}${zoom}${here ? "" : " · loading"}`;
    canvas.setAttribute("aria-label", `${title}, slice ${index + 1} of ${cut.count}`);
  }

  /**
   * Draw on a canvas that has `ratio` pixels for each of the screen's CSS pixels; false if the slice is not here yet.
   *
   * @param {HTMLCanvasElement} canvas
   * @param {number} ratio
   */
  drawOn(canvas, ratio) {
    const context = pen(canvas);
    const box = boxOf(this.look, [canvas.width, canvas.height, this.room[2]]);
    context.fillStyle = "black";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const here = this.owner.paint(context, box, ratio) !== false;
    const { voxel, cross, ruler } = this.owner.now();
    if (here && cross) this.drawCross(context, box, ratio, voxel);
    if (here && ruler) this.drawRuler(context, box, ratio, ruler, voxel);
    this.drawLetters(context, ratio);
    return here;
  }

  /** @type {(context: CanvasRenderingContext2D, box: Box, ratio: number, voxel: number[]) => void} */
  drawCross(context, box, ratio, voxel) {
    const [x, y] = this.pointOf(voxel, box);
    context.fillStyle = "rgba(255, 255, 255, 0.45)";
    context.fillRect(0, Math.round(y), context.canvas.width, ratio);
    context.fillRect(Math.round(x), 0, ratio, context.canvas.height);
  }

  /** @type {(context: CanvasRenderingContext2D, box: Box, ratio: number, ends: number[][], voxel: number[]) => void} */
  drawRuler(context, box, ratio, ends, voxel) {
    const { axis } = this.cut.plane;
    if (ends.some((end) => end[axis] !== voxel[axis])) return;
    const points = ends.map((end) => this.pointOf(end, box));
    for (const [colour, line] of /** @type {const} */ ([["#000", 4], ["#fff", 1.5]])) {
      context.strokeStyle = colour;
      context.lineWidth = line * ratio;
      context.lineCap = "round";
      context.beginPath();
      context.moveTo(points[0][0], points[0][1]);
      context.lineTo(points[1][0], points[1][1]);
      for (const [x, y] of points) {
        context.moveTo(x + 3 * ratio, y);
        context.arc(x, y, 3 * ratio, 0, 2 * Math.PI);
      }
      context.stroke();
    }
    const [x, y] = points[1];
    const [right, below] = [x >= points[0][0], y >= points[0][1]];
    context.textAlign = right ? "left" : "right";
    const room = 8 * ratio;
    write(context, `${lengthMm(ends[0], ends[1], this.spacingMm).toFixed(1)} mm`, x + (right ? room : -room), y + (below ? room : -room), ratio);
  }

  /** @type {(context: CanvasRenderingContext2D, ratio: number) => void} */
  drawLetters(context, ratio) {
    const { width, height } = context.canvas;
    const margin = 13 * ratio;
    const places = [[width / 2, margin], [width / 2, height - margin], [margin, height / 2], [width - margin, height / 2]];
    context.textAlign = "center";
    this.cut.plane.letters.forEach((letter, i) => write(context, letter, places[i][0], places[i][1], ratio));
  }

  /**
   * The point of the middle of a voxel.
   *
   * @param {number[]} voxel
   * @param {Box} box
   */
  pointOf(voxel, [left, top, wide, high]) {
    const [row, column] = this.cut.place(voxel);
    return [left + ((column + 0.5) / this.cut.columns) * wide, top + ((row + 0.5) / this.cut.rows) * high];
  }

  /**
   * The place [d, h, w] at a point of the canvas, not beyond the volume; whole numbers are the middles of voxels.
   *
   * @param {number[]} point
   */
  placeAt([x, y]) {
    const { rows, columns, plane } = this.cut;
    const [left, top, wide, high] = boxOf(this.look, this.room);
    const inside = (/** @type {number} */ place, /** @type {number} */ count) => Math.min(Math.max(place - 0.5, 0), count - 1);
    const [row, column] = [inside(((y - top) / high) * rows, rows), inside(((x - left) / wide) * columns, columns)];
    return this.cut.voxel(this.owner.now().voxel[plane.axis], row, column);
  }

  /** @param {number[]} point */
  voxelAt(point) {
    return this.placeAt(point).map(Math.round);
  }

  /** @param {Look} look */
  changeLook(look) {
    this.look = look;
    this.owner.onView?.(look);
    this.draw();
  }

  /** @param {WheelEvent} event */
  onWheel(event) {
    event.preventDefault(); // also at the last slice: the page must not run away
    const delta = event.deltaY * [1, 20, 400][event.deltaMode];
    if (event.ctrlKey || event.metaKey) {
      const factor = Math.exp(-Math.min(Math.max(delta, -30), 30) / 100);
      this.changeLook(zoomed(this.look, this.room, factor, position(event)));
      return;
    }
    const { steps, left } = scrolled(this.gathered, delta);
    this.gathered = left;
    if (steps) this.step(this.owner.now().voxel[this.cut.plane.axis] + steps);
  }

  /** @param {number} index */
  step(index) {
    const inside = Math.min(Math.max(index, 0), this.cut.count - 1);
    if (inside !== this.owner.now().voxel[this.cut.plane.axis]) this.owner.onSlice?.(inside);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (event.ctrlKey || event.metaKey || !this.obey(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /**
   * Do what a key says; false if it says nothing here.
   *
   * @param {KeyboardEvent} event
   */
  obey(event) {
    const way = WAYS[event.key];
    const [width, height] = this.room;
    const { voxel } = this.owner.now();
    const factor = { "+": ZOOM_STEP, "=": ZOOM_STEP, "-": 1 / ZOOM_STEP, "_": 1 / ZOOM_STEP }[event.key];
    if (way && event.shiftKey) this.changeLook(panned(this.look, this.room, -PAN_PX * way[1], -PAN_PX * way[0]));
    else if (way && event.altKey) this.nudge(way);
    else if (event.altKey) return false;
    else if (factor) this.changeLook(zoomed(this.look, this.room, factor, [width / 2, height / 2]));
    else if (event.key === "0") this.changeLook(WHOLE);
    else if (event.key === "Enter") this.owner.onPoint?.(voxel);
    else {
      const to = stepped(event.key, voxel[this.cut.plane.axis], this.cut.count);
      if (to === undefined) return false;
      this.step(to);
    }
    return true;
  }

  /**
   * Move the crosshair by a pixel.
   *
   * @param {number[]} way
   */
  nudge([down, across]) {
    const { rows, columns, plane } = this.cut;
    const { voxel } = this.owner.now();
    const [row, column] = this.cut.place(voxel);
    const [to, aside] = [row + down, column + across];
    if (to < 0 || to >= rows || aside < 0 || aside >= columns) return;
    this.owner.onPoint?.(this.cut.voxel(voxel[plane.axis], to, aside));
  }

  /** @param {PointerEvent} event */
  onPress(event) {
    if (event.button > 1) return;
    if (event.button === 1) event.preventDefault(); // no scrolling with the middle button
    this.canvas.setPointerCapture(event.pointerId);
    const at = position(event);
    this.fingers.set(event.pointerId, at);
    const { window, tool = "window" } = this.owner.now();
    const place = this.placeAt(at);
    const chosen = event.button === 1 || event.shiftKey ? "pan" : event.altKey ? "crosshair" : tool;
    this.press = this.fingers.size > 1 ? null : { tool: chosen, at, place, window, look: this.look, dragged: false };
    if (this.press?.tool === "crosshair") this.owner.onPoint?.(place.map(Math.round));
  }

  /** @param {PointerEvent} event */
  onMove(event) {
    const at = position(event);
    if (this.fingers.size === 2 && this.fingers.has(event.pointerId)) this.pinch(event.pointerId, at);
    if (this.press) this.drag(this.press, at);
    this.owner.onHover?.(this.voxelAt(at));
  }

  /**
   * @param {Press} press
   * @param {number[]} at
   */
  drag(press, at) {
    const [dx, dy] = [at[0] - press.at[0], at[1] - press.at[1]];
    press.dragged ||= Math.hypot(dx, dy) > CLICK_PX;
    if (!press.dragged) return;
    if (press.tool === "window") this.owner.onWindow?.(dragged(press.window, dx, dy));
    else if (press.tool === "pan") this.changeLook(panned(press.look, this.room, dx, dy));
    else if (press.tool === "ruler") this.owner.onRuler?.([press.place, this.placeAt(at)]);
    else this.owner.onPoint?.(this.voxelAt(at));
  }

  /**
   * Zoom and pan with two fingers.
   *
   * @param {number} moved
   * @param {number[]} at
   */
  pinch(moved, at) {
    const [from, apart] = middle([...this.fingers.values()]);
    this.fingers.set(moved, at);
    const [to, wider] = middle([...this.fingers.values()]);
    const look = panned(this.look, this.room, to[0] - from[0], to[1] - from[1]);
    this.changeLook(zoomed(look, this.room, wider / apart, to));
  }

  /** @param {PointerEvent} event */
  onRelease(event) {
    this.fingers.delete(event.pointerId);
    const press = this.press;
    this.press = null;
    if (!press || press.dragged || event.type === "pointercancel") return;
    if (press.tool === "ruler") this.owner.onRuler?.(null);
    else if (press.tool !== "crosshair") this.owner.onPoint?.(press.place.map(Math.round));
  }
}

/**
 * The point between two fingers, and how far they are apart.
 *
 * @param {number[][]} fingers
 * @returns {[point: number[], apart: number]}
 */
function middle([one, two]) {
  return [[(one[0] + two[0]) / 2, (one[1] + two[1]) / 2], Math.max(Math.hypot(one[0] - two[0], one[1] - two[1]), 1)];
}

/**
 * Write in white with a black rim: it is read on any ground.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} x
 * @param {number} y
 * @param {number} ratio
 */
function write(context, text, x, y, ratio) {
  context.font = `600 ${12 * ratio}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 3 * ratio;
  context.strokeStyle = "#000";
  context.strokeText(text, x, y);
  context.fillStyle = "#fff";
  context.fillText(text, x, y);
}
