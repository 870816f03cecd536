// Slices of volumes, and how they are painted. No element and no trait is known here.

/** Where the pixels of a plane's slices lie in an array (D, H, W); a plane is as widgets/planes.py describes it. */
export class Cut {
  constructor(plane, shape) {
    const strides = [shape[1] * shape[2], shape[2], 1];
    this.plane = plane;
    this.rows = shape[plane.down];
    this.columns = shape[plane.across];
    this.through = strides[plane.axis];
    this.down = strides[plane.down] * (plane.flip_down ? -1 : 1);
    this.across = strides[plane.across] * (plane.flip_across ? -1 : 1);
    this.first = (this.down < 0 ? -this.down * (this.rows - 1) : 0) + (this.across < 0 ? -this.across * (this.columns - 1) : 0);
    this.size = this.rows * this.columns;
  }

  /** Copy the slice at `index` to `target`, row by row, each value as `table` translates it, if there is one. */
  copy(data, index, target, table = null, shift = 0) {
    const { rows, columns, down, across } = this;
    let k = 0;
    for (let row = 0; row < rows; row += 1) {
      let i = this.first + index * this.through + row * down;
      if (table) for (let column = 0; column < columns; column += 1, i += across) target[k++] = table[data[i] + shift];
      else for (let column = 0; column < columns; column += 1, i += across) target[k++] = data[i];
    }
  }

  /** The voxel [d, h, w] at a place of the picture. */
  voxel(index, row, column) {
    const { axis, down, across, flip_down: flipDown, flip_across: flipAcross } = this.plane;
    const voxel = [];
    voxel[axis] = index;
    voxel[down] = flipDown ? this.rows - 1 - row : row;
    voxel[across] = flipAcross ? this.columns - 1 - column : column;
    return voxel;
  }

  /** The place [row, column] of a voxel in the picture. */
  place(voxel) {
    const { down, across, flip_down: flipDown, flip_across: flipAcross } = this.plane;
    const row = flipDown ? this.rows - 1 - voxel[down] : voxel[down];
    return [row, flipAcross ? this.columns - 1 - voxel[across] : voxel[across]];
  }
}

/** The grey of every stored intensity between low and high, as pixels; `shift` makes the lowest one index 0. */
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

/** "#rrggbb" with an opacity as one pixel of ImageData. */
export function pixel(colour, opacity) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return ((Math.round(opacity * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** The edges of labels as runs [label, x0, y0, x1, y1, inward x, inward y] in pixels; labels are 0 where unseen. */
export function edges(labels, rows, columns) {
  const runs = [];
  const scan = (lines, places, lineStep, placeStep, add) => {
    for (let line = 0; line <= lines; line += 1) {
      let before = 0;
      let after = 0;
      let start = 0;
      let i = line * lineStep;
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
  scan(rows, columns, columns, 1, (label, y, x0, x1, inward) => runs.push([label, x0, y, x1, y, 0, inward]));
  scan(columns, rows, 1, columns, (label, x, y0, y1, inward) => runs.push([label, x, y0, x, y1, inward, 0]));
  return runs;
}

/** Stroke edges, each just inside its label, so that neighbours keep their colours. */
export function strokeEdges(context, runs, scaleX, scaleY, colours, width, dash) {
  const paths = new Map();
  const inset = width / 2;
  for (const [label, x0, y0, x1, y1, inX, inY] of runs) {
    if (!paths.has(label)) paths.set(label, new Path2D());
    const path = paths.get(label);
    // On whole pixels of the screen, so that lines are crisp and neighbours do not mix.
    path.moveTo(Math.round(x0 * scaleX) + inX * inset, Math.round(y0 * scaleY) + inY * inset);
    path.lineTo(Math.round(x1 * scaleX) + inX * inset, Math.round(y1 * scaleY) + inY * inset);
  }
  context.lineWidth = width;
  context.lineCap = dash.length ? "butt" : "square";
  context.setLineDash(dash);
  for (const [label, path] of paths) {
    context.strokeStyle = colours[label];
    context.stroke(path);
  }
  context.setLineDash([]);
}

/** 0 where both are background, 1 correct, 2 false positive, 3 false negative, 4 one structure taken for another. */
export function agreement(truth, predicted, target) {
  for (let i = 0; i < target.length; i += 1) {
    const t = truth[i];
    const p = predicted[i];
    if (t === p) target[i] = t ? 1 : 0;
    else if (!t) target[i] = 2;
    else target[i] = p ? 4 : 3;
  }
}
