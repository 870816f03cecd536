import { element, sum, viewer } from "./viewer.js";
import { PANE_KEYS } from "./hand.js";
import { WHOLE } from "./look.js";
import { openHelp } from "./menu.js";
import { Pane } from "./pane.js";
import { TOOLS, nextPreset, onlyStructure, sliceControls, sliceLegend, toggleStructure } from "./slice_controls.js";
import { SlicePainter } from "./slice_painter.js";
import { SliceState } from "./slice_state.js";
import { sliceStrips } from "./slice_strips.js";
import { lengthMm, millimetres } from "./slices.js";

const PANES_HEIGHT = 480;
const PANES_GAP = 6; // as in slice_viewer.css
const VIEWER_KEYS = [
  ["w, c, h, m", "let a drag change the window, move the crosshair, pan, or measure; Escape removes the ruler"],
  ["Enter, while measuring", "begin and end the ruler at the crosshair"],
  ["p", "next preset of the window"],
  ["space, <, >, l", "play, slower, faster, loop"],
  ["t, b", "three planes, maps side by side"],
  ["o, [, ]", "outline or fill, less or more opaque"],
  ["e", "structures or errors"],
  ["1 to 9", "show or hide a structure; with Shift, only this one"],
  ["a, n", "all structures, none"],
  ["g, Shift + g", "go to the largest, to the worst slice"],
  ["?", "this page"],
];

const CINE_KEYS = [[", and .", "the moment before, and the next; space plays them"]];

/** @typedef {{plane: number, pane: Pane}} Picture */

