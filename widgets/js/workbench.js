// The workbench: one screen for a model and a scan. Python computes (widgets/workbench.py); this shows and asks.

import { element, viewer } from "./viewer.js";
import { PANE_KEYS } from "./hand.js";
import { choice, itself } from "./drawing.js";
import { fileFetcher, takeFiles } from "./files.js";
import { Bench } from "./bench_state.js";
import { OVERLAYS, slicePanel } from "./bench_slice.js";
import { planPanel } from "./bench_plan.js";
import { cardPanel } from "./bench_card.js";
import { changesPanel } from "./bench_changes.js";

const HELP = [
  ...PANE_KEYS,
  ["drag in the slice", "change the contrast"],
  ["a selected pixel", "the plans show whom it hears"],
  ["click a bar of the plans", "select a code (left: it sends, right: its tokens receive) or a reference"],
  ["click a ribbon or a cell", "select what one code and one reference share"],
  ["arrow keys in the plans", "the next code, the next reference"],
  ["Ctrl Z, Ctrl Shift Z", "undo and redo, whatever it was"],
  ["× an even share", "1 is what a token would get if all got the same"],
  ["marginal error", "how far the plan is from giving every reference its share; below 0.001 it has converged"],
  ["token", "a pixel of the bottleneck, which the network describes by one code"],
];

