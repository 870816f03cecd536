// Transport on a line as the browser computes it, against POT's and solve_transport's numbers (tests/widgets/test_sand.py
// holds those to be theirs), and against what must hold of any plan.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import {
  SLIDER, epsilonAt, grains, lineCost, monotone, places, positionOf, priceOf, shares, sinkhorn,
} from "../../../widgets/js/line_transport.js";

const NUMBERS = JSON.parse(readFileSync(new URL("sand_numbers.json", import.meta.url)));
const [source, target] = [NUMBERS.source, NUMBERS.target].map((pile) => Float64Array.from(pile));
const [K, R] = [source.length, target.length];
const cost = lineCost(K, R);

const away = (a, b) => Math.max(...a.map((value, i) => Math.abs(value - b[i])));
const rows = (plan) => Array.from(source, (_, k) => plan.slice(k * R, (k + 1) * R).reduce((sum, mass) => sum + mass, 0));
const columns = (plan) => Array.from(target, (_, r) => plan.reduce((sum, mass, i) => sum + (i % R === r ? mass : 0), 0));

test("places are directions from 0 to a right angle, and a right angle costs a half", () => {
  assert.ok(Math.abs(places(3)[1] - Math.PI / 4) < 1e-15);
  assert.ok(Math.abs(cost[R - 1] - 0.5) < 1e-15);
  assert.equal(cost[0], 0);
  assert.ok(away(cost, NUMBERS.cost) < 1e-9);
});

test("the cheapest plan is POT's", () => {
  const plan = monotone(source, target);
  assert.ok(away(plan, NUMBERS.plans["0"]) < 1e-9);
  assert.ok(away(rows(plan), source) < 1e-12);
  assert.ok(away(columns(plan), target) < 1e-12);
});

test("no two grains of the cheapest plan cross, also where bins are empty", () => {
  const gaps = shares([0, 3, 0, 0, 1, 2, 0]);
  const plan = monotone(gaps, shares([1, 0, 1, 1]));
  const used = [...plan.keys()].filter((i) => plan[i] > 1e-12).map((i) => [Math.floor(i / 4), i % 4]);
  used.forEach(([k, r]) => used.forEach(([l, s]) => assert.ok(k <= l || r >= s)));
  assert.ok(Math.abs(plan.reduce((sum, mass) => sum + mass) - 1) < 1e-12);
});

for (const [epsilon, expected] of Object.entries(NUMBERS.plans).filter(([epsilon]) => epsilon !== "0")) {
  test(`at epsilon ${epsilon} the plan is that of solve_transport and of POT`, () => {
    const { plan, error } = sinkhorn(cost, source, target, Number(epsilon), { tolerance: 1e-10, iterations: 1e5 });
    assert.ok(error <= 1e-10);
    assert.ok(away(plan, expected) < 1e-7);
  });
}

test("work that was broken off goes on from where it was", () => {
  const whole = sinkhorn(cost, source, target, 0.01, { iterations: 40, tolerance: 0 });
  const { potential } = sinkhorn(cost, source, target, 0.01, { iterations: 30, tolerance: 0 });
  const rest = sinkhorn(cost, source, target, 0.01, { potential, iterations: 10, tolerance: 0 });
  assert.deepEqual(rest.plan, whole.plan);
});

test("empty bins stay empty, and one that is filled again finds its potential", () => {
  const gap = shares(target.map((share, r) => (r === 2 ? 0 : share)));
  const { plan, potential } = sinkhorn(cost, source, gap, 0.02);
  assert.equal(columns(plan)[2], 0);
  assert.equal(potential[2], -Infinity);
  const filled = sinkhorn(cost, source, target, 0.02, { potential, tolerance: 1e-10 });
  assert.ok(away(columns(filled.plan), target) < 1e-9);
});

test("a plan on 40 bins takes a moment, at the smallest epsilon of the slider too", () => {
  const pile = (middle) => shares(Array.from({ length: 40 }, (_, i) => Math.exp(-(((i - middle) / 5) ** 2))));
  const began = performance.now();
  const { error } = sinkhorn(lineCost(40, 40), pile(8), pile(30), epsilonAt(SLIDER.min + SLIDER.step));
  assert.ok(error <= 1e-4);
  assert.ok(performance.now() - began < 1000); // measured: a tenth of that
});

test("grains take each way as often as the plan says, to a grain", () => {
  const { plan } = sinkhorn(cost, source, target, 0.05);
  const ways = grains(plan, R, 500);
  assert.equal(ways.length, 500);
  source.forEach((share, k) => assert.ok(Math.abs(ways.filter(([from]) => from === k).length - 500 * share) <= 1));
});

test("the slider says 0 at its left end, and its logarithm elsewhere", () => {
  assert.equal(epsilonAt(SLIDER.min), 0);
  assert.equal(positionOf(0), SLIDER.min);
  assert.equal(epsilonAt(-2), 0.01);
  assert.ok([0.001, 0.01, 0.2, 3].every((epsilon) => epsilonAt(positionOf(epsilon)) === epsilon));
  assert.equal(positionOf(1e-9), SLIDER.min + SLIDER.step);
});

test("the price of a plan is what its grains pay", () => {
  assert.equal(priceOf(Float64Array.of(0.5, 0, 0.25, 0.25), Float64Array.of(0, 1, 4, 2)), 1.5);
});

test("a bin that nothing reaches at first is filled in the end", () => {
  const piles = [Float64Array.of(1, 0, 0), Float64Array.of(0.5, 0, 0.5)];
  const { plan, error } = sinkhorn(lineCost(3, 3), ...piles, 5e-4); // exp(-1000) is 0
  assert.ok(error < 1e-4);
  assert.ok(away(plan, [0.5, 0, 0.5, 0, 0, 0, 0, 0, 0]) < 1e-4);
});
