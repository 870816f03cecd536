// What answers without Python share: numbers as Python and NumPy round and write them.

/**
 * A typed array of bytes.
 *
 * @template Kind
 * @param {new (buffer: ArrayBufferLike) => Kind} Type
 * @param {DataView} view
 */
export const numbers = (Type, { buffer, byteOffset, byteLength }) => new Type(buffer.slice(byteOffset, byteOffset + byteLength));

/** @param {Float32Array | Int32Array} values */
export const bytesOf = (values) => new DataView(values.buffer, values.byteOffset, values.byteLength);

/**
 * The nearest whole number, a half to the even one.
 *
 * @param {number} value
 */
export function rounded(value) {
  return Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value);
}

/**
 * A share in per cent: percent(0.125, 1) is "12.5%".
 *
 * @param {number} share
 * @param {number} digits
 */
export const percent = (share, digits = 0) => `${(rounded(100 * share * 10 ** digits) / 10 ** digits).toFixed(digits)}%`;

/**
 * Indices of values, the largest first, equals in their order.
 *
 * @param {ArrayLike<number>} values
 */
export function descending(values) {
  return Array.from(values, (_, i) => i).sort((i, j) => values[j] - values[i] || i - j);
}

/**
 * The selection without what is not there, and what was pointed at: by a click, else the first that there is.
 *
 * @param {{by?: string} & Record<string, any>} selection
 */
export function pointed(selection) {
  return [selection.by, "reference", "code", "voxel"].find((name) => name && name in selection) ?? "voxel";
}
