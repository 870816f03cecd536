// Drawing on canvases: sharp on any screen, in colours that are safe for colour blindness.

import { element } from "./viewer.js";

/** Okabe and Ito's palette for labels 1, 2, 3 ... (widgets/pictures.py has the same); background is grey. */
export const LABELS = ["#8c8c8c", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00", "#6A3DE8"];
export const labelColour = (label) => LABELS[label === 0 ? 0 : ((label - 1) % 8) + 1];

// Each stop is r, g, b and opacity.
const VIRIDIS = ["68 1 84 1", "72 40 120 1", "62 74 137 1", "49 104 142 1", "38 130 142 1", "31 158 137 1"]
  .concat(["53 183 121 1", "109 205 89 1", "180 222 44 1", "253 231 37 1"])
  .map((stop) => stop.split(" ").map(Number));
const GLOW = [[230, 100, 0, 0], [236, 120, 0, 0.55], [248, 168, 20, 0.75], [255, 226, 90, 0.88]];

/** 256 colours between stops, and the same as a CSS gradient for the colour bar. */
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

/** A typed array of what Python sent as bytes; null stays null. */
export function typed(Type, view) {
  return view ? new Type(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)) : null;
}

/** The context of a canvas that has one device pixel for each of the screen, cleared, with CSS pixels as its unit. */
export function sharp(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.imageSmoothingEnabled = false;
  return { context, width, height };
}

/** A small canvas of w x h cells: paint(i) gives the index of cell i in the colours. */
function cells(w, h, colours, paint) {
  const canvas = element("canvas", { width: w, height: h });
  const picture = new ImageData(w, h);
  for (let i = 0; i < w * h; i += 1) {
    const from = 4 * paint(i);
    picture.data.set(colours.subarray(from, from + 4), 4 * i);
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

const GREYS = ramp([[0, 0, 0, 1], [255, 255, 255, 1]]);

/** Draw a grey image (uint8) of w x h pixels into a box [x, y, width, height]. */
export function drawImage(context, image, w, h, box) {
  context.imageSmoothingEnabled = true;
  context.drawImage(cells(w, h, GREYS.colours, (i) => image[i]), ...box);
  context.imageSmoothingEnabled = false;
}

/** Draw w x h values between 0 and `top` into a box. */
export function drawCells(context, values, w, h, top, { colours }, box) {
  const scale = top > 0 ? 255 / top : 0;
  const index = (i) => Math.max(0, Math.min(255, Math.round(values[i] * scale)));
  context.drawImage(cells(w, h, colours, index), ...box);
}

/** Outline one cell, in white within black: it shows on any ground. */
export function outline(context, x, y, width, height) {
  for (const [colour, line] of [["#000", 3], ["#fff", 1.4]]) {
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.strokeRect(x, y, width, height);
  }
}

/** A picture with a title over it and, if wanted, a colour bar under it. */
export function panel(title, label, { bar = null } = {}) {
  const canvas = element("canvas", { tabIndex: 0, role: "img", "aria-label": label });
  const caption = element("figcaption", {}, title);
  const top = element("span");
  const scale = element("div", { className: "l2g-scale" }, "0", element("i"), top);
  if (bar) scale.querySelector("i").style.background = `${bar.css}, #555`;
  return { figure: element("figure", { className: "l2g-panel" }, caption, canvas, ...(bar ? [scale] : [])), canvas, caption, scale, top };
}

/** A row of buttons of which one is chosen: choice([["usage", "usage"], ...], chosen => ...). */
export function choice(view, name, options, choose) {
  const group = element("span", { className: "l2g-choice", role: "group", "aria-label": name });
  for (const [value, text] of options) {
    const button = element("button", { value }, text);
    view.on(button, "click", () => choose(value));
    group.append(button);
  }
  const show = (value) => {
    for (const button of group.children) button.setAttribute("aria-pressed", String(button.value === String(value)));
  };
  return { group, show };
}

/** A number in as few digits as it needs: 0.0312, 3.1, 42. */
export function brief(value) {
  if (value === 0) return "0";
  if (Math.abs(value) < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(Math.abs(value) >= 100 ? Math.ceil(Math.log10(Math.abs(value))) : 3)));
}

/** Where a pointer is on a canvas, in CSS pixels. */
export function position(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}
