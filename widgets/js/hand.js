// What a hand does on a pane, with mouse, trackpad, fingers or keys.
//
// The left button does what the tool says: a click points, a drag changes the window, moves the crosshair, pans or
// measures. With Shift, or the middle button, a drag pans; with Alt it moves the crosshair. The wheel steps through
// slices, and zooms with Ctrl, as two fingers do. Double click shows the whole plane.

import { WAYS, position } from "./drawing.js";
import { WHOLE, panned, zoomed } from "./look.js";
import { openMenu } from "./menu.js";
import { dragged, scrolled, stepped } from "./slices.js";

/** @import { View } from "./viewer.js" */
/** @import { Look } from "./look.js" */
/** @import { Pane, Tool } from "./pane.js" */
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
  ["right click, Ctrl + C, s", "copy the picture, or save it as PNG at twice the resolution"],
];

export class Hand {
  /**
   * @param {Pane} pane
   * @param {Pick<View, "on">} host
   */
  constructor(pane, host) {
    this.pane = pane;
    this.host = host;
    this.controller = new AbortController();
    /** @type {<Type extends keyof HTMLElementEventMap>(type: Type, handler: (event: HTMLElementEventMap[Type]) => void) => void} */
    const listen = (type, handler) =>
      host.on(pane.canvas, type, handler, { signal: this.controller.signal, passive: false });
    listen("keydown", (event) => this.onKey(event));
    /** @type {number[] | null} */
    this.begun = null; // an end of the ruler, set by a key
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
    /** @type {number[] | null} */
    this.pointer = null;
    listen("pointerleave", () => this.hover(null));
    listen("contextmenu", (event) => this.onMenu(event));
    listen("dblclick", () => pane.changeLook(WHOLE));
  }

  /** @param {WheelEvent} event */
  onWheel(event) {
    const { pane } = this;
    event.preventDefault(); // also at the last slice: the page must not run away
    const delta = event.deltaY * [1, 20, 400][event.deltaMode]; // in pixels, lines or pages
    if (event.ctrlKey || event.metaKey) {
      const factor = Math.exp(-Math.min(Math.max(delta, -30), 30) / 100);
      pane.changeLook(zoomed(pane.look, pane.room, factor, position(event)));
      return;
    }
    const { steps, left } = scrolled(this.gathered, delta);
    this.gathered = left;
    if (steps) pane.step(pane.index + steps);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const copy = (event.ctrlKey || event.metaKey) && event.key === "c";
    if (!copy && (event.ctrlKey || event.metaKey)) return undefined;
    const done = copy ? this.pane.copyPicture() : this.obey(event);
    if (!done) return undefined;
    event.preventDefault();
    event.stopPropagation();
    return done;
  }

  /**
   * Do what a key says; false if it says nothing here.
   *
   * @param {KeyboardEvent} event
   * @returns {boolean | Promise<void>}
   */
  obey(event) {
    const { pane } = this;
    const way = WAYS[event.key];
    const [width, height] = pane.room;
    const { voxel } = pane.owner.now();
    const factor = { "+": ZOOM_STEP, "=": ZOOM_STEP, "-": 1 / ZOOM_STEP, "_": 1 / ZOOM_STEP }[event.key];
    if (event.key === "Escape") this.begun = null; // whoever owns the pane removes a whole ruler
    if (way && event.shiftKey) pane.changeLook(panned(pane.look, pane.room, -PAN_PX * way[1], -PAN_PX * way[0]));
    else if (way && event.altKey) this.nudge(way);
    else if (event.altKey) return false;
    else if (factor) pane.changeLook(zoomed(pane.look, pane.room, factor, [width / 2, height / 2]));
    else if (event.key === "0") pane.changeLook(WHOLE);
    else if (event.key === "Enter") this.onEnter(voxel);
    else if (event.key === "s") return pane.savePicture();
    else {
      const to = stepped(event.key, pane.index, pane.cut.count);
      if (to === undefined) return false;
      pane.step(to);
    }
    return true;
  }

