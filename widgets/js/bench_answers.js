// What the workbench shows without Python: every slice and code of its scan, as they were when the page was saved.

/** @import { Saved } from "./page.js" */
/** @typedef {{slices: Record<string, any>[], cards: Record<string, any>}} Data */

/**
 * @param {Saved} model
 * @param {Data} data
 */
export default (model, { slices, cards }) => {
  model.traits.about = { ...model.traits.about, saved: true };
  return {
    changed() {
      const { voxel, by = "voxel", code } = model.get("selection");
      const slice = slices[voxel[0]];
      const order = slice.orders[model.get("order")]?.[model.get("head")];
      const now = model.get("now");
      if (now.index !== slice.index || JSON.stringify(now.order) !== JSON.stringify(order)) model.set("now", { ...slice, order });
      const none = { kind: by, code, count: 0 };
      model.set("card", by === "code" ? (cards[code] ?? none) : none);
    },
  };
};
