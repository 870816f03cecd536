// Over and under the slices: what a drag does, the window, what is drawn, and the structures.

import { element } from "./viewer.js";

/** @import { SliceState } from "./slice_state.js" */
/** @import { Tool } from "./pane.js" */

/** @type {[tool: Tool, key: string, title: string, path: string][]} */
export const TOOLS = [
  ["window", "w", "Drag for the window: across its width, down its level", "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Zm0 1.5v10a5 5 0 0 1 0-10Z"],
  ["crosshair", "c", "Drag the crosshair (or Alt + drag)", "M7.25 1h1.5v5h-1.5zM7.25 10h1.5v5h-1.5zM1 7.25h5v1.5H1zM10 7.25h5v1.5h-5z"],
  ["pan", "h", "Drag the picture (or Shift + drag, or the middle button)", "M8 0 5.5 3h1.75v4.25H3V5.5L0 8l3 2.5V8.75h4.25V13H5.5L8 16l2.5-3H8.75V8.75H13v1.75L16 8l-3-2.5v1.75H8.75V3h1.75z"],
  ["ruler", "m", "Drag to measure", "M0 4.5h16v7H0zM1.5 6v4h13V6h-1.5v2h-1.2V6h-1.8v2h-1.2V6H8v2H6.8V6H5v2H3.8V6z"],
];

/**
 * A button that shows the state of traits; `pressed` reads it and `press` changes it.
 *
 * @param {SliceState} state
 * @param {(Node | string)[]} content
 * @param {string} title
 * @param {() => boolean} pressed
 * @param {(event: MouseEvent) => void} press
 * @param {string[]} traits
 */
function toggleButton({ view }, content, title, pressed, press, traits) {
  const made = element("button", { title }, ...content);
  const show = () => made.setAttribute("aria-pressed", String(pressed()));
  view.on(made, "click", press);
  view.watch(traits, show);
  show();
  return made;
}

/**
 * Buttons of which one is pressed: the value of a trait.
 *
 * @param {SliceState} state
 * @param {string} trait
 * @param {[value: string | boolean, content: Node | string, title: string][]} options
 */
function traitChoice(state, trait, options) {
  const buttons = options.map(([value, content, title]) =>
    toggleButton(state, [content], title, () => state.get(trait) === value, () => state.view.set({ [trait]: value }), [trait]),
  );
  return element("span", { className: "l2g-choice", role: "group" }, ...buttons);
}

/**
 * @param {SliceState} state
 * @param {() => void} help
 */
export function sliceControls(state, help) {
  const { maps, view } = state;
  const tools = traitChoice(state, "tool", TOOLS.map(([tool, key, title, path]) => [tool, icon(tool, path), `${title} (${key})`]));
  const controls = [
    tools,
    windowControl(state),
    traitChoice(state, "three_planes", [[false, "one plane", "Only the slices (t)"], [true, "three planes", "Three orthogonal planes (t)"]]),
  ];
  if (maps.length) {
    controls.push(traitChoice(state, "overlay", [["outline", "outline", "Draw outlines (o)"], ["fill", "fill", "Fill the first map (o)"]]));
  }
  if (maps.length > 1) {
    controls.push(
      traitChoice(state, "mode", [["labels", "labels", "Show structures (e)"], ["errors", "errors", `Compare with ${maps[0]} (e)`]]),
      traitChoice(state, "side_by_side", [[false, "together", "All maps on one picture (b)"], [true, "side by side", "A picture for each map (b)"]]),
    );
  }
  const ask = element("button", { className: "l2g-icon", title: "Keys and mouse (?)", "aria-label": "help" }, "?");
  view.on(ask, "click", help);
  return element("div", { className: "l2g-row l2g-controls" }, ...controls, element("span", { className: "l2g-spring" }), ask);
}

/**
 * @param {string} name
 * @param {string} path
 */
function icon(name, path) {
  const made = element("span", { className: "l2g-glyph", role: "img", "aria-label": name });
  made.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true"><path fill="currentColor" fill-rule="evenodd" d="${path}"/></svg>`;
  return made;
}

/** @param {SliceState} state */
function windowControl(state) {
  const { view } = state;
  const { presets } = state.about;
  const select = element("select", { title: "Presets of the window (p)", "aria-label": "window preset" });
  const level = element("input", { type: "number", step: "any", className: "l2g-typed", title: "Level: the intensity in the middle of the window" });
  const width = element("input", { type: "number", step: "any", min: "0", className: "l2g-typed", title: "Width of the window" });
  const show = () => {
    const [low, high] = state.get("window");
    const name = presetOf(state) ?? "by hand";
    const options = Object.keys(presets).concat(name === "by hand" ? ["by hand"] : []);
    select.replaceChildren(...options.map((option) => element("option", { value: option, selected: option === name }, option)));
    const digits = high - low > 20 ? 0 : 3;
    level.value = String(Number(((low + high) / 2).toFixed(digits)));
    width.value = String(Number((high - low).toFixed(digits)));
  };
  const take = () => {
    const [middle, wide] = [level.valueAsNumber, width.valueAsNumber];
    if (Number.isNaN(middle) || !(wide > 0)) return show();
    return view.set({ window: [middle - wide / 2, middle + wide / 2] });
  };
  view.on(select, "change", () => select.value in presets && view.set({ window: presets[select.value] }));
  for (const field of [level, width]) view.on(field, "change", take);
  view.watch(["window"], show);
  show();
  return element("span", { className: "l2g-row l2g-window" }, select, element("label", {}, "level", level), element("label", {}, "width", width));
}

/**
 * The name of the preset that the window is, if it is one.
 *
 * @param {SliceState} state
 */
