// The map of a codebook: a dot a code, zoomed and panned as a slice is, and the picture of a code under the pointer. A
// line around dots, drawn by hand, selects their codes together.

import { drawImage, fitted, outline, position, sharp, spread } from "./drawing.js";
import { enclosed } from "./lasso.js";
import { WHOLE, boxOf, panned, zoomed } from "./look.js";

/** @import { View } from "./viewer.js" */
/** @import { Look, Room } from "./look.js" */
/**
 * What a map shows.
 *
 * @typedef {object} Codes
 * @property {Float32Array} places two coordinates a code
 * @property {string[]} colours
 * @property {Float32Array} counts
 * @property {Float32Array} [room] places that the map must have room for, if there are more
 * @property {number} [top] the largest count there is, if it is elsewhere
 * @property {number} [chosen]
 * @property {number} [aspect] how much taller a pixel of the pictures is than wide
 * @property {Set<number> | null} found what is looked for, or selected together; the others are faint
 */
/** @typedef {"pan" | "lasso"} MapTool what a drag does */
/**
 * Who owns a map.
 *
 * @typedef {object} MapOwner
 * @property {(code: number) => void} [choose]
 * @property {(code: number) => void} [add] clicked with Shift
 * @property {(codes: number[]) => void} [group] what a line was drawn around
 * @property {(code: number | undefined) => void} hover
 */

const EDGE = 14; // around the map
const DEAD = 2.5; // radius of a code that never fires
const NEAR = 14; // a click this far from a dot still means it
const PICTURE = 84; // side of the picture of a code
const ZOOM_STEP = 1.25;

const PAN_HELP = "Ctrl + wheel, + and −: zoom; drag: pan; double click, 0: the whole map";
const LASSO_HELP = "Shift + drag: draw around codes; Shift + click, Shift + Enter: one more, or one less; Escape: none";

