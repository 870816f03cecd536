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
//     onHover: () => { ... }, // the pointer moves or leaves: `pane.hovered` is the voxel under it, or null
//     onView: (look) => { ... }, // zoomed or panned; `pane.see(look)` does the same from outside
//   });
//   somewhere.append(pane.element);
//   pane.resize(width, height); // in CSS pixels; it draws
//   pane.draw(); // after each change of what `now` returns
//   pane.close(); // before it is left
//
// What the hand may do is in hand.js, in words in its PANE_KEYS.

import { element, pen } from "./viewer.js";
import { Hand } from "./hand.js";
import { WHOLE, boxOf } from "./look.js";
import { drawCross, drawLetters, drawRuler } from "./marks.js";
import { lengthMm } from "./slices.js";

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
 * @property {string} [unit] of lengths, where there is a ruler
 * @property {() => Now} now
 * @property {(context: CanvasRenderingContext2D, box: Box, ratio: number) => boolean | void} paint
 *   the slice into a box, in pixels of the canvas, `ratio` of them a CSS pixel; false if it is not here yet
 * @property {(voxel: number[]) => void} [onPoint]
 * @property {(index: number) => void} [onSlice]
 * @property {(window: number[]) => void} [onWindow]
 * @property {(ends: number[][] | null) => void} [onRuler]
 * @property {() => void} [onHover]
 * @property {(look: Look) => void} [onView]
 */
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
    this.size = [1, 1];
    this.lengthsMm = [cut.rows * spacingMm[down], cut.columns * spacingMm[across]];
    this.hand = new Hand(this, host);
  }

  /** End all listeners. */
  close() {
    this.hand.controller.abort();
  }

  /** The slice that is shown. */
  get index() {
    return this.owner.now().voxel[this.cut.plane.axis];
  }

  /** @returns {Room} */
  get room() {
    return [this.size[0], this.size[1], this.lengthsMm[0] / this.lengthsMm[1]];
  }

  /**
   * Give the canvas a size, in CSS pixels.
   *
   * @param {number} width
   * @param {number} height
   */
  resize(width, height) {
    this.size = [width, height];
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
    const { cut, canvas, title, index } = this;
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
    const { voxel, cross, ruler, tool = "window" } = this.owner.now();
    this.element.dataset.tool = tool;
    if (here && cross) drawCross(context, ratio, this.pointOf(voxel, box));
    if (here && ruler && this.holds(ruler)) {
      const length = `${lengthMm(ruler[0], ruler[1], this.spacingMm).toFixed(1)} ${this.owner.unit}`;
      drawRuler(context, ratio, ruler.map((end) => this.pointOf(end, box)), length);
    }
    drawLetters(context, ratio, this.cut.plane.letters);
    return here;
  }

  /**
   * Whether both ends of a ruler lie in the slice that is shown.
   *
   * @param {number[][]} ruler
   */
  holds(ruler) {
    return ruler.every((end) => end[this.cut.plane.axis] === this.index);
  }

  /** The picture as PNG, with twice the pixels of the screen. */
  async picture() {
    const canvas = element("canvas", { width: 2 * this.canvas.width, height: 2 * this.canvas.height });
    this.drawOn(canvas, 2 * devicePixelRatio);
    const blob = await new Promise((/** @type {BlobCallback} */ give) => canvas.toBlob(give, "image/png"));
    return /** @type {Blob} */ (blob);
  }

  async copyPicture() {
    if (!navigator.clipboard) throw new Error("this page may not copy, as it does not come by https; save the picture instead");
    await navigator.clipboard.write([new ClipboardItem({ "image/png": this.picture() })]);
  }

  async savePicture() {
    const name = `${this.title} ${this.index + 1}`.replaceAll(/[^\w-]+/g, "-");
    const link = element("a", { href: URL.createObjectURL(await this.picture()), download: `${name}.png` });
    link.click();
    URL.revokeObjectURL(link.href);
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
    const { rows, columns } = this.cut;
    const [left, top, wide, high] = boxOf(this.look, this.room);
    const inside = (/** @type {number} */ place, /** @type {number} */ count) => Math.min(Math.max(place - 0.5, 0), count - 1);
    const [row, column] = [inside(((y - top) / high) * rows, rows), inside(((x - left) / wide) * columns, columns)];
    return this.cut.voxel(this.index, row, column);
  }

  /** @param {number[]} point */
  voxelAt(point) {
    return this.placeAt(point).map(Math.round);
  }

  /** The voxel under the pointer in the slice that is shown now; null while the pointer is elsewhere. */
  get hovered() {
    return this.hand.pointer && this.voxelAt(this.hand.pointer);
  }

  /** @param {Look} look */
  changeLook(look) {
    this.see(look);
    this.owner.onView?.(look);
  }

  /** @param {number} index */
  step(index) {
    const inside = Math.min(Math.max(index, 0), this.cut.count - 1);
    if (inside !== this.index) this.owner.onSlice?.(inside);
  }
}
