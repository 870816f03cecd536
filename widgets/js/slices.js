// Slices of volumes, and how they are painted. No element and no trait is known here.

import { Packed } from "./packed.js";

/** @import { Values } from "./viewer.js" */
/**
 * As widgets/planes.py describes it.
 *
 * @typedef {object} Plane
 * @property {string} name
 * @property {number} axis
 * @property {number} down
 * @property {number} across
 * @property {boolean} flip_down
 * @property {boolean} flip_across
 * @property {string[]} letters
 */
/** @typedef {[label: number, x0: number, y0: number, x1: number, y1: number, inX: number, inY: number]} Run */

export const IGNORED = 255; // of a label map: neither learnt nor scored

/** Where the pixels of a plane's slices lie in an array (D, H, W). */
export class Cut {
  /**
   * @param {Plane} plane
   * @param {number[]} shape
   */
  constructor(plane, shape) {
    const strides = [shape[1] * shape[2], shape[2], 1];
    this.plane = plane;
    this.rows = shape[plane.down];
    this.columns = shape[plane.across];
    this.through = strides[plane.axis];
    this.inVolume = this.walk(strides[plane.down], strides[plane.across]);
    const last = plane.axis === 2 ? 1 : 2; // the axis along which neighbours lie in a slice alone
    this.inSlice = this.walk(plane.down === last ? 1 : shape[last], plane.across === last ? 1 : shape[last]);
    this.count = shape[plane.axis];
    this.size = this.rows * this.columns;
  }

  /**
   * Where the first pixel lies, and the steps down and across from there.
   *
   * @param {number} strideDown
   * @param {number} strideAcross
   */
  walk(strideDown, strideAcross) {
    const down = this.plane.flip_down ? -strideDown : strideDown;
    const across = this.plane.flip_across ? -strideAcross : strideAcross;
    return { first: Math.max(0, -down) * (this.rows - 1) + Math.max(0, -across) * (this.columns - 1), down, across };
  }

  /**
   * Copy the slice at `index` to `target`, row by row, each value as `table` translates it, if there is one.
   *
   * @param {Values | Uint32Array | Packed} source
   * @param {number} index
   * @param {Uint8Array | Uint32Array} target
   * @param {Uint8Array | Uint32Array | null} table
   * @param {number} shift
   */
  copy(source, index, target, table = null, shift = 0) {
    const { rows, columns } = this;
    const packed = source instanceof Packed;
    const data = packed ? source.slice(this.plane.axis, index) : source;
    const { first, down, across } = packed ? this.inSlice : this.inVolume;
    const start = first + (packed ? 0 : index * this.through);
    let k = 0;
    for (let row = 0; row < rows; row += 1) {
      let i = start + row * down;
      if (table) for (let column = 0; column < columns; column += 1, i += across) target[k++] = table[data[i] + shift];
      else for (let column = 0; column < columns; column += 1, i += across) target[k++] = data[i];
    }
  }

  /**
   * The voxel [d, h, w] at a place of the picture.
   *
   * @param {number} index
   * @param {number} row
   * @param {number} column
   */
  voxel(index, row, column) {
    const { axis, down, across, flip_down: flipDown, flip_across: flipAcross } = this.plane;
    const voxel = [0, 0, 0];
    voxel[axis] = index;
    voxel[down] = flipDown ? this.rows - 1 - row : row;
    voxel[across] = flipAcross ? this.columns - 1 - column : column;
    return voxel;
  }

  /**
   * The place [row, column] of a voxel in the picture.
   *
   * @param {number[]} voxel
   */
  place(voxel) {
    const { down, across, flip_down: flipDown, flip_across: flipAcross } = this.plane;
    const row = flipDown ? this.rows - 1 - voxel[down] : voxel[down];
    return [row, flipAcross ? this.columns - 1 - voxel[across] : voxel[across]];
  }
}

/**
 * The grey of every stored intensity between low and high, as pixels; `shift` makes the lowest one index 0.
 *
 * @param {Values} data
 * @param {number[]} scale
 * @param {number[]} window
 */
