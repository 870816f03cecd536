// What plans say of tokens, against numbers computed by hand.

import assert from "node:assert/strict";
import test from "node:test";
import { percent, permille } from "../../../widgets/js/drawing.js";
import { coverage, matter, ofHead, partsOf, relation, ribbons, shares, strongest } from "../../../widgets/js/plans.js";

// Codes 7 (three tokens) and 2 (one) on 2 x 2 tokens, three references, of which none hears by the last.
const plans = {
  names: [7, 2],
  rows: Int32Array.of(0, 0, 1, 0),
  cells: [2, 2],
  heads: 2,
  references: 3,
  source: Float32Array.of(0.75, 0.25),
  target: Float32Array.of(0.5, 0.5, 0),
  sending: Float32Array.of(9, 9, 9, 9, 9, 9, 0.5, 0.25, 0, 0, 0.25, 0),
  receiving: Float32Array.of(9, 9, 9, 9, 9, 9, 0.3, 0.45, 0, 0.2, 0.05, 0),
};
const near = (found, wanted) => {
  assert.equal(found.length, wanted.length);
  wanted.forEach((value, i) => assert.ok(Math.abs(found[i] - value) < 1e-5, `${found} is not ${wanted}`));
};

test("each head has a plan of its own", () => {
  near(ofHead(plans, "sending", 1), [0.5, 0.25, 0, 0, 0.25, 0]);
  near(ofHead(plans, "receiving", 0), [9, 9, 9, 9, 9, 9]);
});

test("coverage is in times an even share", () => {
  near(coverage(plans, "sending", 1, 0), [4 / 3, 4 / 3, 0, 4 / 3]); // 0.5 of 0.5, by three tokens of four
  near(coverage(plans, "sending", 1, 1), [2 / 3, 2 / 3, 2, 2 / 3]);
  near(coverage(plans, "receiving", 1, 0), [0.8, 0.8, 1.6, 0.8]);
  near(coverage(plans, "sending", 1, 2), [0, 0, 0, 0]); // silenced
});

test("whom a token hears: its mean is 1", () => {
  // Code 7 hears 0.4 from reference 0, which has all its matter of code 7, and 0.6 from reference 1: half and half.
  near(relation(plans, 1, 0), [(4 / 3) * 0.7, (4 / 3) * 0.7, 4 * 0.3, (4 / 3) * 0.7]);
  near(relation(plans, 1, 1), [(4 / 3) * 0.9, (4 / 3) * 0.9, 4 * 0.1, (4 / 3) * 0.9]);
  for (const row of [0, 1]) assert.ok(Math.abs(relation(plans, 1, row).reduce((a, b) => a + b) / 4 - 1) < 1e-6);
});

test("a token that receives by itself hears as its own row says", () => {
  // The rows of code 7's three tokens and of code 2's one add up to those of the codes.
  const hearing = Float32Array.of(...new Float32Array(12).fill(9), 0.25, 0, 0, 0.05, 0.2, 0, 0.2, 0.05, 0, 0, 0.25, 0);
  const own = { ...plans, hearing };
  near(shares(own, "receiving", 1, 0, 0), [1, 0, 0]);
  near(shares(own, "receiving", 1, 0), [0.4, 0.6, 0]); // the mean over its tokens
  near(shares(own, "sending", 1, 0, 0), [2 / 3, 1 / 3, 0]); // it sends as its code
  near(relation(own, 1, 0, 0), [4 / 3, 4 / 3, 0, 4 / 3]); // from reference 0 alone, all of code 7
  near(relation(own, 1, 0), relation(plans, 1, 0));
  assert.equal(strongest(own, "receiving", 1, 0, 1, 0)[0].reference, 0);
  assert.equal(strongest(own, "receiving", 1, 0, 1)[0].reference, 1);
  near(coverage(own, "receiving", 1, 0), [2, 0.4, 1.6, 0]);
  near(coverage(own, "sending", 1, 0), coverage(plans, "sending", 1, 0));
});

test("a pixel lights what it hears itself, a code what it sends, a reference and a cell themselves", () => {
  const hearing = Float32Array.of(...new Float32Array(12).fill(9), 0.25, 0, 0, 0.05, 0.2, 0, 0.2, 0.05, 0, 0, 0.25, 0);
  const own = { ...plans, hearing };
  const lit = (selected, right) => {
    const part = partsOf(own, 1, { row: -1, column: -1, token: -1, ...selected });
    return [0, 1].flatMap((row) => [0, 1, 2].map((column) => part(row, column, right)));
  };
  near(lit({ by: "voxel", row: 0, token: 0 }, false), [0.75, 0, 0, 0.75, 0, 0]); // reference 0 alone, whoever sent to it
  near(lit({ by: "voxel", row: 0, token: 0 }, true), [1, 1, 1, 0, 0, 0]);
  near(lit({ by: "code", row: 0, token: 0 }, true), [0.75, 0.375, 0, 0.75, 0.375, 0]);
  near(lit({ by: "code", row: 0 }, false), [1, 1, 1, 0, 0, 0]);
  near(lit({ by: "reference", column: 1 }, true), [0, 1, 0, 0, 1, 0]);
  near(lit({ by: "cell", row: 1, column: 0 }, true), [0, 0, 0, 1, 0, 0]);
  near(lit({ by: "voxel" }, true), Array(6).fill(0.25));
});

test("a token without a row takes part in nothing", () => {
  const some = { ...plans, rows: Int32Array.of(0, -1, 1, 0) };
  assert.equal(coverage(some, "sending", 1, 0)[1], 0);
  assert.equal(relation(some, 1, 0)[1], 0);
});

test("the strongest references come first", () => {
  assert.deepEqual(strongest(plans, "sending", 1, 0, 2).map(({ reference }) => reference), [0, 1]);
  const [first, second] = strongest(plans, "receiving", 1, 0, 5);
  assert.equal(first.reference, 1);
  near([first.share, second.share], [0.6, 0.4]);
});

test("where the matter of a reference lies, and how far it scatters", () => {
  const { row, column, spreadMm } = matter(plans, 1, 0, [10, 20]); // three of four tokens, alike
  near([row, column], [(0.5 + 0.5 + 1.5) / 3, (0.5 + 1.5 + 1.5) / 3]);
  near([spreadMm ** 2 / 100], [(2 / 9) * 1 + (2 / 9) * 4]);
  assert.ok(Number.isNaN(matter(plans, 1, 2, [1, 1]).row));
});

test("ribbons leave their bars one below the other, and fill the whole height", () => {
  const plan = Float32Array.of(0.2, 0.4, 0.1, 0.3);
  const found = ribbons(plan, [1, 0], [1, 0]);
  near(found.map(({ thick }) => thick), [0.3, 0.1, 0.4, 0.2]);
  near(found.map(({ from }) => from), [0, 0.3, 0.4, 0.8]);
  near(found.map(({ to }) => to), [0, 0.7, 0.3, 0.8]); // reference 1 from 0 to 0.7, reference 0 below it
  assert.deepEqual(ribbons(new Float32Array(4), [0, 1], [0, 1]), []);
});

test("shares in words", () => {
  assert.deepEqual([0.39612, 1, 0.00012, 4e-7].map(percent), ["39.6\u00a0%", "100\u00a0%", "0.012\u00a0%", "0\u00a0%"]);
  assert.deepEqual([0.0314, 7e-11].map(permille), ["31.4\u00a0‰", "0\u00a0‰"]);
});
