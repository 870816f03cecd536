// Drawing on canvases: sharp on any screen, in colours that are safe for colour blindness.

import { element, pen } from "./viewer.js";

/** @import { Values, View } from "./viewer.js" */
/** @typedef {[x: number, y: number, width: number, height: number]} Box */
/** @typedef {{colours: Uint8ClampedArray, css: string}} Ramp */

/** The colours of labels 1, 2, 3 ... (l2gnet/colours.py has the same); background is grey. */
export const LABELS = ["#8c8c8c", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00", "#6A3DE8"]
  .concat(["#C3FFA5", "#695A2D"]);
/** @param {number} label */
export const labelColour = (label) => LABELS[label === 0 ? 0 : ((label - 1) % (LABELS.length - 1)) + 1];

/**
 * The colour of a code, the same in all viewers: neighbours in number lie far apart (the golden angle).
 *
 * @param {number} code
 */
export function codeColour(code) {
  const hue = (code * 137.508) % 360;
  const [chroma, light] = [0.55 + 0.25 * ((code * 7) % 3) / 2, 0.42 + 0.22 * ((code * 5) % 4) / 3];
  const part = (/** @type {number} */ n) => {
    const k = (n + hue / 30) % 12;
    const value = light - chroma * Math.min(light, 1 - light) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * value).toString(16).padStart(2, "0");
  };
  return `#${part(0)}${part(8)}${part(4)}`;
}

// Each stop is r, g, b and opacity.
const VIRIDIS = ["68 1 84 1", "72 40 120 1", "62 74 137 1", "49 104 142 1", "38 130 142 1", "31 158 137 1"]
  .concat(["53 183 121 1", "109 205 89 1", "180 222 44 1", "253 231 37 1"])
  .map((stop) => stop.split(" ").map(Number));
const GLOW = [[230, 100, 0, 0], [236, 120, 0, 0.55], [248, 168, 20, 0.75], [255, 226, 90, 0.88]];

/**
 * 256 colours between stops, and the same as a CSS gradient for the colour bar.
 *
 * @param {number[][]} stops
 * @returns {Ramp}
 */
function ramp(stops) {
  const colours = new Uint8ClampedArray(1024);
  for (let i = 0; i < 256; i += 1) {
    const at = (i / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    for (let c = 0; c < 4; c += 1) {
      const value = stops[low][c] + (at - low) * (stops[low + 1][c] - stops[low][c]);
      colours[4 * i + c] = c === 3 ? 255 * value : value;
    }
  }
  const css = stops.map(([r, g, b, a]) => `rgba(${r}, ${g}, ${b}, ${a})`).join(", ");
  return { colours, css: `linear-gradient(to right, ${css})` };
}

export const PLAN_COLOURS = ramp(VIRIDIS); // for matrices
export const HEAT_COLOURS = ramp(GLOW); // to lie over an image

/**
 * A typed array of what Python sent as bytes; null stays null.
 *
 * @template Kind
 * @param {new (bytes: ArrayBufferLike) => Kind} Type
 * @param {DataView | null} view
 */
export function typed(Type, view) {
  return view ? new Type(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)) : null;
}

/**
 * The context of a canvas that has one device pixel for each of the screen, cleared, with CSS pixels as its unit.
 *
 * @param {HTMLCanvasElement} canvas
 */
export function sharp(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const context = pen(canvas);
  context.scale(ratio, ratio);
  context.imageSmoothingEnabled = false;
  return { context, width, height };
}

/**
 * A small canvas of w x h cells: paint(i) gives the index of cell i in the colours.
 *
 * @param {number} w
 * @param {number} h
 * @param {Uint8ClampedArray} colours
 * @param {(i: number) => number} paint
 */
function cells(w, h, colours, paint) {
  const canvas = element("canvas", { width: w, height: h });
  const picture = new ImageData(w, h);
  for (let i = 0; i < w * h; i += 1) {
    const from = 4 * paint(i);
    picture.data.set(colours.subarray(from, from + 4), 4 * i);
  }
  pen(canvas).putImageData(picture, 0, 0);
  return canvas;
}

const GREYS = ramp([[0, 0, 0, 1], [255, 255, 255, 1]]);

/**
 * Draw a grey image (uint8) of w x h pixels into a box.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Values} image
 * @param {number} w
 * @param {number} h
 * @param {Box} box
 */
export function drawImage(context, image, w, h, box) {
  context.imageSmoothingEnabled = true;
  context.drawImage(cells(w, h, GREYS.colours, (i) => image[i]), ...box);
  context.imageSmoothingEnabled = false;
}

/**
 * Draw w x h values between 0 and `top` into a box.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Float32Array} values
 * @param {number} w
 * @param {number} h
 * @param {number} top
 * @param {Ramp} ramp
 * @param {Box} box
 */
export function drawCells(context, values, w, h, top, { colours }, box) {
  const scale = top > 0 ? 255 / top : 0;
  const index = (/** @type {number} */ i) => Math.max(0, Math.min(255, Math.round(values[i] * scale)));
  context.drawImage(cells(w, h, colours, index), ...box);
}

/**
 * Outline one cell, in white within black: it shows on any ground.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Box} box
 */
