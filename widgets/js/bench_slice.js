// The slice of the workbench with what lies over it: labels, verdicts, codes, and what the plans say of tokens.

import { element } from "./viewer.js";
import { interferes } from "./bench_state.js";
import { HEAT_COLOURS, brief, codeColour } from "./drawing.js";
import { Layer } from "./layers.js";
import { Pane } from "./pane.js";
import { Cut, agreement, edges, greys, millimetres, pixel } from "./slices.js";
import { coverage, matter, relation, strongest } from "./plans.js";

/** @import { Bench } from "./bench_state.js" */
/** @import { Box } from "./drawing.js" */
/** @typedef {{title: string, colours: [name: string, colour: string][], bar?: [low: string, high: string]}} Key of the overlay */

export const OVERLAYS = [
  ["none", "nothing", "the slice alone"],
  ["prediction", "prediction", "what the model finds, under the interventions"],
  ["truth", "truth", "the label map of the scan"],
  ["right and wrong", "right and wrong", "the prediction against the truth"],
  ["changed", "changed", "pixels that the interventions change"],
  ["confidence", "doubt", "how little sure the model is: 1 less the probability of its label"],
  ["models differ", "models differ", "pixels that the two models label in another way"],
  ["codes", "codes", "the code of each token; the selected one is outlined"],
  ["reference", "a reference", "what the selected reference gathers, else the strongest of the selected pixel"],
  ["relation", "relation", "from where the selected pixel, or code, hears"],
];
const ARROWS = 3;
const HEAT = new Uint32Array(HEAT_COLOURS.colours.buffer);

/**
 * What the key must admit: the second and third plane show the model left alone, though one interferes.
 *
 * @param {Bench} bench
 */
export function leftAlone(bench) {
  const overlay = bench.get("overlay");
  if (!bench.get("plane") || !interferes(bench.changes)) return "";
  if (overlay === "changed") return "changes are computed in slices: choose the first plane";
  return ["prediction", "right and wrong", "confidence", "models differ"].includes(overlay) ? "without the interventions" : "";
}