  /**
   * Point at the crosshair, or begin and end the ruler there.
   *
   * @param {number[]} voxel
   */
  onEnter(voxel) {
    const { pane } = this;
    if (pane.owner.now().tool !== "ruler") pane.owner.onPoint?.(voxel);
    else if (this.begun) pane.owner.onRuler?.([this.begun, voxel]);
    this.begun = pane.owner.now().tool === "ruler" && !this.begun ? voxel : null;
  }

  /**
   * Move the crosshair by a pixel.
   *
   * @param {number[]} way
   */
  nudge([down, across]) {
    const { pane } = this;
    const { rows, columns } = pane.cut;
    const [row, column] = pane.cut.place(pane.owner.now().voxel);
    const [to, aside] = [row + down, column + across];
    if (to < 0 || to >= rows || aside < 0 || aside >= columns) return;
    pane.owner.onPoint?.(pane.cut.voxel(pane.index, to, aside));
  }

  /** @param {PointerEvent} event */
  onPress(event) {
    const { pane } = this;
    if (event.button > 1) return;
    if (event.button === 1) event.preventDefault(); // no scrolling with the middle button
    pane.canvas.setPointerCapture(event.pointerId);
    const at = position(event);
    this.fingers.set(event.pointerId, at);
    const { window, tool = "window" } = pane.owner.now();
    const place = pane.placeAt(at);
    const chosen = event.button === 1 || event.shiftKey ? "pan" : event.altKey ? "crosshair" : tool;
    this.press = this.fingers.size > 1 ? null : { tool: chosen, at, place, window, look: pane.look, dragged: false };
    if (this.press?.tool === "crosshair") pane.owner.onPoint?.(place.map(Math.round));
  }

  /** @param {PointerEvent} event */
  onMove(event) {
    const at = position(event);
    if (this.fingers.size === 2 && this.fingers.has(event.pointerId)) this.pinch(event.pointerId, at);
    if (this.press) this.drag(this.press, at);
    this.hover(at);
  }

  /** @param {number[] | null} at */
  hover(at) {
    this.pointer = at;
    this.pane.owner.onHover?.();
  }

  /**
   * @param {Press} press
   * @param {number[]} at
   */
  drag(press, at) {
    const { pane } = this;
    const [dx, dy] = [at[0] - press.at[0], at[1] - press.at[1]];
    press.dragged ||= Math.hypot(dx, dy) > CLICK_PX;
    if (!press.dragged) return;
    if (press.tool === "window") pane.owner.onWindow?.(dragged(press.window, dx, dy));
    else if (press.tool === "pan") pane.changeLook(panned(press.look, pane.room, dx, dy));
    else if (press.tool === "ruler") pane.owner.onRuler?.([press.place, pane.placeAt(at)]);
    else pane.owner.onPoint?.(pane.voxelAt(at));
  }

  /**
   * Zoom and pan with two fingers.
   *
   * @param {number} moved
   * @param {number[]} at
   */
  pinch(moved, at) {
    const { pane } = this;
    const [from, apart] = middle([...this.fingers.values()]);
    this.fingers.set(moved, at);
    const [to, wider] = middle([...this.fingers.values()]);
    const look = panned(pane.look, pane.room, to[0] - from[0], to[1] - from[1]);
    pane.changeLook(zoomed(look, pane.room, wider / apart, to));
  }

  /** @param {PointerEvent} event */
  onRelease(event) {
    const { pane } = this;
    this.fingers.delete(event.pointerId);
    const press = this.press;
    this.press = null;
    if (!press || press.dragged || event.type === "pointercancel") return;
    if (press.tool === "ruler") pane.owner.onRuler?.(null);
    else if (press.tool !== "crosshair") pane.owner.onPoint?.(press.place.map(Math.round));
  }

  /** @param {MouseEvent} event */
  onMenu(event) {
    const { pane } = this;
    event.preventDefault();
    event.stopPropagation();
    openMenu(this.host, pane.element, [event.clientX, event.clientY], [
      ["Copy picture", "Ctrl + C", () => pane.copyPicture()],
      ["Save picture as PNG", "s", () => pane.savePicture()],
      ["Show the whole slice", "0", () => pane.changeLook(WHOLE)],
    ]);
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