export function greys(data, [slope, intercept], [low, high]) {
  const shift = data instanceof Int16Array ? 32768 : 0;
  const table = new Uint32Array(data.BYTES_PER_ELEMENT === 1 ? 256 : 65536);
  const gain = 255 / Math.max(high - low, 1e-9);
  for (let i = 0; i < table.length; i += 1) {
    const grey = Math.min(Math.max((slope * (i - shift) + intercept - low) * gain, 0), 255) | 0;
    table[i] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  return { table, shift };
}

/**
 * "#rrggbb" with an opacity as one pixel of ImageData.
 *
 * @param {string} colour
 * @param {number} opacity
 */
export function pixel(colour, opacity) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return ((Math.round(opacity * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/**
 * The box [top, bottom, left, right) of what is not 0; empty where all is.
 *
 * @param {ArrayLike<number>} labels
 * @param {number} rows
 * @param {number} columns
 */
function extent(labels, rows, columns) {
  const size = rows * columns;
  let first = 0;
  let last = size - 1;
  while (first < size && labels[first] === 0) first += 1;
  while (last > first && labels[last] === 0) last -= 1;
  if (first === size) return [0, 0, 0, 0];
  const [top, bottom] = [Math.floor(first / columns), Math.floor(last / columns) + 1];
  let [left, right] = [columns, 0];
  for (let row = top; row < bottom; row += 1) {
    const start = row * columns;
    for (let column = 0; column < left; column += 1) if (labels[start + column] !== 0) left = column;
    for (let column = columns - 1; column >= right; column -= 1) if (labels[start + column] !== 0) right = column + 1;
  }
  return [top, bottom, left, right];
}

/**
 * The edges of labels as runs [label, x0, y0, x1, y1, inward x, inward y] in pixels; labels are 0 where unseen.
 *
 * @param {ArrayLike<number>} labels
 * @param {number} rows
 * @param {number} columns
 */
export function edges(labels, rows, columns) {
  const [top, bottom, left, right] = extent(labels, rows, columns);
  const corner = top * columns + left;
  /** @type {Run[]} */
  const runs = [];
  /**
   * @param {number} lines
   * @param {number} places
   * @param {number} lineStep
   * @param {number} placeStep
   * @param {(label: number, line: number, start: number, stop: number, inward: number) => void} add
   */
  const scan = (lines, places, lineStep, placeStep, add) => {
    for (let line = 0; line <= lines; line += 1) {
      let before = 0;
      let after = 0;
      let start = 0;
      let i = corner + line * lineStep;
      for (let place = 0; place <= places; place += 1, i += placeStep) {
        const a = line > 0 && place < places ? labels[i - lineStep] : 0;
        const b = line < lines && place < places ? labels[i] : 0;
        if (a === before && b === after) continue;
        if (before !== after) {
          if (before) add(before, line, start, place, -1);
          if (after) add(after, line, start, place, 1);
        }
        before = a;
        after = b;
        start = place;
      }
    }
  };
  const [high, wide] = [bottom - top, right - left];
  scan(high, wide, columns, 1, (label, y, x0, x1, inward) => runs.push([label, left + x0, top + y, left + x1, top + y, 0, inward]));
  scan(wide, high, 1, columns, (label, x, y0, y1, inward) => runs.push([label, left + x, top + y0, left + x, top + y1, inward, 0]));
  return runs;
}

/**
 * Stroke edges, each just inside its label, so that neighbours keep their colours; a pixel is scaleX x scaleY large.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Run[]} runs
 * @param {number[]} placed
 * @param {(string | null | undefined)[]} colours
 * @param {number} width
 * @param {number[]} dash
 */
export function strokeEdges(context, runs, [left, top, scaleX, scaleY], colours, width, dash) {
  /** @type {Map<number, Path2D>} */
  const paths = new Map();
  const inset = width / 2;
  for (const [label, x0, y0, x1, y1, inX, inY] of runs) {
    const path = paths.get(label) ?? new Path2D();
    paths.set(label, path);
    // On whole pixels of the screen, so that lines are crisp and neighbours do not mix.
    path.moveTo(Math.round(left + x0 * scaleX) + inX * inset, Math.round(top + y0 * scaleY) + inY * inset);
    path.lineTo(Math.round(left + x1 * scaleX) + inX * inset, Math.round(top + y1 * scaleY) + inY * inset);
  }
  context.lineWidth = width;
  context.lineCap = dash.length ? "butt" : "square";
  context.setLineDash(dash);
  for (const [label, path] of paths) {
    const colour = colours[label];
    if (!colour) continue; // a canvas would keep the colour before
    context.strokeStyle = colour;
    context.stroke(path);
  }
  context.setLineDash([]);
}

/**
 * 0 where both are background, 1 correct, 2 false positive, 3 false negative, 4 one structure taken for another.
 *
 * Also 0 where either is not known.
 *
 * @param {Uint8Array} truth
 * @param {Uint8Array} predicted
 * @param {Uint8Array} target
 * @param {number | null} unknown the label of what is not known; null where each is a structure
 */
export function agreement(truth, predicted, target, unknown = IGNORED) {
  for (let i = 0; i < target.length; i += 1) {
    const t = truth[i];
    const p = predicted[i];
    if (t === unknown || p === unknown) target[i] = 0;
    else if (t === p) target[i] = t ? 1 : 0;
    else if (!t) target[i] = 2;
    else target[i] = p ? 4 : 3;
  }
}

/**
 * Where a key leads from `index` among `count` slices; undefined for keys that lead nowhere.
 *
 * @param {string} key
 * @param {number} index
 * @param {number} count
 * @returns {number | undefined}
 */
export function stepped(key, index, count) {
  /** @type {Record<string, number>} */
  const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 };
  const to = { Home: 0, End: count - 1 }[key] ?? index + steps[key];
  return Number.isNaN(to) ? undefined : Math.min(Math.max(to, 0), count - 1);
}

const STEP_PX = 60; // of a trackpad, for one slice

/**
 * The slices to step after the wheel has turned by `delta`, and the distance that is left for the next turn.
 *
 * A notch of a mouse, 100 to 120 pixels, is one slice; what a trackpad sends is gathered.
 *
 * @param {number} gathered
 * @param {number} delta
 */
export function scrolled(gathered, delta) {
  const distance = gathered * delta < 0 ? delta : gathered + delta;
  if (Math.abs(distance) < STEP_PX) return { steps: 0, left: distance };
  return { steps: -Math.sign(distance) * Math.max(1, Math.round(Math.abs(distance) / 120)), left: 0 };
}

/**
 * The length of a line between two places [d, h, w], in mm.
 *
 * @param {number[]} one
 * @param {number[]} two
 * @param {number[]} spacingMm
 */
export function lengthMm(one, two, spacingMm) {
  return Math.hypot(...one.map((place, axis) => (place - two[axis]) * spacingMm[axis]));
}

/**
 * A window after a drag by `dx`, which makes it wider, and `dy`, which raises its level, in pixels.
 *
 * @param {number[]} window
 * @param {number} dx
 * @param {number} dy
 */
export function dragged([low, high], dx, dy) {
  const width = (high - low) * Math.exp(dx / 200);
  const level = (low + high) / 2 + ((high - low) * dy) / 300;
  return [level - width / 2, level + width / 2];
}

/**
 * The place of a voxel in words: along the patient's axes where an affine to RAS leads there, else along the array's.
 *
 * @param {number[]} voxel
 * @param {number[][] | null} affine
 * @param {number[]} spacingMm
 */
export function millimetres(voxel, affine, spacingMm) {
  if (!affine) return `${voxel.map((index, axis) => (index * spacingMm[axis]).toFixed(1)).join(", ")} mm`;
  const world = affine.slice(0, 3).map((row) => row[3] + row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2]);
  return `${world.map((mm, axis) => `${"RAS LPI"[axis + (mm < 0 ? 4 : 0)]} ${Math.abs(mm).toFixed(1)}`).join("  ")} mm`;
}

/**
 * The area of pixels (H, W) in words, in cm² where their size is known in mm.
 *
 * @param {number} pixels
 * @param {number[]} spacingMm
 * @param {string} unit
 */
export function area(pixels, [, heightMm, widthMm], unit) {
  return unit === "mm" ? `${((pixels * heightMm * widthMm) / 100).toFixed(1)} cm²` : `${pixels} pixels`;
}

/**
 * The known values (D, L) of some labels on every slice.
 *
 * @param {{data: Values, shape: number[]}} values
 * @param {number[]} labels
 */
export function known({ data, shape: [D, L] }, labels) {
  return Array.from({ length: D }, (_, d) => labels.map((label) => data[d * L + label]).filter((value) => !Number.isNaN(value)));
}
