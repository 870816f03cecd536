// A free line around points, drawn by hand.

/**
 * Which points lie within a line that is closed from its end to its beginning.
 *
 * @param {number[][]} line
 * @param {number[]} xs
 * @param {number[]} ys
 */
export function enclosed(line, xs, ys) {
  return xs.flatMap((x, i) => (isInside(line, x, ys[i]) ? [i] : []));
}

/** A ray to the right leaves the inside as often as it crosses the line, when that is odd. @param {number[][]} line @param {number} x @param {number} y */
function isInside(line, x, y) {
  let inside = false;
  line.forEach(([toX, toY], i) => {
    const [fromX, fromY] = line.at(i - 1) ?? [toX, toY];
    if (fromY > y !== toY > y && x < fromX + ((y - fromY) / (toY - fromY)) * (toX - fromX)) inside = !inside;
  });
  return inside;
}

/**
 * A group of codes with one more, or without it if it had it, in the order of their numbers.
 *
 * @param {number[]} group
 * @param {number} code
 */
export function toggled(group, code) {
  return group.includes(code) ? group.filter((each) => each !== code) : [...group, code].sort((a, b) => a - b);
}
