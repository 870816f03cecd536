// What a slice viewer shows: its traits and arrays, read and changed in one place.

import { Cut, IGNORED, greys } from "./slices.js";

/** @import { Held, Values, View } from "./viewer.js" */
/** @import { Plane } from "./slices.js" */
/**
 * What never changes of a viewer.
 *
 * @typedef {object} About
 * @property {number[]} shape
 * @property {number} frames
 * @property {number[]} spacing_mm
 * @property {number[][] | null} affine
 * @property {string} unit of its lengths, mm or voxels
 * @property {Plane[]} planes
 * @property {number[]} scale
 * @property {Record<string, number[]>} presets
 * @property {string[]} maps
 * @property {{label: number, name: string, colour: string}[]} structures
 * @property {Record<string, string>} agreement
 * @property {boolean} hatched
 */

export class SliceState {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.model = view.model;
    this.arrays = view.arrays;
    /** @type {About} */
    this.about = view.model.get("about");
    this.shape = this.about.shape;
    // Moments that can be looked at: a saved page has but one.
    this.moments = this.arrays.offers().volume.shape[0] / this.shape[0];
    this.maps = this.about.maps;
    this.structures = this.about.structures;
    this.cuts = this.about.planes.map((plane) => new Cut(plane, this.shape));
    /** @type {string[]} */
    this.colours = [];
    for (const { label, colour } of this.structures) this.colours[label] = colour;
    /** @type {Record<number, string>} */
    this.names = Object.fromEntries(this.structures.map(({ label, name }) => [label, name]));
    this.unknown = this.names[IGNORED] ? null : IGNORED;
    this.table = { window: [NaN, NaN], ...greys(new Uint8Array(), [1, 0], [0, 0]) };
  }

  /** @param {string} trait */
  get(trait) {
    return this.model.get(trait);
  }

  /** The voxel that is pointed at; for one that a larger scan has, the nearest. @returns {number[]} */
  get voxel() {
    return this.view.voxelIn(this.shape).map((n, axis) => Math.min(Math.max(n, 0), this.shape[axis] - 1));
  }

  /** @returns {number} */
  get moment() {
    return this.get("frame");
  }

  /** The moment in words, where there are several. */
  get when() {
    return this.about.frames > 1 ? `moment ${this.moment + 1} of ${this.about.frames}` : "";
  }

  /** Look at another moment, round and round. @param {number} moment */
  goTo(moment) {
    this.view.set({ frame: (moment + this.moments) % this.moments });
  }

  /**
   * Whether the slice that is looked at, or all of them, are here of a moment.
   *
   * @param {number} moment
   */
  isHere(moment) {
    const [D] = this.shape;
    const [first, end] = this.get("three_planes") ? [0, D] : [this.voxel[0], this.voxel[0] + 1];
    return Object.entries(this.arrays.offers()).every(([name, { rows }]) => {
      const known = this.arrays.get(name)?.known;
      return !rows || (known && !known.subarray(moment * D + first, moment * D + end).includes(0));
    });
  }

  /**
   * An array as far as it is here, of the moment that is shown.
   *
   * @param {string} name
   * @returns {Held | undefined}
   */
  part(name) {
    const array = this.arrays.get(name);
    const [D] = this.shape;
    if (!array || array.shape[0] === D) return array;
    const [first, end] = [this.moment * D, (this.moment + 1) * D];
    const row = array.data.length / array.shape[0];
    const [known, data] = [array.known.subarray(first, end), array.data.subarray(first * row, end * row)];
    return { ...array, shape: [D, ...array.shape.slice(1)], known, data, packed: array.packed?.slices(first, end) };
  }

  /** @returns {string[]} */
  get shown() {
    return this.maps.filter((name) => this.get("shown").includes(name));
  }

  /** @returns {number[]} */
  get visible() {
    return this.get("visible");
  }

  /** @param {number[]} labels */
  showStructures(labels) {
    this.view.set({ visible: this.structures.map(({ label }) => label).filter((label) => labels.includes(label)) });
  }

  /**
   * The grey of each stored intensity in the window.
   *
   * @param {Values} data
   */
  greys(data) {
    const window = this.get("window");
    if (this.table.window !== window) this.table = { window, ...greys(data, this.about.scale, window) };
    return this.table;
  }

  /**
   * Go to a slice along an axis.
   *
   * @param {number} axis
   * @param {number} index
   */
  move(axis, index) {
    const voxel = [...this.voxel];
    voxel[axis] = Math.min(Math.max(index, 0), this.shape[axis] - 1);
    if (voxel[axis] !== this.voxel[axis]) this.view.select({ voxel });
  }

  /**
   * Select a voxel, and its code if there are codes.
   *
   * @param {number[]} voxel
   */
  point(voxel) {
    this.view.select({ voxel, by: "voxel", ...(this.part("codes") ? { code: this.codeAt(voxel) } : {}) });
  }

  /** @param {number[]} voxel */
  codeAt([d, h, w]) {
    const codes = this.part("codes");
    if (!codes || !codes.known[d]) return null;
    const [, rows, columns] = codes.shape;
    const [row, column] = [Math.floor((h * rows) / this.shape[1]), Math.floor((w * columns) / this.shape[2])];
    return codes.data[(d * rows + row) * columns + column];
  }
}
