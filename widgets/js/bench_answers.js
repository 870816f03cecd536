// What the workbench shows without Python: every slice and code of its scan, as they were when the page was saved.

/** @import { Saved } from "./page.js" */
/** @typedef {{slices: Record<string, any>[], cards: Record<string, any>}} Data */

/**
 * @param {Saved} model
 * @param {Data} data
 */
export default (model, { slices, cards }) => {
  model.traits.about = { ...model.traits.about, saved: true };
  let shown = "";
  return {
    changed() {
      const { voxel, by = "voxel", code } = model.get("selection");
      const slice = slices[voxel[0]];
      const [name, head] = [model.get("order"), model.get("head")];
      const asked = `${slice.index} ${name} ${head}`;
      if (asked !== shown) model.set("now", { ...slice, ...slice.heads[head], order: slice.orders[name]?.[head] });
      shown = asked;
      model.set("card", (by === "code" && cards[code]) || { kind: by });
    },
  };
};