/** @param {Bench} bench */
export function slicePanel(bench) {
  const { view } = bench;
  const frame = element("div", { className: "l2g-bench-frame" });
  const legend = element("div", { className: "l2g-row l2g-bench-legend" });
  const place = element("div", { className: "l2g-quiet l2g-bench-place", title: "Slices, rows and columns are counted from 1 here, from 0 in Python" });
  const slider = element("input", { type: "range", min: 0, step: 1, className: "l2g-bench-slider", "aria-label": "slice" });
  /** @type {Pane[]} the slice of the model, and of the other one beside it */
  let panes = [];
  let made = "";
  /** @type {string[]} how far the matter of the strongest references lies */
  let farther = [];

  const voxelTo = (/** @type {number} */ axis, /** @type {number} */ index) => {
    const voxel = [...bench.selection.voxel];
    voxel[axis] = index;
    bench.select({ voxel });
  };
  view.on(slider, "input", () => voxelTo(bench.about.planes[bench.get("plane")].axis, Number(slider.value)));

  /** A slice of an array, as it is shown. @param {any} data @param {Cut} cut @param {number} index */
  const cutOf = (data, cut, index) => {
    const target = new Uint8Array(cut.size);
    cut.copy(data, index, target);
    return target;
  };

  const build = () => {
    const { about } = bench;
    const plane = about.planes[bench.get("plane")];
    const key = `${about.scan} ${about.model} ${about.other} ${plane.axis} ${about.shape}`;
    if (key === made) return;
    made = key;
    for (const pane of panes) pane.close();
    const cut = new Cut(plane, about.shape);
    const names = about.other ? [about.model, about.other] : [""];
    panes = names.map((name, n) => new Pane(view, cut, about.spacing_mm, name ? `${name}: ${plane.name}` : plane.name, {
      now: () => ({ voxel: bench.selection.voxel, window: bench.get("window"), cross: true }),
      paint: (context, box, ratio) => paint(cut, context, box, ratio, n === 1),
      onPoint: (voxel) => bench.point(voxel),
      onSlice: (index) => voxelTo(plane.axis, index),
      onWindow: (window) => bench.change({ window }),
      onHover: () => readOut(),
      onView: (look) => panes.forEach((pane, i) => i !== n && pane.see(look)),
    }));
    frame.replaceChildren(...panes.map((pane) => pane.element));
    fit();
  };

  const fit = () => {
    const wide = Math.floor((frame.clientWidth - (panes.length - 1)) / Math.max(panes.length, 1));
    if (wide > 0 && frame.clientHeight) for (const pane of panes) pane.resize(wide, frame.clientHeight);
  };

  /** @type {(cut: Cut, context: CanvasRenderingContext2D, box: Box, ratio: number, second: boolean) => boolean} */
  const paint = (cut, context, box, ratio, second) => {
    const { about, selection } = bench;
    const { axis } = cut.plane;
    const index = selection.voxel[axis];
    const held = bench.held("images");
    const scale = (about.range[1] - about.range[0]) / 255;
    if (!held || (axis === 0 ? !held.known[index] : held.rows < about.shape[0])) return false;
    const { table, shift } = greys(held.data, [scale, about.range[0]], bench.get("window"));
    const layer = new Layer(cut);
    cut.copy(held.data, index, layer.pixels, table, shift);
    layer.put();
    layer.paint(context, box, true);
    const labels = second ? arrayOf("other", cut, index) : labelsOf(cut, index);
    const truth = arrayOf("truth", cut, index);
    const overlay = bench.get("overlay");
    const opacity = bench.get("opacity");
    const palette = colours();
    const shown = overlay === "truth" ? truth : labels;
    if ((overlay === "prediction" || overlay === "truth") && shown) {
      if (!bench.get("outline")) layer.fill(context, box, shown, palette, opacity);
      layer.outline(context, box, edges(shown, cut.rows, cut.columns), palette, 1.6 * ratio);
    } else if (overlay === "right and wrong" && labels && truth) {
      const verdict = new Uint8Array(cut.size);
      agreement(truth, labels, verdict);
      const [right, ...wrong] = Object.values(bench.about.agreement);
      layer.fill(context, box, verdict, [null, right], 0.3 * opacity);
      layer.fill(context, box, verdict, [null, null, ...wrong], (1 + opacity) / 2);
      layer.outline(context, box, edges(truth, cut.rows, cut.columns), palette.map((colour) => colour && "#ffffff"), 1.2 * ratio);
    } else if (overlay === "changed" && labels && !second) {
      const found = arrayOf("found", cut, index) ?? labels;
      layer.fill(context, box, labels.map((label, i) => Number(label !== found[i])), [null, bench.about.agreement.confused], Math.max(opacity, 0.5));
      layer.outline(context, box, edges(labels, cut.rows, cut.columns), palette, 1.4 * ratio);
    } else if (overlay === "models differ" && labels) {
      const others = second ? labelsOf(cut, index) : arrayOf("other", cut, index);
      if (others) layer.fill(context, box, labels.map((label, i) => Number(label !== others[i])), [null, bench.about.agreement.confused], Math.max(opacity, 0.5));
      layer.outline(context, box, edges(labels, cut.rows, cut.columns), palette, 1.4 * ratio);
    } else if (second) return true;
    else if (overlay === "confidence") {
      const sure = axis === 0 && bench.now ? cutOf(bench.now.confidence, cut, 0) : arrayOf("confidence", cut, index);
      if (sure) heat(layer, context, box, sure.map((value) => Math.min(255, 2 * (255 - value))));
    } else if (axis === 0) tokens(layer, context, cut, box, ratio, overlay, opacity);
    return true;
  };

  /** What lies over tokens, which only the slices themselves have. @type {(layer: Layer, context: CanvasRenderingContext2D, cut: Cut, box: Box, ratio: number, overlay: string, opacity: number) => void} */
  const tokens = (layer, context, cut, box, ratio, overlay, opacity) => {
    const { about, plans, selection } = bench;
    const codes = bench.held("codes");
    const index = selection.voxel[0];
    if (!about.cells) return;
    const [h, w] = about.cells;
    if (overlay === "codes" && codes?.known[index]) {
      const own = codes.data.subarray(index * h * w, (index + 1) * h * w);
      cut.copy(onPixels(Uint32Array.from(own, (code) => pixel(codeColour(code), opacity))), 0, layer.pixels);
      layer.put();
      layer.paint(context, box, false);
      const chosen = selection.by === "code" || selection.by === "cell" ? selection.code : own[bench.token];
      const where = cutOf(onPixels(Uint8Array.from(own, (code) => Number(code === chosen))), cut, 0);
      layer.outline(context, box, edges(where, cut.rows, cut.columns), [null, "#ffffff"], 2 * ratio);
    }
    const lit = heatOf(overlay);
    if (!lit || !plans) return;
    const top = Math.max(...lit.values, 1e-30);
    const places = onPixels(Uint8Array.from(lit.values, (value) => Math.round((255 * value) / top)));
    heat(layer, context, box, cutOf(places, cut, 0));
    if (overlay === "relation" && bench.listener >= 0) arrows(context, cut, box, ratio);
  };

  /** What is shown of the tokens: values as times an even share, and what they are in words. @param {string} overlay */
  const heatOf = (overlay) => {
    const { plans, row, listener: token } = bench;
    const head = bench.get("head");
    if (!plans) return null;
    if (overlay === "relation" && row >= 0) {
      return { values: relation(plans, head, row, token), title: token < 0 ? `code ${plans.names[row]} hears` : "it hears" };
    }
    if (overlay === "reference") {
      const column = bench.column >= 0 ? bench.column : row >= 0 ? strongest(plans, "receiving", head, row, 1, token)[0].reference : -1;
      if (column >= 0) return { values: coverage(plans, "sending", head, column), title: `r${column} gathers` };
    }
    return null;
  };

  /** From the selected pixel to where the matter of its strongest references lies. @type {(context: CanvasRenderingContext2D, cut: Cut, box: Box, ratio: number) => void} */
  const arrows = (context, cut, box, ratio) => {
    const { plans, row, about } = bench;
    const [pane] = panes;
    if (!plans || row < 0 || !pane || !about.cells) return;
    const [, H, W] = about.shape;
    const [h, w] = about.cells;
    const tokenMm = [(H / h) * about.spacing_mm[1], (W / w) * about.spacing_mm[2]];
    const head = bench.get("head");
    const start = pane.pointOf(bench.selection.voxel, box);
    farther = [];
    for (const { reference, share } of strongest(plans, "receiving", head, row, ARROWS, bench.token)) {
      const at = matter(plans, head, reference, tokenMm);
      if (Number.isNaN(at.row) || share < 0.05) continue;
      const voxel = [bench.selection.voxel[0], (at.row * H) / h - 0.5, (at.column * W) / w - 0.5];
      const end = pane.pointOf(voxel, box);
      const [dr, dc] = [(voxel[1] - bench.selection.voxel[1]) * about.spacing_mm[1], (voxel[2] - bench.selection.voxel[2]) * about.spacing_mm[2]];
      const radius = (at.spreadMm / (H * about.spacing_mm[1])) * (cut.plane.down === 1 ? box[3] : box[2]);
      arrow(context, start, end, radius, ratio, share, `r${reference}`);
      farther.push(`r${reference} ${Math.round(100 * share)} %: ${Math.hypot(dr, dc).toFixed(0)} ± ${at.spreadMm.toFixed(0)} ${about.unit}`);
    }
  };

  /** Values of tokens on the pixels of the slice. @param {ArrayLike<number>} values */
  const onPixels = (values) => {
    const [, H, W] = bench.about.shape;
    const [h, w] = /** @type {number[]} */ (bench.about.cells);
    const all = new Uint32Array(H * W);
    for (let i = 0, k = 0; i < H; i += 1) {
      const first = Math.floor((i * h) / H) * w;
      for (let j = 0; j < W; j += 1, k += 1) all[k] = values[first + Math.floor((j * w) / W)];
    }
    return all;
  };

  /** @param {Cut} cut @param {number} index */
  const labelsOf = (cut, index) => {
    const { now } = bench;
    return cut.plane.axis === 0 && now ? cutOf(now.labels, cut, 0) : arrayOf("found", cut, index);
  };
  /** @param {string} name @param {Cut} cut @param {number} index */
  const arrayOf = (name, cut, index) => {
    const held = bench.held(name);
    const here = held && (cut.plane.axis === 0 ? held.known[index] : held.rows === bench.about.shape[0]);
    return here && held ? cutOf(held.data, cut, index) : null;
  };
  const colours = () => {
    /** @type {(string | null)[]} */
    const table = [];
    for (const { label, colour } of bench.about.structures) table[label] = colour;
    return table;
  };

  /** Values from 0 to 255 in the colours of heat. @type {(layer: Layer, context: CanvasRenderingContext2D, box: Box, values: Uint8Array) => void} */
  const heat = (layer, context, box, values) => {
    values.forEach((value, i) => (layer.pixels[i] = HEAT[value]));
    layer.put();
    layer.paint(context, box, false);
  };

  const showKey = () => {
    const overlay = bench.get("overlay");
    const lit = heatOf(overlay);
    const swatch = (/** @type {string} */ name, /** @type {string} */ colour) =>
      element("span", { className: "l2g-key" }, element("span", { className: "l2g-swatch", style: { background: colour } }), name);
    const bar = (/** @type {string} */ title, /** @type {string} */ high) =>
      element("span", { className: "l2g-key" }, `${title}: 0`, element("i", { className: "l2g-bench-bar", style: { background: `${HEAT_COLOURS.css}, #555` } }), high);
    /** @type {(Node | string)[]} */
    let parts = [];
    if (["prediction", "truth", "changed", "models differ"].includes(overlay)) parts = bench.about.structures.map(({ name, colour }) => swatch(name, colour));
    if (overlay === "changed") parts.push(swatch(`changed (${bench.now?.changed ?? "…"} pixels)`, bench.about.agreement.confused));
    if (overlay === "models differ") parts.push(swatch("the models differ", bench.about.agreement.confused));
    if (overlay === "right and wrong") parts = bench.about.truth ? Object.entries(bench.about.agreement).map(([name, colour]) => swatch(name, colour)) : [element("span", {}, "this scan has no label map")];
    if (overlay === "truth" && !bench.about.truth) parts = [element("span", {}, "this scan has no label map")];
    if (overlay === "confidence") parts = [bar("1 − probability of the label", "½ and more")];
    const most = Math.max(...(lit?.values ?? []));
    if (lit) parts = [most > 0 ? bar(lit.title, `${brief(most)} × an even share`) : element("span", {}, `${lit.title} nothing`), ...(overlay === "relation" && bench.listener >= 0 ? farther.map((text) => element("span", { title: "a reference, its share of what the pixel hears, how far away its matter lies, and its spread" }, text)) : [])];
    if (overlay === "codes" && bench.about.cells) parts = [element("span", {}, "a colour a code; the selected one is outlined")];
    if (["codes", "reference", "relation"].includes(overlay)) {
      if (bench.get("plane")) parts = [element("span", {}, "tokens lie in slices: choose the first plane")];
      else if (!parts.length) parts = [element("span", {}, bench.about.missing || "select a pixel, a code or a reference")];
    }
    const without = leftAlone(bench);
    if (without) parts = [...(overlay === "changed" ? [] : parts), element("span", {}, without)];
    legend.replaceChildren(...parts);
  };

  const readOut = () => {
    const { about } = bench;
    const voxel = panes.map((pane) => pane.hovered).find(Boolean) ?? bench.selection.voxel;
    const [d, h, w] = voxel;
    const [, H, W] = about.shape;
    const at = (d * H + h) * W + w;
    const value = (/** @type {string} */ name) => {
      const held = bench.held(name);
      return held?.known[d] ? held.data[at] : null;
    };
    const grey = value("images");
    const parts = [`slice ${d + 1}, row ${h + 1}, column ${w + 1}`];
    if (about.affine) parts.push(millimetres(voxel, about.affine, about.spacing_mm));
    if (grey !== null) parts.push(`value ${brief(about.range[0] + (grey / 255) * (about.range[1] - about.range[0]))}`);
    const label = bench.now && d === bench.selection.voxel[0] ? bench.now.labels[h * W + w] : value("found");
    if (label !== null) parts.push(about.structures.find((each) => each.label === label)?.name ?? "background");
    place.textContent = parts.join(" · ");
  };

  const show = () => {
    build();
    const { about, selection } = bench;
    const { axis } = about.planes[bench.get("plane")];
    slider.max = String(about.shape[axis] - 1);
    slider.value = String(selection.voxel[axis]);
    for (const pane of panes) pane.draw();
    showKey();
    readOut();
  };
  return { frame, slider, legend, place, show, fit };
}

