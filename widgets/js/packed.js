// Labels kept small: large areas of one label are most of a map, and a map as large as its scan would double a page.

const TILE_SIDE = 8; // pixels
const TILE_PIXELS = TILE_SIDE * TILE_SIDE;
const TILE_MIXED = 256; // a tile below it is of this label alone; above, its pixels lie at its excess over this

/** Labels (D, H, W) in tiles of slices, of which only those hold pixels that several labels share. */
export class Packed {
  /** @param {number[]} shape */
  constructor([D, H, W]) {
    this.shape = [D, H, W];
    this.down = Math.ceil(H / TILE_SIDE);
    this.across = Math.ceil(W / TILE_SIDE);
    this.tiles = new Uint32Array(D * this.down * this.across);
    this.store = { pixels: new Uint8Array(TILE_PIXELS), used: 0 };
  }

  /**
   * Take over whole slices, the first of which is number `start`.
   *
   * @param {Uint8Array} labels
   * @param {number} start
   */
  set(labels, start) {
    const [, H, W] = this.shape;
    const tile = new Uint8Array(TILE_PIXELS);
    let t = start * this.down * this.across;
    for (let slice = 0; slice < labels.length; slice += H * W) {
      for (let top = 0; top < H; top += TILE_SIDE) {
        for (let left = 0; left < W; left += TILE_SIDE) {
          const first = labels[slice + top * W + left];
          const [bottom, right] = [Math.min(top + TILE_SIDE, H), Math.min(left + TILE_SIDE, W)];
          let alike = true;
          for (let row = top; row < bottom; row += 1) {
            const at = slice + row * W;
            for (let column = left; column < right; column += 1) {
              const label = labels[at + column];
              tile[(row - top) * TILE_SIDE + column - left] = label;
              alike = alike && label === first;
            }
          }
          this.tiles[t] = alike ? first : TILE_MIXED + this.keep(tile);
          t += 1;
        }
      }
    }
  }

  /**
   * @param {Uint8Array} tile
   * @returns {number} its place among all that are kept
   */
  keep(tile) {
    const { store } = this;
    if (store.used * TILE_PIXELS === store.pixels.length) {
      const larger = new Uint8Array(Math.ceil(store.used * 1.5) * TILE_PIXELS);
      larger.set(store.pixels);
      store.pixels = larger;
    }
    store.pixels.set(tile, store.used * TILE_PIXELS);
    store.used += 1;
    return store.used - 1;
  }

  /** The label of a voxel. @param {number} d @param {number} h @param {number} w */
  at(d, h, w) {
    const tile = this.tiles[(d * this.down + Math.floor(h / TILE_SIDE)) * this.across + Math.floor(w / TILE_SIDE)];
    return tile < TILE_MIXED ? tile : this.store.pixels[(tile - TILE_MIXED) * TILE_PIXELS + (h % TILE_SIDE) * TILE_SIDE + (w % TILE_SIDE)];
  }

  /**
   * The labels of a slice across an axis, the two other axes in their order.
   *
   * @param {number} axis
   * @param {number} index
   */
  slice(axis, index) {
    const [D, H, W] = this.shape;
    if (axis === 0) return this.picture(index);
    const [columns, lookUp] = axis === 1 ? [W, (/** @type {number} */ w) => this.at(d, index, w)] : [H, (/** @type {number} */ h) => this.at(d, h, index)];
    const labels = new Uint8Array(D * columns);
    let d = 0;
    for (; d < D; d += 1) for (let column = 0; column < columns; column += 1) labels[d * columns + column] = lookUp(column);
    return labels;
  }

  /** @param {number} d */
  picture(d) {
    const [, H, W] = this.shape;
    const labels = new Uint8Array(H * W);
    const { pixels } = this.store;
    let t = d * this.down * this.across;
    for (let top = 0; top < H; top += TILE_SIDE) {
      for (let left = 0; left < W; left += TILE_SIDE, t += 1) {
        const tile = this.tiles[t];
        if (tile === 0) continue;
        const [bottom, right] = [Math.min(top + TILE_SIDE, H), Math.min(left + TILE_SIDE, W)];
        const from = (tile - TILE_MIXED) * TILE_PIXELS;
        for (let row = top; row < bottom; row += 1) {
          if (tile < TILE_MIXED) labels.fill(tile, row * W + left, row * W + right);
          else for (let column = left; column < right; column += 1) labels[row * W + column] = pixels[from + (row - top) * TILE_SIDE + column - left];
        }
      }
    }
    return labels;
  }

  /** The slices [first, end) alone, of the same store. @param {number} first @param {number} end */
  slices(first, end) {
    const [, H, W] = this.shape;
    const some = new Packed([0, H, W]);
    const row = this.down * this.across;
    return Object.assign(some, { shape: [end - first, H, W], tiles: this.tiles.subarray(first * row, end * row), store: this.store });
  }
}
