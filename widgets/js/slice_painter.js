// How a slice viewer's slices are painted: greys, structures or errors, the tokens of a code.

import { Layer } from "./layers.js";
import { agreement, edges } from "./slices.js";

/** @import { Box } from "./drawing.js" */
/** @import { Cut, Run } from "./slices.js" */
/** @import { SliceState } from "./slice_state.js" */
/** @typedef {{context: CanvasRenderingContext2D, box: Box, ratio: number, index: number}} Sheet where a slice is painted */
/** @typedef {{of: unknown[], labels: Uint8Array, runs: Run[] | null}} Seen the visible labels of a slice, and their edges */

const DASHES = [[], [6, 4], [2, 3], [8, 3, 2, 3]];
const RIGHT = 0.35; // of the opacity: errors are seen before what is right
const SLOPES = [[], [1], [-1], [1, -1]]; // of the hatching of right, added, missed and confused

/** Paints slices of one plane, with the maps `shown` on them. */
export class SlicePainter {
  /**
   * @param {SliceState} state
   * @param {Cut} cut
   * @param {string[]} shown
   */
  constructor(state, cut, shown) {
    this.state = state;
    this.cut = cut;
    this.shown = shown;
    this.grey = new Layer(cut);
    this.over = new Layer(cut);
    this.painted = { index: -1, moment: 0, window: [0, 0], rows: 0 }; // what lies on the grey layer
    this.verdicts = new Uint8Array(cut.size);
    /** @type {Map<string, Seen>} */
    this.seen = new Map(); // of each map, while the slice is the same
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Box} box
   * @param {number} ratio
   */
  paint(context, box, ratio) {
    const { state, cut } = this;
    const index = state.voxel[cut.plane.axis];
    const volume = state.part("volume");
    if (!volume || !(cut.plane.axis === 0 ? volume.known[index] : volume.known.includes(1))) return false;
    const window = state.get("window");
    const { moment } = state;
    const { painted } = this;
    const moved = painted.index !== index || painted.moment !== moment;
    if (moved || painted.window !== window || painted.rows !== volume.rows) {
      const { table, shift } = state.greys(volume.data);
      cut.copy(volume.data, index, this.grey.pixels, table, shift);
      this.grey.put();
      this.painted = { index, moment, window, rows: volume.rows };
    }
    this.grey.paint(context, box, true);
    const sheet = { context, box, ratio, index };
    const compared = state.get("mode") === "errors" && this.shown.find((name) => name !== state.maps[0]);
    if (compared) this.paintErrors(sheet, compared);
    else this.paintLabels(sheet);
    this.paintCode(sheet);
    return true;
  }

  /**
   * The visible labels of a map on a slice, and what is not known: 0 where they are hidden or not here yet.
   *
   * @param {string} name
   * @param {number} index
   */
  see(name, index) {
    const { state, cut } = this;
    const array = state.part(`labels of ${name}`);
    const of = [index, state.moment, state.visible, array?.version, array?.rows];
    const last = this.seen.get(name);
    if (last && of.every((part, i) => part === last.of[i])) return last;
    const labels = last?.labels ?? new Uint8Array(cut.size);
    const table = new Uint8Array(256);
    for (const label of state.visible) table[label] = label;
    if (state.unknown) table[state.unknown] = state.unknown;
    if (array) cut.copy(array.packed ?? array.data, index, labels, table);
    /** @type {Seen} */
    const seen = { of, labels, runs: null };
    this.seen.set(name, seen);
    return seen;
  }

  /** @param {Seen} seen */
  edgesOf(seen) {
    seen.runs ??= edges(seen.labels, this.cut.rows, this.cut.columns);
    return seen.runs;
  }

  /** @param {Sheet} sheet */
  paintLabels({ context, box, ratio, index }) {
    const { state, over } = this;
    const fill = state.get("overlay") === "fill";
    this.shown.forEach((name, position) => {
      const seen = this.see(name, index);
      const filled = fill && position === 0;
      if (filled) over.fill(context, box, seen.labels, state.colours, state.get("opacity"));
      const dash = DASHES[state.maps.indexOf(name) % DASHES.length].map((length) => length * ratio);
      over.outline(context, box, this.edgesOf(seen), state.colours, Math.round((filled ? 1 : 2) * ratio), dash);
    });
  }

  /**
   * Errors in full colour, what is right faintly, the truth in white: the verdicts need the colours.
   *
   * @param {Sheet} sheet
   * @param {string} compared
   */
  paintErrors({ context, box, ratio, index }, compared) {
    const { state, over, verdicts, cut } = this;
    const opacity = state.get("opacity");
    const truth = this.see(state.maps[0], index);
    agreement(truth.labels, this.see(compared, index).labels, verdicts, state.unknown);
    const [right, ...wrong] = Object.values(state.about.agreement);
    over.fill(context, box, verdicts, [null, right], RIGHT * opacity);
    const white = state.colours.map(() => "#ffffff"); // what is not known has no colour, and no outline
    over.outline(context, box, this.edgesOf(truth), white, ratio);
    if (state.about.hatched) {
      for (let k = 2; k <= 4; k += 1) over.hatch(context, box, verdicts, k, wrong[k - 2], SLOPES[k - 1], ratio);
      const errors = verdicts.map((verdict) => (verdict > 1 ? verdict : 0));
      over.outline(context, box, edges(errors, cut.rows, cut.columns), [null, null, ...wrong], Math.round(2 * ratio));
    } else over.fill(context, box, verdicts, [null, null, ...wrong], (1 + opacity) / 2);
  }

  /** @param {Sheet} sheet */
  paintCode({ context, box, ratio, index }) {
    const { state, cut, over } = this;
    const { code } = state.get("selection");
    if (code === undefined || !state.part("codes")) return;
    const tokens = this.verdicts;
    let i = 0;
    for (let row = 0; row < cut.rows; row += 1) {
      for (let column = 0; column < cut.columns; column += 1) {
        tokens[i++] = state.codeAt(cut.voxel(index, row, column)) === code ? 1 : 0;
      }
    }
    over.fill(context, box, tokens, [null, "#ffffff"], 0.25);
    over.outline(context, box, edges(tokens, cut.rows, cut.columns), [null, "#ffffff"], ratio);
  }
}
