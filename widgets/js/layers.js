// What is painted over each other in a pane: greys, filled labels, outlines. Each lies in a box of the canvas.

import { element, pen } from "./viewer.js";
import { edges, pixel, strokeEdges } from "./slices.js";

/** @import { Box } from "./drawing.js" */
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

  /**
   * Paint `pixels` into a box.
   *
   * @param {CanvasRenderingContext2D} context
   * @param {Box} box
   * @param {boolean} smooth
   */
  paint(context, box, smooth) {
    this.context.putImageData(this.image, 0, 0);
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
    this.paint(context, box, false);
  }

  /**
   * Outline labels; `width` and `dash` in pixels of the canvas.
   *
   * @param {CanvasRenderingContext2D} context
   * @param {Box} box
   * @param {Uint8Array} labels
   * @param {Palette} palette
   * @param {number} width
   * @param {number[]} dash
   */
  outline(context, box, labels, palette, width, dash = []) {
    const [left, top, wide, high] = box;
    const runs = edges(labels, this.rows, this.columns);
    strokeEdges(context, runs, [left, top, wide / this.columns, high / this.rows], palette, width, dash);
  }
}