export default viewer((view) => {
  const { body } = view;
  const bench = new Bench(view);
  body.classList.add("l2g-bench");

  const slice = slicePanel(bench);
  const plan = planPanel(bench);
  const card = cardPanel(bench);
  const changes = changesPanel(bench);

  // The line above all
  const title = element("b");
  const scans = element("select", { title: "The scan to look at" });
  view.on(scans, "change", () => bench.change({ scan: Number(scans.value) }));
  const button = (/** @type {string} */ text, /** @type {string} */ title, /** @type {() => void} */ act) => {
    const made = element("button", { title }, text);
    view.on(made, "click", act);
    return made;
  };
  const doubted = button("", "", () => (reasons.hidden = !reasons.hidden));
  doubted.classList.add("l2g-bench-doubt");
  const reasons = element("div", { className: "l2g-bench-help", hidden: true });
  view.on(reasons, "click", () => (reasons.hidden = true));
  const way = element("progress", { hidden: true, max: 1, "aria-label": "how much of the scan is here" });
  const { file, folder } = takeFiles(view, body, "l2g-dropping", way);
  const open = button("open …", "Open a scan of your own, NIfTI or DICOM files or a .zip; or drop one, or its folder, here. It stays on this machine", () => file.click());
  const openFolder = button("folder …", "Open a folder of DICOM files, with the folders in it", () => folder.click());
  const undo = button("↶", "Undo (Ctrl Z)", () => bench.undo());
  const redo = button("↷", "Redo (Ctrl Shift Z)", () => bench.redo());
  const copy = button("copy state", "Copy all that decides what is shown as JSON: Workbench(..., state=...) shows it again", () => {
    navigator.clipboard.writeText(JSON.stringify(bench.snapshot(), null, 1)).then(() => view.status("the state is on the clipboard"), () => view.showError("the browser does not let this page write to the clipboard"));
  });
  const fetchFile = fileFetcher(view);
  const page = button("save page", "Save this scan as one page that needs no Python and no network: slices, codes and plans still answer", () => fetchFile("export"));
  for (const each of [open, openFolder, page, scans]) each.dataset.needsPython = "";
  const help = element("div", { className: "l2g-bench-help", hidden: true }, element("dl", {}, ...HELP.flatMap(([key, text]) => [element("dt", {}, key), element("dd", {}, text)])));
  const ask = button("?", "What keys and words mean (?)", () => (help.hidden = !help.hidden));
  view.on(help, "click", () => (help.hidden = true));
  const bar = element("div", { className: "l2g-row l2g-bench-top" }, title, element("label", {}, "scan", scans), doubted, open, openFolder, file, folder, way, element("span", { className: "l2g-spring" }), undo, redo, copy, page, ask);

  // Above the slice, and above the plans
  const overlay = element("select", { title: "What lies over the slice" }, ...OVERLAYS.map(([value, text, title]) => element("option", { value, title }, text)));
  view.on(overlay, "change", () => bench.change({ overlay: overlay.value }));
  const opacity = element("input", { type: "range", min: 0, max: 1, step: 0.05, title: "Opacity of the overlay", "aria-label": "opacity" });
  view.on(opacity, "input", () => bench.change({ opacity: Number(opacity.value) }));
  const outline = element("input", { type: "checkbox", title: "Outlines alone" });
  view.on(outline, "change", () => bench.change({ outline: outline.checked }));
  const planes = element("select", { title: "The plane to look at" });
  view.on(planes, "change", () => bench.change({ plane: Number(planes.value) }));
  const sliceBar = element("div", { className: "l2g-row" }, element("label", {}, "show", overlay), opacity, element("label", {}, outline, "outline"), planes);
  const kind = choice(view, "picture of the plans", ["flow", "matrices"].map(itself), (plan_view) => bench.change({ plan_view }));
  const head = element("select", { title: "Codes are cut into heads, each with plans of its own" });
  view.on(head, "change", () => bench.change({ head: Number(head.value) }));
  const order = choice(view, "order of codes and references", ["usage", "label", "clustering"].map(itself), (order) => bench.change({ order }));
  const planBar = element("div", { className: "l2g-row" }, kind.group, element("label", {}, "head", head), element("span", { className: "l2g-named" }, "order by", order.group));

  body.append(
    bar,
    element("div", { className: "l2g-bench-grid" },
      element("section", {}, sliceBar, slice.frame, slice.slider, slice.legend),
      element("section", {}, planBar, plan.element, plan.verdict),
      element("section", { className: "l2g-bench-side" }, card.element, changes.element)),
    slice.place, help, reasons,
  );

  const options = (/** @type {HTMLSelectElement} */ select, /** @type {string[]} */ names) => {
    if (select.options.length === names.length && names.every((name, i) => select.options[i].text === name)) return;
    select.replaceChildren(...names.map((name, i) => element("option", { value: String(i) }, name)));
  };
  const showControls = () => {
    const { about } = bench;
    title.textContent = about.model;
    title.title = `a model of kind ${about.kind}`;
    options(scans, about.scans);
    scans.value = String(bench.get("scan"));
    const doubts = /** @type {string[] | null} */ (bench.get("doubts"));
    doubted.hidden = bench.opening || doubts?.length === 0;
    doubted.disabled = !doubts;
    doubted.textContent = doubts ? `${doubts.length} ${doubts.length === 1 ? "doubt" : "doubts"}` : "doubts …";
    doubted.title = doubts ? `Look before you use this: ${doubts.join("; ")}` : "Whether the model knows scans like this one";
    reasons.replaceChildren(element("b", {}, "Look before you use this"), ...(doubts ?? []).map((doubt) => element("div", {}, doubt)));
    reasons.hidden ||= doubted.hidden || doubted.disabled;
    options(planes, about.planes.map(({ name }) => name));
    planes.value = String(bench.get("plane"));
    options(head, Array.from({ length: Math.max(about.heads, 1) }, (_, i) => `${i + 1}`));
    head.value = String(bench.get("head"));
    planBar.hidden = !about.heads;
    for (const option of overlay.options) option.hidden = option.value === "models differ" && !about.other;
    overlay.value = bench.get("overlay");
    opacity.value = bench.get("opacity");
    outline.checked = bench.get("outline");
    kind.show(bench.get("plan_view"));
    order.show(bench.get("order"));
    undo.disabled = !bench.past.length;
    redo.disabled = !bench.future.length;
  };
  for (const panel of [body, card.element, changes.element]) panel.tabIndex = -1;
  /**
   * Draw, and keep the keys at what they were at, though a button may be made anew, be gone, or can do nothing now: then
   * they are with its panel, and Tab goes on from there.
   *
   * @param {() => void} draw
   */
  const keepFocus = (draw) => {
    const focused = /** @type {HTMLElement} */ (document.activeElement);
    const panel = body.contains(focused) && /** @type {HTMLElement} */ (focused.closest("[tabindex='-1']"));
    if (!panel) return draw();
    const alike = () => [...panel.querySelectorAll("button")].filter(({ title, disabled, hidden }) => title === focused.title && !disabled && !hidden);
    const place = alike().findIndex((each) => each === focused);
    draw();
    if (!focused.isConnected || focused.hidden || focused.matches(":disabled")) (alike()[place] ?? panel).focus({ preventScroll: true });
  };
  const showAll = () => {
    body.classList.toggle("l2g-bench-opening", bench.opening);
    showControls();
    slice.show();
    plan.draw();
    card.show();
    changes.show();
  };
  const show = view.eachFrame(() => keepFocus(showAll));

  view.watch(["selection"], () => plan.animate());
  view.watch(["about", "doubts", "now", "card", "scan", "plane", "selection", "overlay", "opacity", "outline", "window", "head", "order", "plan_view", "interventions"], show);
  view.watch(["task"], view.eachFrame(() => keepFocus(changes.showTask))); // alone: buttons must outlast a click
  view.onArray((name, start, stop) => {
    const d = bench.selection.voxel[0];
    if (bench.get("plane") || (start <= d && d < stop) || name === "codes") show();
  });
  view.on(body, "keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement && ["text", "number"].includes(event.target.type);
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !typing) {
      event.preventDefault();
      event.stopPropagation();
      if (event.shiftKey) bench.redo();
      else bench.undo();
    } else if (event.key === "?" && !typing) help.hidden = !help.hidden;
    else if (event.key === "Escape") help.hidden = reasons.hidden = true;
  });
  view.onLook(slice.frame, () => (slice.fit(), plan.draw()));
  show();
});
