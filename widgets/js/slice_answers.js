// Where SliceViewer goes to a slice without Python (SliceViewer.jump).

import { rounded } from "./answers.js";

/** @import { Saved } from "./page.js" */
/**
 * Of each slice and label: pixels of the first map with the sums of their rows and columns, and the Dice of each other.
 *
 * @typedef {{moments: number[][][], dice: Record<string, (number | null)[][]>}} Data
 */

/**
 * @param {Saved} model
 * @param {Data} data
 */
export default (model, { moments, dice }) => ({
  jump(/** @type {{to: string}} */ { to }) {
    /** @type {number[]} */
    const visible = model.get("visible");
    const compared = model.get("shown").find((/** @type {string} */ name) => name in dice);
    if (!visible.length || (to === "worst" && !compared)) {
      throw new Error(`jump to the ${to} slice needs a visible structure, and for worst a second map; show one`);
    }
    const total = (/** @type {number[][]} */ slice, /** @type {number} */ kind) =>
      visible.reduce((sum, label) => sum + slice[label][kind], 0);
    const ranks = moments.map((slice, d) => {
      if (to === "largest") return total(slice, 0);
      const known = visible.map((label) => dice[compared][d][label]).filter((value) => value !== null);
      return known.length ? -known.reduce((sum, value) => sum + value, 0) / known.length : -Infinity;
    });
    const d = ranks.indexOf(Math.max(...ranks));
    const count = total(moments[d], 0);
    const { voxel } = model.get("selection");
    const place = count ? [1, 2].map((kind) => rounded(total(moments[d], kind) / count)) : voxel.slice(1);
    model.set("selection", { ...model.get("selection"), voxel: [d, ...place] });
    model.save_changes();
  },
});