export default viewer((view) => {
  const { model, arrays } = view;
  const state = new SliceState(view);
  const { shape, maps, structures, cuts } = state;
  const { spacing_mm: spacingMm, affine, scale, unit } = state.about;
  const picture = element("div", { className: "l2g-picture" });
  const strips = sliceStrips(state);
  /** @type {Picture[]} */
  let pictures = [];

  // -- The pictures --------------------------------------------------------------------------------------------------

  const lookOf = (/** @type {number} */ plane) => model.get("looks")[cuts[plane].plane.name] ?? WHOLE;

  /**
   * @param {number} plane
   * @param {string[]} shown
   * @returns {Picture}
   */
  function makePicture(plane, shown) {
    const cut = cuts[plane];
    const title = model.get("side_by_side") && shown.length ? shown.join(", ") : cut.plane.name;
    const painter = new SlicePainter(state, cut, shown);
    const pane = new Pane(view, cut, spacingMm, title, {
      unit,
      now: () => {
        const [tool, ruler] = [model.get("tool"), model.get("ruler")];
        const cross = model.get("three_planes") || tool === "crosshair";
        return { voxel: state.voxel, window: model.get("window"), tool, cross, ruler: ruler.length ? ruler : null };
      },
      paint: (context, box, ratio) => painter.paint(context, box, ratio),
      onPoint: (voxel) => state.point(voxel),
      onSlice: (index) => state.move(cut.plane.axis, index),
      onWindow: (window) => view.set({ window }),
      onRuler: (ends) => view.set({ ruler: ends ?? [] }),
      onView: (look) => view.set({ looks: { ...model.get("looks"), [cut.plane.name]: look } }),
      onHover: readOut,
    });
    pane.look = lookOf(plane);
    return { plane, pane };
  }

  /** One row: a pane a map if side by side. With three planes: a row of planes, for each map if side by side. */
  function layOut() {
    const focused = pictures.findIndex(({ pane }) => pane.canvas === document.activeElement);
    for (const { pane } of pictures) pane.close();
    const { shown } = state;
    const groups = model.get("side_by_side") && shown.length ? shown.map((name) => [name]) : [shown];
    const rows = model.get("three_planes")
      ? groups.map((group) => [0, 1, 2].map((plane) => makePicture(plane, group)))
      : [groups.map((group) => makePicture(0, group))];
    pictures = rows.flat();
    picture.replaceChildren(...rows.map((row) => element("div", { className: "l2g-panes" }, ...row.map(({ pane }) => pane.element))));
    fit();
    if (focused >= 0) (pictures[focused] ?? pictures[0]).pane.canvas.focus({ preventScroll: true });
  }

  /** Size all panes by one scale, so that a millimetre is the same everywhere. */
  function fit() {
    const rows = [...picture.children].map((row) => pictures.filter(({ pane }) => pane.element.parentElement === row));
    const scales = rows.map((row) => {
      const room = picture.clientWidth - PANES_GAP * (row.length - 1);
      const wide = room / sum(row.map(({ pane }) => pane.lengthsMm[1]));
      return Math.min(wide, PANES_HEIGHT / Math.max(...row.map(({ pane }) => pane.lengthsMm[0])));
    });
    const perMm = Math.max(Math.min(...scales), 0.1);
    for (const { pane } of pictures) {
      const [height, width] = pane.lengthsMm.map((mm) => Math.max(1, Math.round(mm * perMm)));
      pane.resize(width, height);
    }
    drawRest();
  }

  const drawRest = view.nextFrame(() => {
    strips.draw();
    readOut();
  });
  const draw = view.eachFrame(() => {
    for (const { pane } of pictures) pane.draw();
    drawRest();
  });

  // -- What lies under the cursor ------------------------------------------------------------------------------------

  function readOut() {
    const voxel = pictures.map(({ pane }) => pane.hovered).find(Boolean) ?? state.voxel;
    const at = (voxel[0] * shape[1] + voxel[1]) * shape[2] + voxel[2];
    const when = state.when ? [state.when] : [];
    const parts = [...when, `voxel ${voxel.map((place) => place + 1).join(", ")}`];
    if (unit === "mm") parts.push(millimetres(voxel, affine, spacingMm));
    const volume = state.part("volume");
    if (volume?.known[voxel[0]]) {
      const intensity = scale[0] * volume.data[at] + scale[1];
      parts.push(`intensity ${Number.isInteger(intensity) ? intensity : intensity.toPrecision(4)}`);
    }
    for (const name of maps) {
      const labels = state.part(`labels of ${name}`);
      if (!labels?.packed || !labels.known[voxel[0]]) continue;
      const label = labels.packed.at(voxel[0], voxel[1], voxel[2]);
      parts.push(`${name}: ${state.names[label] ?? (label === state.unknown ? "not known" : "background")}`);
    }
    const code = state.codeAt(voxel);
    if (code !== null) parts.push(`code ${code}`);
    const ruler = model.get("ruler");
    if (ruler.length && pictures.some(({ pane }) => pane.holds(ruler))) parts.push(`ruler ${lengthMm(ruler[0], ruler[1], spacingMm).toFixed(1)} ${unit}`);
    const progress = arrays.progress();
    if (progress < 1) parts.push(`${Math.floor(100 * progress)} % loaded`);
    view.status(parts.join("   ·   "));
  }

  // -- Keys ----------------------------------------------------------------------------------------------------------

  const change = (/** @type {string} */ trait, /** @type {unknown} */ one, /** @type {unknown} */ other) => () =>
    view.set({ [trait]: model.get(trait) === one ? other : one });
  const fade = (/** @type {number} */ by) => () =>
    view.set({ opacity: Math.min(Math.max(Math.round(100 * (model.get("opacity") + by)) / 100, 0), 1) });
  const help = () => openHelp(view.body, [...PANE_KEYS, ...(state.moments > 1 ? CINE_KEYS : []), ...VIEWER_KEYS]);
  /** @type {Record<string, () => void>} */
  const keys = {
    ...Object.fromEntries(TOOLS.map(([tool, key]) => [key, () => view.set({ tool })])),
    Escape: () => view.set({ ruler: [] }),
    p: () => nextPreset(state),
    " ": strips.player.toggle,
    l: strips.player.toggleLoop,
    "<": () => strips.player.change(-1),
    ">": () => strips.player.change(1),
    t: change("three_planes", true, false),
    "?": help,
  };
  if (state.moments > 1) {
    Object.assign(keys, {
      ",": () => state.goTo(state.moment - 1),
      ".": () => state.goTo(state.moment + 1),
    });
  }
  if (maps.length) {
    Object.assign(keys, {
      o: change("overlay", "outline", "fill"),
      "[": fade(-0.1),
      "]": fade(0.1),
      a: () => state.showStructures(structures.map(({ label }) => label)),
      n: () => state.showStructures([]),
      g: () => view.send("jump", { to: "largest" }),
    });
  }
  if (maps.length > 1) {
    Object.assign(keys, {
      e: change("mode", "labels", "errors"),
      b: change("side_by_side", true, false),
      G: () => view.send("jump", { to: "worst" }),
    });
  }
  view.on(view.body, "keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const typing = target.matches("input[type=number], select") || view.body.querySelector("[popover]");
    const pressing = target.matches("button") && (event.key === " " || event.key === "Enter");
    if (typing || pressing || event.ctrlKey || event.metaKey || event.altKey) return;
    const structure = structures[Number(/^Digit([1-9])$/.exec(event.code)?.[1]) - 1];
    const act = structure ? () => (event.shiftKey ? onlyStructure : toggleStructure)(state, structure.label) : keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  view.body.append(sliceControls(state, help), picture, strips.element);
  if (structures.length) view.body.append(sliceLegend(state));
  view.watch(["selection", "frame", "window", "overlay", "mode", "opacity", "visible", "tool", "ruler"], draw);
  view.watch(["three_planes", "side_by_side", "shown"], layOut);
  view.watch(["looks"], () => {
    for (const { plane, pane } of pictures) if (pane.look !== lookOf(plane)) pane.see(lookOf(plane));
    drawRest();
  });
  view.onArray((name, start, stop) => {
    const d = state.voxel[0] + arrays.span(arrays.offers()[name])[0];
    if (model.get("three_planes") || !/^(volume|labels)/.test(name) || (start <= d && d < stop)) draw();
    else readOut();
  });
  let width = 0;
  view.onLook(view.body, () => {
    if (view.body.clientWidth !== width) {
      width = view.body.clientWidth;
      fit();
    } else drawRest();
  });
  layOut();
});
