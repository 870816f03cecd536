// How a plane is zoomed and panned, without a browser: node --test tests/widgets/js/*.mjs

import assert from "node:assert/strict";
import test from "node:test";
import { WHOLE, boxOf, panned, zoomed } from "../../../widgets/js/look.js";

const ROOM = [400, 300, 0.5]; // a canvas, and a plane twice as wide as it is high
const near = (one, two) => one.forEach((value, i) => assert(Math.abs(value - two[i]) < 1e-9, `${one} is not ${two}`));
/** What of the plane lies at a point, in shares of its width and height. */
const under = (look, [x, y]) => {
  const [left, top, width, height] = boxOf(look, ROOM);
  return [(x - left) / width, (y - top) / height];
};

test("at first the whole plane lies in the middle", () => {
  assert.deepEqual(boxOf(WHOLE, ROOM), [0, 50, 400, 200]);
});

test("what is under the pointer stays there while it is zoomed", () => {
  const point = [140, 120];
  let look = WHOLE;
  for (const factor of [2, 1.7, 3, 0.6]) {
    const before = under(look, point);
    look = zoomed(look, ROOM, factor, point);
    if (look.zoom > 3) near(under(look, point), before); // below, the plane is kept in the middle
  }
  assert(Math.abs(look.zoom - 2 * 1.7 * 3 * 0.6) < 1e-9);
});

test("zoom has an end on both sides, and all the way out is the whole plane again", () => {
  const large = zoomed(WHOLE, ROOM, 1e6, [10, 60]);
  assert.equal(large.zoom, 40);
  near(boxOf(zoomed(large, ROOM, 1e-6, [390, 240]), ROOM), boxOf(WHOLE, ROOM));
});

test("a drag moves the plane with it, and leaves no gap beside it", () => {
  const look = zoomed(WHOLE, ROOM, 4, [200, 150]);
  const [left, top] = boxOf(look, ROOM);
  near(boxOf(panned(look, ROOM, 30, -20), ROOM).slice(0, 2), [left + 30, top - 20]);
  near(boxOf(panned(look, ROOM, 1e5, 1e5), ROOM), [0, 0, 1600, 800]);
  near(boxOf(panned(look, ROOM, -1e5, -1e5), ROOM), [400 - 1600, 300 - 800, 1600, 800]);
  near(boxOf(panned(WHOLE, ROOM, 30, 30), ROOM), boxOf(WHOLE, ROOM));
});
