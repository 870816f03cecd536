// The surroundings of some bottleneck pixels, in a row; code_map.js shows one of them under the pointer.

import { drawImage, fitted, outline, sharp } from "./drawing.js";

/** @import { Box } from "./drawing.js" */
/** @import { Book, Lit } from "./codebook_explorer.js" */

const PLACES = 8; // in a row
const GAP = 8; // between them

/**
 * The patches of what is lit, each with the boxes of its receptive field and of its cell.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {Pick<Lit, "patches" | "patch_px" | "count">} lit
 * @param {Pick<Book, "aspect" | "field_px" | "cell_px">} book
 */
export function drawPatches(canvas, { patches, patch_px: px, count }, { aspect, field_px, cell_px }) {
  canvas.style.height = `${(canvas.clientWidth - (PLACES - 1) * GAP) / PLACES}px`;
  const { context, width, height } = sharp(canvas);
  const side = Math.min((width - (PLACES - 1) * GAP) / PLACES, height);
  const [left, top, wide, tall] = fitted(side, side, aspect);
  for (let i = 0; i < count; i += 1) {
    const x = i * (side + GAP) + left;
    /** So many pixels in the middle of the patch. @type {(rows: number, columns: number) => Box} */
    const middle = (rows, columns) => {
      const [broad, high] = [(columns * wide) / px, (rows * tall) / px];
      return [x + (wide - broad) / 2, top + (tall - high) / 2, broad, high];
    };
    context.save();
    context.beginPath();
    context.rect(x, top, wide, tall);
    context.clip();
    drawImage(context, patches.subarray(i * px ** 2, (i + 1) * px ** 2), px, px, [x, top, wide, tall]);
    context.strokeStyle = "#E69F00";
    context.lineWidth = 2;
    context.strokeRect(...middle(field_px, field_px));
    outline(context, ...middle(cell_px[0], cell_px[1]));
    context.restore();
  }
}

/**
 * The number of the patch at a point of their canvas, which may have none there.
 *
 * @param {number[]} point
 * @param {HTMLCanvasElement} canvas
 */
export function patchAt([x], canvas) {
  return Math.floor(x / ((canvas.clientWidth + GAP) / PLACES));
}
