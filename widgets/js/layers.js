// What is painted over each other in a pane: greys, filled labels, outlines. Each lies in a box of the canvas.

import { element, pen } from "./viewer.js";
import { pixel, strokeEdges } from "./slices.js";

/** @import { Box } from "./drawing.js" */
/** @import { Run } from "./slices.js" */
/** @typedef {(string | null | undefined)[]} Palette the colour of each label as #rrggbb; null is not painted */

/** A picture of rows x columns pixels, each a 32-bit number of `pixels`. */
export class Layer {
  /** @param {{rows: number, columns: number}} size */
  constructor({ rows, columns }) {
    this.rows = rows;
    this.columns = columns;
    this.canvas = element("canvas", { width: columns, height: rows });
    this.context = pen(this.canvas);
    this.image = this.context.createImageData(columns, rows);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  /** Take over what stands in `pixels`. */
  put() {
    this.context.putImageData(this.image, 0, 0);
  }

  /**
   * Paint into a box.
   *
   * @param {CanvasRenderingContext2D} context
   * @param {Box} box
   * @param {boolean} smooth
   */
  paint(context, box, smooth) {
    context.imageSmoothingEnabled = smooth;
    context.drawImage(this.canvas, ...box);
  }

  /**
   * Fill labels.
   *
   * @param {CanvasRenderingContext2D} context
   * @param {Box} box
   * @param {Uint8Array} labels
   * @param {Palette} palette
   * @param {number} opacity
   */
  fill(context, box, labels, palette, opacity) {
    const colours = new Uint32Array(256);
    palette.forEach((colour, label) => colour && (colours[label] = pixel(colour, opacity)));
    for (let i = 0; i < labels.length; i += 1) this.pixels[i] = colours[labels[i]];
    this.put();
    this.paint(context, box, false);
  }

  /**
   * Hatch one label with lines of the slopes 1 and -1: it is told from others without its colour.
   *
   * @param {CanvasRenderingContext2D} context
   * @param {Box} box
   * @param {Uint8Array} labels
   * @param {number} label
   * @param {string} colour
   * @param {number[]} slopes
   * @param {number} ratio
   */
  hatch(context, box, labels, label, colour, slopes, ratio) {
    for (let i = 0; i < labels.length; i += 1) this.pixels[i] = labels[i] === label ? 0xffffffff : 0;
    this.put();
    const { width, height } = context.canvas;
    const over = pen(element("canvas", { width, height }));
    this.paint(over, box, false);
    over.globalCompositeOperation = "source-in";
    over.fillStyle = /** @type {CanvasPattern} */ (over.createPattern(stripes(colour, slopes, ratio), "repeat"));
    over.fillRect(0, 0, width, height);
    context.drawImage(over.canvas, 0, 0);
  }

  /**
   * Stroke the edges of labels; `width` and `dash` in pixels of the canvas.
   *
   * @param {CanvasRenderingContext2D} context
   * @param {Box} box
   * @param {Run[]} runs
   * @param {Palette} palette
   * @param {number} width
   * @param {number[]} dash
   */
  outline(context, [left, top, wide, high], runs, palette, width, dash = []) {
    strokeEdges(context, runs, [left, top, wide / this.columns, high / this.rows], palette, width, dash);
  }
}

/**
 * A tile of parallel lines.
 *
 * @param {string} colour
 * @param {number[]} slopes
 * @param {number} ratio
 */
function stripes(colour, slopes, ratio) {
  const side = Math.round(6 * ratio);
  const tile = pen(element("canvas", { width: side, height: side }));
  tile.strokeStyle = colour;
  tile.lineWidth = 1.5 * ratio;
  for (const slope of slopes) {
    for (const shift of [-side, 0, side]) {
      tile.moveTo(shift - side, slope > 0 ? -side : 2 * side);
      tile.lineTo(shift + 2 * side, slope > 0 ? 2 * side : -side);
    }
  }
  tile.stroke();
  return tile.canvas;
}
