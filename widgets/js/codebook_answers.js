// What CodebookExplorer counts and lights without Python (l2gnet/inspection/code_atlas.py).

import { bytesOf, descending, numbers, percent, pointed, rounded } from "./answers.js";

/** @import { Saved } from "./page.js" */
/**
 * The slices of each volume with their codes, and of each code the pixels of each label under it.
 *
 * @typedef {{volumes: {images: DataView, codes: DataView, slices: number[]}[], size_px: number[], pixels: DataView, patch_px: number}} Data
 */
/** @typedef {{volume: number, d: number, codes: Int32Array}} Slice its place, and the code of each of its cells */

const EXAMPLES = 8;
/** @param {ArrayLike<number>} values */
const sum = (values) => Array.from(values).reduce((total, each) => total + each, 0);

/**
 * @param {Saved} model
 * @param {Data} data
 */
export default (model, { volumes, size_px: [H, W], pixels: pixelBytes, patch_px: side }) => {
  const { cells: [h, w], labels, classes, volumes: names } = model.get("book");
  const K = labels.length;
  const pixels = numbers(Float32Array, pixelBytes);
  const images = volumes.map((volume) => numbers(Uint8Array, volume.images));
  /** @type {Slice[]} in the order of the data set */
  const all = [];
  volumes.forEach(({ codes, slices }, volume) => {
    const every = numbers(Int32Array, codes);
    slices.forEach((place, d) => (all[place] = { volume, d, codes: every.subarray(d * h * w, (d + 1) * h * w) }));
  });
  let { volume } = model.traits;
  const depth = () => volumes[volume].slices.length;
  const voxelNow = () => model.get("selection").voxel ?? [depth() >> 1, H >> 1, W >> 1];
  const here = () => all[volumes[volume].slices[voxelNow()[0]]];

  function among() {
    const { scope } = model.traits;
    if (scope === "data set") return all;
    return scope === "slice" ? [here()] : volumes[volume].slices.map((place) => all[place]);
  }

  function open() {
    ({ volume } = model.traits);
    const [d, ...rest] = voxelNow();
    model.publish("images", volumes[volume].images, [depth(), H, W]);
    model.set("selection", { ...model.get("selection"), voxel: [Math.min(d, depth() - 1), ...rest] });
  }

  function count() {
    const slices = among();
    const counts = new Float32Array(K);
    let distinct = 0;
    for (const { codes } of slices) {
      for (const code of codes) counts[code] += 1;
      distinct += new Set(codes).size;
    }
    const total = counts.reduce((sum, n) => sum + n, 0);
    const used = counts.filter((n) => n > 0);
    const entropy = -used.reduce((sum, n) => sum + (n / total) * Math.log(n / total), 0);
    const { order, scope } = model.traits;
    const unused = scope === "data set" ? "dead" : `not in this ${scope}`;
    const byUsage = descending(counts);
    const byLabel = [...byUsage].sort((one, two) => labels[one] - labels[two]);
    model.set("usage", {
      counts: bytesOf(counts),
      order: { index: [...counts.keys()], usage: byUsage, label: byLabel }[/** @type {"index" | "usage" | "label"} */ (order)],
      text:
        `${K} codes: ${used.length} used, ${K - used.length} ${unused} · ` +
        `perplexity ${Math.exp(entropy).toFixed(1)} · ${(distinct / slices.length).toFixed(1)} codes a slice`,
      top: Math.max(...counts) / total,
    });
    return counts;
  }

  function codeNow() {
    const { selection } = model.traits;
    if (pointed(selection) !== "voxel" && "code" in selection) return selection.code;
    const [, y, x] = voxelNow();
    return here().codes[Math.floor((y * h) / H) * w + Math.floor((x * w) / W)];
  }

  /** The group, or else the code that is selected. @returns {number[]} */
  const litCodes = () => (model.get("group").length ? model.get("group") : [codeNow()]);

  /**
   * The image around a cell, a square; beyond the border it is 0.
   *
   * @param {Slice} slice
   * @param {number} cell
   */
  function patch({ volume, d }, cell) {
    const top = rounded(((Math.floor(cell / w) + 0.5) * H) / h - side / 2);
    const left = rounded((((cell % w) + 0.5) * W) / w - side / 2);
    return Uint8Array.from({ length: side * side }, (_, i) => {
      const [y, x] = [top + Math.floor(i / side), left + (i % side)];
      return y >= 0 && y < H && x >= 0 && x < W ? images[volume][(d * H + y) * W + x] : 0;
    });
  }

  /**
   * Some of the cells that have one of the codes, spread evenly over all of them.
   *
   * @param {number[]} wanted
   * @returns {[Slice, number][]}
   */
  function examples(wanted) {
    /** @type {[Slice, number][]} */
    const places = [];
    for (const slice of among()) slice.codes.forEach((each, cell) => wanted.includes(each) && places.push([slice, cell]));
    const shown = Math.min(EXAMPLES, places.length);
    const last = places.length - 1;
    return Array.from({ length: shown }, (_, i) => places[shown > 1 ? rounded((i * last) / (shown - 1)) : 0]);
  }

  /** As CodebookExplorer._light does. */
  function light(/** @type {Float32Array} */ counts) {
    const slices = among();
    const code = codeNow();
    if (!(code >= 0 && code < K)) throw new Error(`code must lie in 0..${K - 1}, the codebook, got ${code}`);
    const wanted = litCodes();
    const heat = new Float32Array(h * w);
    for (const { codes } of slices) codes.forEach((each, cell) => (heat[cell] += Number(wanted.includes(each))));
    heat.forEach((times, cell) => (heat[cell] = times / slices.length));
    const chosen = examples(wanted);
    const shown = chosen.length;
    const patches = new Uint8Array(shown * side * side);
    chosen.forEach(([slice, cell], i) => patches.set(patch(slice, cell), i * side * side));
    const L = pixels.length / K;
    const under = Array.from({ length: L }, (_, label) => sum(wanted.map((each) => pixels[each * L + label])));
    const own = under.map((count) => count / Math.max(sum(under), 1));
    const purity = Math.max(...own);
    const named = wanted.length > 1 ? `${wanted.length} codes` : `code ${wanted[0]}`;
    const fire = wanted.length > 1 ? "fire" : "fires";
    const words = [`${named} ${fire} at ${percent(sum(wanted.map((each) => counts[each])) / sum(counts), 1)} of the pixels`];
    if (classes.length && purity) words.push(`purity ${percent(purity)} ${classes[own.indexOf(purity)]}`);
    const { scope } = model.traits;
    model.set("lit", {
      code,
      group: [...model.get("group")],
      named,
      heat: bytesOf(heat),
      top: Math.max(...heat),
      unit: scope === "slice" ? "(fires)" : `of the slices of the ${scope}`,
      title: `where ${named} ${fire}`,
      patches: shown ? new DataView(patches.buffer) : null,
      patch_px: side,
      count: shown,
      places: chosen.map(([{ volume: number, d }]) => `${names[number]}, slice ${d + 1}`),
      shares: own,
      text: words.join(" · "),
    });
  }

  return {
    visit(/** @type {{example: number}} */ { example }) {
      const [{ volume: number, d, codes }, cell] = examples(litCodes())[example];
      const code = codes[cell];
      const [row, column] = [Math.floor(cell / w), cell % w];
      const voxel = [d, Math.floor(((2 * row + 1) * H) / (2 * h)), Math.floor(((2 * column + 1) * W) / (2 * w))];
      model.set("volume", number);
      model.set("selection", { ...model.get("selection"), voxel, code, by: "code" });
      model.save_changes();
    },
    changed(/** @type {string[]} */ names) {
      if (names.includes("volume")) open();
      if (names.includes("selection") && pointed(model.get("selection")) === "voxel") model.set("group", []);
      const [d] = voxelNow();
      if (d < 0 || d >= depth()) throw new Error(`slice must lie in 0..${depth() - 1}, got ${d}`);
      model.set("place", { images: [depth(), H, W], index: d, codes: [...here().codes] });
      light(count());
    },
  };
};
