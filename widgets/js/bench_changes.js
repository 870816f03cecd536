// What is changed within the model, each with a way to undo it, and what becomes of the segmentation.

import { element } from "./viewer.js";
import { brief } from "./drawing.js";
import { interferes } from "./bench_state.js";

/** @import { Bench, Changes } from "./bench_state.js" */

/** @type {[string, string, string][]} */
const RELATIONS = [
  ["own", "its own", "the relation as the model has it"],
  ["none", "none", "tokens hear nothing"],
  ["mean", "the image's mean", "every token hears the mean of what all would hear"],
  ["other", "another image's", "through its own plan, what the references of another image have gathered"],
  ["exact", "exact", "plans without entropy, by POT's network simplex"],
];

/** @param {Bench} bench */
export function changesPanel(bench) {
  const { view } = bench;
  const relation = element("select", { title: "How the tokens are related" }, ...RELATIONS.map(([value, text, title]) => element("option", { value, title }, text)));
  view.on(relation, "change", () => bench.intervene({ relation: relation.value }));
  const relationRow = element("label", {}, "relation", relation);
  const skips = element("span", { className: "l2g-key" });
  const chips = element("div", { className: "l2g-row l2g-bench-chips" });
  const clear = element("button", { title: "Undo all interventions; they come back with undo" }, "clear all");
  view.on(clear, "click", () => bench.intervene({ silenced_codes: [], replaced_codes: {}, silenced_references: [], relation: "own", skips: [], epsilon: null, epsilon_receive: null }));
  const epsilons = element("div", { className: "l2g-bench-epsilons" });
  const table = element("div", { className: "l2g-bench-scores" });
  const whole = element("button", { title: "Score the interventions on every slice of this scan" }, "over the whole scan");
  const stop = element("button", { hidden: true, title: "Stop" }, "stop");
  const bar = element("progress", { max: 1, value: 0, hidden: true });
  const said = element("span", { className: "l2g-quiet" });
  view.on(whole, "click", () => view.send("whole"));
  view.on(stop, "click", () => view.send("stop"));
  const heading = element("b", {}, "Interventions");
  const box = element("div", { className: "l2g-bench-changes" },
    element("div", { className: "l2g-row" }, heading, element("span", { className: "l2g-spring" }), clear),
    element("div", { className: "l2g-row" }, relationRow, skips), epsilons, chips, table,
    element("div", { className: "l2g-row" }, whole, bar, stop, said));

  /** @type {Map<string, HTMLInputElement>} */
  const sliders = new Map();
  const buildEpsilons = () => {
    const { epsilons: own, two } = bench.about;
    const names = two ? [["epsilon", "ε sends"], ["epsilon_receive", "ε receives"]] : [["epsilon", "ε"]];
    sliders.clear();
    epsilons.replaceChildren(...(own.length ? names : []).map(([key, text], n) => {
      const slider = element("input", { type: "range", min: -2.5, max: 0, step: 0.02, title: "Weight of the entropy, on a log scale; double click for the model's own", "aria-label": text });
      const number = element("output", { className: "l2g-number" });
      view.on(slider, "input", () => bench.intervene({ [key]: Number((10 ** Number(slider.value)).toPrecision(3)) }, key));
      view.on(slider, "dblclick", () => bench.intervene({ [key]: null }));
      sliders.set(key, slider);
      slider.dataset.own = String(own[n]);
      return element("label", {}, element("span", {}, text), slider, number);
    }));
  };
  let built = "";

  const chip = (/** @type {string} */ text, /** @type {Partial<Changes>} */ undone) => {
    const made = element("button", { className: "l2g-bench-chip", title: `Undo: ${text}` }, `${text} ×`);
    view.on(made, "click", () => bench.intervene(undone));
    return made;
  };

  /** @param {{name: string, dice?: (number | null)[], pixels?: number[]}[]} scores @param {string} title */
  const scoreTable = (scores, title) => {
    const withDice = scores.some(({ dice }) => dice);
    const { other } = bench.about;
    const third = other && scores.some(({ dice, pixels }) => (dice ?? pixels ?? []).length > 2) ? [other] : [];
    const head = element("tr", {}, ...[title, "before", "after", "change", ...third].map((text) => element("th", { title: text }, text)));
    const word = (/** @type {number | null} */ value) => (value === null ? "–" : withDice ? value.toFixed(3) : String(value));
    const rows = scores.map(({ name, dice, pixels }) => {
      const values = (withDice ? dice : pixels) ?? [null, null];
      const [one, two] = values;
      const difference = one === null || two === null ? null : two - one;
      const same = difference === null || Math.abs(difference) < 5e-4;
      const changed = difference === null ? "–" : same ? "0" : `${difference > 0 ? "+" : "−"}${word(Math.abs(difference))}`;
      const colour = bench.about.structures.find((each) => each.name === name)?.colour ?? "transparent";
      return element("tr", {},
        element("td", { title: name }, element("span", { className: "l2g-swatch", style: { background: colour } }), ` ${name}`),
        element("td", {}, word(one)), element("td", {}, word(two)),
        element("td", { className: same || !withDice ? "" : difference > 0 ? "l2g-up" : "l2g-down" }, changed),
        ...third.map(() => element("td", {}, word(values[2] ?? null))));
    });
    return element("table", {}, head, ...rows);
  };

  const show = () => {
    const { about, changes } = bench;
    const on = interferes(changes);
    box.hidden = about.saved === true && !on;
    const key = `${about.model} ${about.epsilons}`;
    if (key !== built) {
      built = key;
      buildEpsilons();
      skips.replaceChildren(...Array.from({ length: about.skips }, (_, level) => {
        const made = element("input", { type: "checkbox", title: `Put the mean over the slices of this scan in the place of the skip at 1/${2 ** level} of the resolution` });
        view.on(made, "change", () => {
          const { skips: off } = bench.changes;
          bench.intervene({ skips: made.checked ? [...off, level].sort() : off.filter((each) => each !== level) });
        });
        return element("label", {}, made, level ? `1/${2 ** level}` : "1");
      }));
      skips.prepend(element("span", { className: "l2g-quiet", title: "A skip that is ticked is its mean over the slices of this scan" }, "skips off at"));
      skips.hidden = about.skips === 0;
    }
    relationRow.hidden = !about.heads;
    relation.value = changes.relation;
    skips.querySelectorAll("input").forEach((input, level) => (input.checked = changes.skips.includes(level)));
    for (const [name, slider] of sliders) {
      const own = Number(slider.dataset.own);
      const value = /** @type {any} */ (changes)[name] ?? own;
      slider.value = String(Math.log10(value));
      slider.disabled = changes.relation === "exact";
      const number = /** @type {HTMLElement} */ (slider.nextElementSibling);
      number.textContent = brief(value) + (value === own ? "" : " *");
    }
    const made = [
      ...changes.silenced_codes.map((code) => chip(`code ${code} silenced`, { silenced_codes: changes.silenced_codes.filter((each) => each !== code) })),
      ...Object.entries(changes.replaced_codes).map(([code, by]) => {
        const { [code]: _, ...others } = changes.replaced_codes;
        return chip(`code ${code} is ${by}`, { replaced_codes: others });
      }),
      ...changes.silenced_references.map((reference) => chip(`reference ${reference} silenced`, { silenced_references: changes.silenced_references.filter((each) => each !== reference) })),
    ];
    chips.replaceChildren(...made);
    clear.disabled = !on;
    heading.textContent = on ? "Interventions: on" : "Interventions: none";
    showTask();
    // A page shows what it was saved under, which only Python can change.
    if (about.saved) for (const control of box.querySelectorAll("button, input, select")) Object.assign(control, { disabled: true });
  };

  /** How far the long task is, and what came of it. */
  const showTask = () => {
    const { about, changes, now } = bench;
    const on = interferes(changes);
    const task = bench.get("task");
    const running = Boolean(task.running) && !about.saved;
    bar.hidden = stop.hidden = !running;
    whole.disabled = running || !on;
    if (running) bar.value = task.done / Math.max(task.total, 1);
    const parts = [];
    if (now) parts.push(scoreTable(now.scores, about.truth ? "Dice, this slice" : "pixels, this slice"));
    if (task.scores && JSON.stringify(task.of) === JSON.stringify([bench.get("scan"), changes])) parts.push(scoreTable(task.scores, task.truth ? "Dice, the scan" : "Dice to before"));
    if (now) table.replaceChildren(...parts); // until then the numbers before keep their place
    said.textContent = running ? `${task.done} of ${task.total} slices` : task.stopped ? "stopped" : !now || JSON.stringify(now.of) !== JSON.stringify(changes) ? "at it …" : on ? `${now.changed} ${now.changed === 1 ? "pixel" : "pixels"} changed${about.saved ? "" : ` · ${now.ms} ms`}` : "";
  };
  return { element: box, show, showTask };
}
