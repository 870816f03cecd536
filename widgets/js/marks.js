// What lies over a slice: the crosshair, the ruler, the sides of the patient. White within black shows on any ground.

const RIM_PX = 4;
const LINE_PX = 1.5;
const TEXT_PX = 12;
const MARGIN_PX = 13; // of the letters, to the edge of the canvas

/** @typedef {number[]} Point x and y, in pixels of the canvas; `ratio` of them are a CSS pixel */

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} ratio
 * @param {Point} point
 */
export function drawCross(context, ratio, [x, y]) {
  context.fillStyle = "rgba(255, 255, 255, 0.45)";
  context.fillRect(0, Math.round(y), context.canvas.width, ratio);
  context.fillRect(Math.round(x), 0, ratio, context.canvas.height);
}

/**
 * A line between two points, with a text beside its second end.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {number} ratio
 * @param {Point[]} ends
 * @param {string} text
 */
export function drawRuler(context, ratio, ends, text) {
  const radius = 3 * ratio;
  context.setLineDash([]);
  context.lineCap = "round";
  for (const [colour, line] of /** @type {const} */ ([["#000", RIM_PX], ["#fff", LINE_PX]])) {
    context.strokeStyle = colour;
    context.lineWidth = line * ratio;
    context.beginPath();
    context.moveTo(ends[0][0], ends[0][1]);
    context.lineTo(ends[1][0], ends[1][1]);
    for (const [x, y] of ends) {
      context.moveTo(x + radius, y);
      context.arc(x, y, radius, 0, 2 * Math.PI);
    }
    context.stroke();
  }
  const [x, y] = ends[1];
  const leftwards = x > context.canvas.width / 2 && x < ends[0][0] || x > context.canvas.width - 80 * ratio;
  const aside = (leftwards ? -10 : 10) * ratio;
  write(context, ratio, text, [x + aside, y + (y < ends[0][1] && y > 20 * ratio ? -10 : 10) * ratio], leftwards ? "right" : "left");
}

/**
 * The letters of a plane: top, bottom, left and right.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {number} ratio
 * @param {string[]} letters
 */
export function drawLetters(context, ratio, letters) {
  const { width, height } = context.canvas;
  const margin = MARGIN_PX * ratio;
  const places = [[width / 2, margin], [width / 2, height - margin], [margin, height / 2], [width - margin, height / 2]];
  letters.forEach((letter, i) => letter && write(context, ratio, letter, places[i], "center"));
}

/** @type {(context: CanvasRenderingContext2D, ratio: number, text: string, point: Point, align: CanvasTextAlign) => void} */
function write(context, ratio, text, [x, y], align) {
  context.font = `600 ${TEXT_PX * ratio}px system-ui, sans-serif`;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 3 * ratio;
  context.strokeStyle = "#000";
  context.strokeText(text, x, y);
  context.fillStyle = "#fff";
  context.fillText(text, x, y);
}