export class CodeMap {
  /**
   * @param {View} view
   * @param {HTMLCanvasElement} canvas
   * @param {MapOwner} owner
   */
  constructor(view, canvas, owner) {
    this.view = view;
    this.canvas = canvas;
    this.owner = owner;
    canvas.title = owner.group ? `${PAN_HELP}\n${LASSO_HELP}` : PAN_HELP;
    this.look = WHOLE;
    /** @type {MapTool} */
    this.tool = "pan";
    /** @type {number[][] | null} */
    this.line = null; // while it is drawn
    /** @type {number | undefined} */
    this.hovered = undefined;
    /** @type {{at: number[], look: Look, dragged: boolean, tool: MapTool} | null} */
    this.press = null;
    /** @type {Codes} */
    this.codes = { places: new Float32Array(), colours: [], counts: new Float32Array(), found: null };
    view.on(canvas, "wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
      event.preventDefault();
      this.see(zoomed(this.look, this.room, Math.exp(-Math.min(Math.max(event.deltaY, -30), 30) / 100), position(event)));
    }, { passive: false });
    view.on(canvas, "dblclick", () => this.see(WHOLE));
    view.on(canvas, "keydown", (event) => {
      const factor = { "+": ZOOM_STEP, "=": ZOOM_STEP, "-": 1 / ZOOM_STEP }[event.key];
      const [width, height] = this.room;
      if (factor) this.see(zoomed(this.look, this.room, factor, [width / 2, height / 2]));
      else if (event.key === "0") this.see(WHOLE);
      else if (event.key === "Escape" && this.line) this.letGo();
    });
    view.on(canvas, "pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.press = { at: position(event), look: this.look, dragged: false, tool: event.shiftKey && owner.group ? "lasso" : this.tool };
    });
    view.on(canvas, "pointermove", (event) => {
      const at = position(event);
      if (this.press) {
        const [dx, dy] = [at[0] - this.press.at[0], at[1] - this.press.at[1]];
        this.press.dragged ||= Math.hypot(dx, dy) > 3;
        if (this.press.dragged && this.press.tool === "pan") return this.see(panned(this.press.look, this.room, dx, dy));
        if (this.press.dragged) {
          this.line = [...(this.line ?? [this.press.at]), at];
          return this.draw(this.codes);
        }
      }
      return this.point(this.dotAt(at));
    });
    view.on(canvas, "pointerup", (event) => {
      const { press, line } = this;
      this.letGo();
      if (line) owner.group?.(enclosed(line, ...this.dots()));
      const code = !press || press.dragged ? undefined : this.dotAt(position(event));
      if (code !== undefined) (event.shiftKey ? owner.add : owner.choose)?.(code);
    });
    view.on(canvas, "pointercancel", () => this.letGo());
    view.on(canvas, "pointerleave", () => this.point(undefined));
  }

  /** End a drag, without the line that it drew. */
  letGo() {
    this.press = this.line = null;
    this.draw(this.codes);
  }

  /** @returns {Room} */
  get room() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return [width, height, height / width];
  }

  /** @param {Look} look */
  see(look) {
    this.look = look;
    this.draw(this.codes);
  }

  /** @param {number | undefined} code */
  point(code) {
    if (code === this.hovered) return;
    this.hovered = code;
    this.owner.hover(code);
    this.draw(this.codes);
  }

  /** The places of the dots, x and y. @returns {[number[], number[]]} */
  dots() {
    const [left, top, width, height] = boxOf(this.look, this.room);
    const { places, room = places } = this.codes;
    const axis = (/** @type {Float32Array} */ all, /** @type {number} */ at) => Array.from(all).filter((_, i) => i % 2 === at);
    const [wide, high] = this.room;
    const share = [EDGE / wide, EDGE / high];
    return [
      spread(axis(places, 0), left + share[0] * width, left + (1 - share[0]) * width, axis(room, 0)),
      spread(axis(places, 1), top + (1 - share[1]) * height, top + share[1] * height, axis(room, 1)),
    ];
  }

  /**
   * The code whose dot is nearest to a point, if it is near.
   *
   * @param {number[]} point
   */
  dotAt([x, y]) {
    const [xs, ys] = this.dots();
    const away = xs.map((each, code) => Math.hypot(each - x, ys[code] - y));
    const nearest = away.indexOf(Math.min(...away));
    return away[nearest] <= NEAR ? nearest : undefined;
  }

  /** @param {Codes} codes */
  draw(codes) {
    this.codes = codes;
    const { colours, counts, chosen, found, aspect = 1 } = codes;
    const { context, width, height } = sharp(this.canvas);
    const [xs, ys] = this.dots();
    const top = codes.top ?? Math.max(...counts, 1);
    const radius = (/** @type {number} */ code) => (2 + 8 * Math.sqrt(counts[code] / top)) * Math.sqrt(this.look.zoom);
    counts.forEach((count, code) => {
      const [x, y] = [xs[code], ys[code]];
      context.globalAlpha = !found || found.has(code) ? 0.8 : 0.12;
      context.beginPath();
      context.arc(x, y, count ? radius(code) : DEAD, 0, 2 * Math.PI);
      context.fillStyle = colours[code];
      context.strokeStyle = this.view.colour("--l2g-quiet");
      context.lineWidth = 1;
      if (count) context.fill();
      else context.stroke(); // a code that never fires is hollow
    });
    context.globalAlpha = 1;
    context.strokeStyle = this.view.colour("--l2g-accent");
    if (chosen !== undefined) {
      context.beginPath();
      context.arc(xs[chosen], ys[chosen], radius(chosen) + 4, 0, 2 * Math.PI);
      context.lineWidth = 2.5;
      context.stroke();
    }
    if (this.line) {
      context.beginPath();
      for (const [x, y] of this.line) context.lineTo(x, y);
      context.closePath();
      context.lineWidth = 1.5;
      context.setLineDash([5, 3]);
      context.stroke();
      context.setLineDash([]);
      context.globalAlpha = 0.12;
      context.fillStyle = this.view.colour("--l2g-accent");
      context.fill();
      context.globalAlpha = 1;
      return;
    }
    const thumbnails = this.view.arrays.get("thumbnails");
    const code = this.hovered;
    if (code === undefined || counts[code] === 0 || !thumbnails?.known[code]) return;
    const side = thumbnails.shape[1];
    const x = Math.min(Math.max(xs[code] + 12, 2), width - PICTURE - 2);
    const y = Math.min(Math.max(ys[code] - PICTURE - 12, 2), height - PICTURE - 2);
    const [left, above, wide, tall] = fitted(PICTURE, PICTURE, aspect);
    drawImage(context, thumbnails.data.subarray(code * side ** 2, (code + 1) * side ** 2), side, side, [x + left, y + above, wide, tall]);
    outline(context, x + left, y + above, wide, tall);
  }
}

/**
 * The codes that a search means: the one of that number, or those of the structures whose names have the text in them.
 *
 * @param {string} text
 * @param {number[]} labels
 * @param {string[]} names of the labels
 * @returns {Set<number> | null} null if nothing is looked for
 */
export function foundCodes(text, labels, names) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return null;
  const number = /^(?:code\s*)?(\d+)$/.exec(wanted);
  if (number) return new Set(Number(number[1]) < labels.length ? [Number(number[1])] : []);
  return new Set(labels.flatMap((label, code) => (names[label]?.toLowerCase().includes(wanted) ? [code] : [])));
}