/**
 * An arrow with a circle around its end.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {number[]} start
 * @param {number[]} end
 * @param {number} radius
 * @param {number} ratio
 * @param {number} share
 * @param {string} text
 */
function arrow(context, start, end, radius, ratio, share, text) {
  const angle = Math.atan2(end[1] - start[1], end[0] - start[0]);
  for (const [colour, line] of /** @type {const} */ ([["#000", 4], ["#fff", 1.6]])) {
    context.strokeStyle = colour;
    context.globalAlpha = 0.35 + 0.65 * share;
    context.lineWidth = line * ratio;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(start[0], start[1]);
    context.lineTo(end[0], end[1]);
    for (const turn of [2.6, -2.6]) {
      context.moveTo(end[0], end[1]);
      context.lineTo(end[0] + 8 * ratio * Math.cos(angle + turn), end[1] + 8 * ratio * Math.sin(angle + turn));
    }
    context.stroke();
    context.setLineDash([3 * ratio, 3 * ratio]);
    context.beginPath();
    context.arc(end[0], end[1], radius, 0, 2 * Math.PI);
    context.stroke();
    context.setLineDash([]);
  }
  context.globalAlpha = 1;
  context.font = `600 ${11 * ratio}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.textAlign = "left";
  context.lineWidth = 3 * ratio;
  context.strokeStyle = "#000";
  context.strokeText(text, end[0] + 6 * ratio, end[1] + 12 * ratio);
  context.fillStyle = "#fff";
  context.fillText(text, end[0] + 6 * ratio, end[1] + 12 * ratio);
}