function presetOf(state) {
  const { presets } = state.about;
  const now = state.get("window");
  return Object.keys(presets).find((preset) =>
    presets[preset].every((value, i) => Math.abs(value - now[i]) < 1e-6 * Math.max(1, Math.abs(value))),
  );
}

/** @param {SliceState} state */
export function nextPreset(state) {
  const names = Object.keys(state.about.presets);
  const at = names.indexOf(presetOf(state) ?? "");
  state.view.set({ window: state.about.presets[names[(at + 1) % names.length]] });
}

/** @param {SliceState} state */
function opacityControl(state) {
  const { view } = state;
  const range = element("input", { type: "range", min: 0, max: 1, step: 0.05, className: "l2g-slider l2g-short", title: "Opacity ( [ and ] )" });
  const label = element("label", {}, "opacity", range);
  const show = () => {
    range.value = state.get("opacity");
    label.hidden = state.get("overlay") === "outline" && state.get("mode") === "labels";
  };
  view.on(range, "input", () => view.set({ opacity: Number(range.value) }));
  view.watch(["opacity", "overlay", "mode"], show);
  show();
  return label;
}

/**
 * The structures with their colours, the maps with their lines, what the colours of errors mean, and where to go.
 *
 * @param {SliceState} state
 */
export function sliceLegend(state) {
  const { view, maps, structures } = state;
  const swatch = (/** @type {string} */ colour) => element("span", { className: "l2g-swatch", style: { background: colour } });
  const plain = (/** @type {string} */ text, /** @type {string} */ title, /** @type {() => void} */ act) => {
    const made = element("button", { title }, text);
    view.on(made, "click", act);
    return made;
  };
  const chips = structures.map(({ label, name, colour }, i) => {
    const title = `Show or hide ${name}${i < 9 ? ` (${i + 1})` : ""}; with Alt, or a double click, only this one`;
    const press = (/** @type {MouseEvent} */ event) => (event.altKey ? onlyStructure : toggleStructure)(state, label);
    const chip = toggleButton(state, [swatch(colour), name], title, () => state.visible.includes(label), press, ["visible"]);
    view.on(chip, "dblclick", () => onlyStructure(state, label));
    view.on(chip, "keydown", (event) => {
      if (!event.altKey || event.key !== "Enter") return;
      event.preventDefault();
      event.stopPropagation();
      onlyStructure(state, label);
    });
    return chip;
  });
  const every = element("span", { className: "l2g-choice", role: "group", "aria-label": "structures" },
    plain("all", "Show all structures (a)", () => state.showStructures(structures.map(({ label }) => label))),
    plain("none", "Hide all structures (n)", () => state.showStructures([])));
  const list = element("div", { className: "l2g-legend-row l2g-list" }, every, element("div", { className: "l2g-row l2g-structures" }, ...chips));
  const row = element("div", { className: "l2g-row l2g-legend-row" });
  if (maps.length > 1) row.append(...maps.map((name) => mapButton(state, name)), verdictKey(state));
  const leap = (/** @type {string} */ to, /** @type {string} */ title) => plain(to, title, () => view.send("jump", { to }));
  const jumps = [leap("largest", "Go to the slice where the visible structures are largest (g)")];
  if (maps.length > 1) jumps.push(leap("worst", "Go to the slice with the lowest Dice of the visible structures (Shift + g)"));
  const jump = element("span", { className: "l2g-row" }, element("span", { className: "l2g-quiet" }, "go to slice"), element("span", { className: "l2g-choice" }, ...jumps));
  row.append(element("span", { className: "l2g-spring" }), opacityControl(state), jump);
  return element("div", {}, list, row);
}

/** @type {(state: SliceState, label: number) => void} */
export function toggleStructure(state, label) {
  const { visible } = state;
  state.showStructures(visible.includes(label) ? visible.filter((other) => other !== label) : [...visible, label]);
}

/** @type {(state: SliceState, label: number) => void} */
export function onlyStructure(state, label) {
  state.showStructures([label]);
}

/**
 * @param {SliceState} state
 * @param {string} name
 */
function mapButton(state, name) {
  const styles = ["solid", "dashed", "dotted", "double"];
  const line = element("span", { className: "l2g-line", style: { borderTopStyle: styles[state.maps.indexOf(name) % 4] } });
  return toggleButton(state, [line, name], `Show or hide the map ${name}`, () => state.shown.includes(name), () => {
    const { shown, maps } = state;
    state.view.set({ shown: maps.filter((each) => (each === name) !== shown.includes(each)) });
  }, ["shown"]);
}

/** @param {SliceState} state */
function verdictKey(state) {
  const { agreement, hatched } = state.about;
  const marks = Object.entries(agreement).map(([name, colour], i) => {
    const mark = element("span", { className: "l2g-swatch", style: { background: colour } });
    if (i === 0) mark.classList.add("l2g-faint");
    else if (hatched) Object.assign(mark.style, { background: hatching(i, colour), outline: `1px solid ${colour}` });
    return element("span", { className: "l2g-key" }, mark, name);
  });
  const key = element("span", { className: "l2g-row l2g-quiet" }, ...marks);
  const show = () => (key.hidden = state.get("mode") !== "errors");
  state.view.watch(["mode"], show);
  show();
  return key;
}

/**
 * The hatching of an error as a background: added, missed, confused.
 *
 * @param {number} verdict
 * @param {string} colour
 */
function hatching(verdict, colour) {
  const lines = (/** @type {number} */ angle) => `repeating-linear-gradient(${angle}deg, ${colour} 0 1px, transparent 1px 4px)`;
  return [[45], [-45], [45, -45]][verdict - 1].map(lines).join(", ");
}