export function outline(context, ...box) {
  for (const [colour, line] of /** @type {const} */ ([["#000", 3], ["#fff", 1.4]])) {
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.strokeRect(...box);
  }
}

/**
 * A picture with a title over it and, if wanted, a colour bar under it.
 *
 * @param {string} title
 * @param {string} label
 * @param {Ramp | null} bar
 */
export function panel(title, label, bar = null) {
  const canvas = element("canvas", { tabIndex: 0, role: "img", "aria-label": label });
  const caption = element("figcaption", {}, title);
  const top = element("span");
  const strip = element("i", bar ? { style: { background: `${bar.css}, #555` } } : {});
  const scale = element("div", { className: "l2g-scale" }, "0", strip, top);
  return { figure: element("figure", { className: "l2g-panel" }, caption, canvas, ...(bar ? [scale] : [])), canvas, caption, scale, top };
}

/**
 * A row of buttons of which one is chosen: choice(view, "order", [["usage", "usage"], ...], (chosen) => ...).
 *
 * @template Value
 * @param {View} view
 * @param {string} name
 * @param {[value: Value, text: string][]} options
 * @param {(chosen: Value) => void} choose
 */
export function choice(view, name, options, choose) {
  const group = element("span", { className: "l2g-choice", role: "group", "aria-label": name });
  const buttons = options.map(([value, text]) => {
    const button = element("button", { value }, text);
    view.on(button, "click", () => choose(value));
    return button;
  });
  group.append(...buttons);
  const show = (/** @type {Value} */ value) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === String(value)));
  };
  return { group, buttons, show };
}

/**
 * An option of a choice that is shown as it is called.
 *
 * @param {string} word
 * @returns {[string, string]}
 */
export const itself = (word) => [word, word];

/**
 * A number in as few digits as it needs: 0.0312, 3.1, 42.
 *
 * @param {number} value
 */
export function brief(value) {
  if (value === 0) return "0";
  if (Math.abs(value) < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(Math.abs(value) >= 100 ? Math.ceil(Math.log10(Math.abs(value))) : 3)));
}

/** A share in words; far below a thousandth there is nothing to tell. @param {number} share */
export function percent(share) {
  return share < 5e-5 ? "0\u00a0%" : `${Number((100 * share).toPrecision(3))}\u00a0%`;
}

/** A share of a slice's mass in words. @param {number} share */
export function permille(share) {
  return share < 5e-6 ? "0\u00a0‰" : `${Number((1000 * share).toPrecision(3))}\u00a0‰`;
}

/**
 * Where the arrow keys lead: rows down, columns across.
 *
 * @type {Record<string, [down: number, across: number]>}
 */
export const WAYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/**
 * Where a pointer is on a canvas, in CSS pixels.
 *
 * @param {MouseEvent} event
 */
export function position(event) {
  const box = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

/**
 * The largest box in the middle of width x height whose height is `tall` times its width.
 *
 * @param {number} width
 * @param {number} height
 * @param {number} tall
 * @returns {Box}
 */
export function fitted(width, height, tall) {
  const wide = Math.min(width, height / tall);
  return [(width - wide) / 2, (height - wide * tall) / 2, wide, wide * tall];
}

/**
 * The cell [row, column] of rows x columns at a point of the box; outside the box it lies beyond them.
 *
 * @param {number[]} point
 * @param {Box} box
 * @param {number} rows
 * @param {number} columns
 */
export function cellAt([x, y], [left, top, width, height], rows, columns) {
  return [Math.floor(((y - top) / height) * rows), Math.floor(((x - left) / width) * columns)];
}

/**
 * The cell [row, column] of a coarse grid (h, w) that a pixel of an image (H, W) lies in.
 *
 * @param {number[]} pixel
 * @param {number[]} image
 * @param {number[]} cells
 */
export function cellOf([row, column], [H, W], [h, w]) {
  return [Math.floor((row * h) / H), Math.floor((column * w) / W)];
}

/**
 * The pixel in the middle of the cell that lies beside one, on the way of an arrow key; of that one at the border.
 *
 * @param {number[]} cell
 * @param {number[]} way
 * @param {number[]} image
 * @param {number[]} cells
 */
export function pixelBeside([row, column], [down, across], [H, W], [h, w]) {
  const inside = (/** @type {number} */ place, /** @type {number} */ count) => Math.min(Math.max(place, 0), count - 1);
  const [r, c] = [inside(row + down, h), inside(column + across, w)];
  return [Math.floor(((r + 0.5) * H) / h), Math.floor(((c + 0.5) * W) / w)];
}

/**
 * The entry that follows `current` after `step`, round and round.
 *
 * @param {number[]} list
 * @param {number} current
 * @param {number} step
 */
export function neighbour(list, current, step) {
  return list[(list.indexOf(current) + step + list.length) % list.length];
}

/**
 * Values spread evenly from `low` to `high`, whichever is larger; or so that all values of which they are some are.
 *
 * @param {number[]} values
 * @param {number} low
 * @param {number} high
 */
export function spread(values, low, high, all = values) {
  const [least, most] = [Math.min(...all), Math.max(...all)];
  return values.map((value) => low + ((value - least) / (most - least || 1)) * (high - low));
}
