// A scan in, an answer in words. Python segments (widgets/scan_desk.py); this shows and asks.

import { element, viewer } from "./viewer.js";
import { fileFetcher, takeFiles } from "./files.js";
import { Layer } from "./layers.js";
import { Pane } from "./pane.js";
import { Cut, edges, greys } from "./slices.js";

/** @import { Box } from "./drawing.js" */

const BY_HAND = "by hand"; // a contrast that is none of the presets

export default viewer((view) => {
  const { model, body } = view;
  const get = (/** @type {string} */ name) => model.get(name);
  body.classList.add("l2g-desk");

  const { examples, model: name } = get("about");
  /** @type {{label: number, name: string, colour: string}[]} */
  const structures = get("about").structures;
  const status = element("div", { className: "l2g-desk-state", role: "status" });
  const bar = element("progress", { "aria-label": "slices done" });
  const stop = element("button", { title: "Stop looking at this scan" }, "stop");
  view.on(stop, "click", () => view.send("stop"));
  const going = element("div", { className: "l2g-row", hidden: true }, bar, stop);
  const way = element("progress", { hidden: true, max: 1, "aria-label": "how much of the scan is here" });
  const choose = element("button", { className: "l2g-desk-choose" }, "Choose a scan …");
  const whole = element("button", { title: "A folder of DICOM files, with the folders in it" }, "Choose a folder …");
  const tries = examples.map((/** @type {string} */ example) => {
    const made = element("button", { title: "A made heart, both ends of its beat" }, example);
    view.on(made, "click", () => {
      view.showError(""); // it was said of a scan before
      view.send("example", { name: example });
    });
    return made;
  });
  const drop = element("div", { className: "l2g-desk-drop" },
    element("b", {}, "Drop a scan here"), element("span", { className: "l2g-quiet" }, "NIfTI, or DICOM as files, a folder or a .zip; a cine with all its frames"),
    element("div", { className: "l2g-row" }, choose, whole), way, element("div", { className: "l2g-row", style: { display: tries.length ? "" : "none" } }, element("span", { className: "l2g-quiet" }, "or try"), ...tries));
  /** @type {Map<string, string>} What the scans that were dropped here are called on the disk, which this page alone knows. */
  const known = new Map();
  const { file, folder } = takeFiles(view, body, "l2g-over", way, ([first, ...more]) => {
    known.set(get("scan").name, more.length ? first.webkitRelativePath.split("/")[0] || `${more.length + 1} files` : first.name);
    show();
  });
  drop.append(file, folder);
  view.on(choose, "click", () => file.click());
  view.on(whole, "click", () => folder.click());

  const frameBox = element("div", { className: "l2g-desk-frame" });
  const slider = element("input", { type: "range", min: 0, step: 1, "aria-label": "slice" });
  const moment = element("input", { type: "range", min: 0, step: 1, "aria-label": "moment of the beat" });
  const [sliceOf, momentOf] = [element("span"), element("span")];
  const momentRow = element("label", {}, "moment", moment, momentOf);
  const windows = element("select", { title: "Contrast; drag over the picture to change it" });
  const legend = element("div", { className: "l2g-row" }, ...structures.map(({ name: text, colour }) =>
    element("span", { className: "l2g-key" }, element("span", { className: "l2g-swatch", style: { background: colour } }), text)));
  const called = element("div", { className: "l2g-desk-name" });
  const words = element("div", { className: "l2g-desk-words" });
  const take = element("button", { hidden: true, title: "Labels on the scan's own grid (NIfTI), and all that is said here (JSON)" }, "Download labels and report");
  const fetchFile = fileFetcher(view);
  view.on(take, "click", () => fetchFile("take"));
  for (const each of [choose, whole, ...tries, moment, take]) each.dataset.needsPython = "";
  const left = element("section", {}, frameBox, element("div", { className: "l2g-row" }, element("label", {}, "slice", slider, sliceOf), momentRow, element("label", {}, "contrast", windows)), legend);
  const right = element("section", {}, drop, view.errorLine, called, status, going, words, take,
    element("p", { className: "l2g-quiet" }, `Segmented by ${name}. For research and teaching, not for clinical use. Nothing leaves this machine.`));
  const grid = element("div", { className: "l2g-desk-grid" }, left, right);
  body.append(grid);

  const voxelTo = (/** @type {number} */ index) => view.select({ voxel: [index, ...get("selection").voxel.slice(1)] });
  view.on(slider, "input", () => voxelTo(Number(slider.value)));
  view.on(moment, "input", () => view.set({ frame: Number(moment.value) }));
  view.on(windows, "change", () => view.set({ window: get("scan").presets[windows.value] }));

  /** @type {Pane | null} */
  let pane = null;
  let made = "";
  let drawn = ""; // the scan of which all was here when it was drawn
  const build = () => {
    const { shape, planes, spacing_mm: spacing, presets } = get("scan");
    const key = JSON.stringify([shape, spacing, planes[0], presets]);
    if (key === made) return;
    made = key;
    pane?.close();
    const cut = new Cut(planes[0], shape);
    pane = new Pane(view, cut, spacing, planes[0].name, {
      now: () => ({ voxel: get("selection").voxel, window: get("window") }),
      paint: (context, box, ratio) => paint(cut, context, box, ratio),
      onSlice: voxelTo,
      onPoint: (voxel) => view.select({ voxel }),
      onWindow: (window) => view.set({ window }),
    });
    frameBox.replaceChildren(pane.element);
    windows.replaceChildren(...Object.keys(presets).map((each) => element("option", {}, each)), element("option", { hidden: true }, BY_HAND));
    fit();
  };
  const fit = () => pane && frameBox.clientWidth && pane.resize(frameBox.clientWidth, frameBox.clientHeight);

  /** @type {(cut: Cut, context: CanvasRenderingContext2D, box: Box, ratio: number) => boolean} */
  const paint = (cut, context, box, ratio) => {
    const index = get("selection").voxel[0];
    const [held, found] = [view.arrays.get("volume"), view.arrays.get("labels")];
    if (!held?.known[index]) return false;
    const layer = new Layer(cut);
    const { table, shift } = greys(held.data, get("scan").scale, get("window"));
    cut.copy(held.data, index, layer.pixels, table, shift);
    layer.put();
    layer.paint(context, box, true);
    if (found?.known[index]) {
      const labels = new Uint8Array(cut.size);
      cut.copy(found.data, index, labels);
      /** @type {string[]} */
      const palette = [];
      for (const { label, colour } of structures) palette[label] = colour;
      layer.fill(context, box, labels, palette, 0.28);
      layer.outline(context, box, edges(labels, cut.rows, cut.columns), palette, 2 * ratio);
    }
    return true;
  };

  const show = view.eachFrame(() => {
    const scan = get("scan");
    const { running, done, total, stopped } = get("task");
    going.hidden = !running;
    if (running) Object.assign(bar, { max: total, value: done });
    status.textContent = running ? "looking at the scan …" : stopped ? "stopped" : "";
    const { lines = [], doubts = [] } = get("answer");
    take.hidden = !lines.length;
    const name = known.has(scan.name) ? `${scan.name}: ${known.get(scan.name)}` : (scan.name ?? "");
    called.textContent = get("error") && lines.length ? `what is shown is still ${name}` : name;
    words.replaceChildren(
      ...lines.map((/** @type {{what: string, text: string}} */ { what, text }) => element("div", { className: "l2g-desk-line" }, element("span", { className: "l2g-quiet" }, what), element("b", {}, text))),
      ...doubts.map((/** @type {string} */ doubt) => element("div", { className: "l2g-desk-doubt", role: "alert" }, `Look before you use this: ${doubt}${doubt.endsWith("?") ? "" : "."}`)));
    grid.classList.toggle("l2g-desk-empty", !scan.shape);
    if (!scan.shape) return;
    build();
    slider.max = String(scan.shape[0] - 1);
    slider.value = String(get("selection").voxel[0]);
    sliceOf.textContent = `${get("selection").voxel[0] + 1} of ${scan.shape[0]}`;
    windows.value = Object.keys(scan.presets).find((each) => String(scan.presets[each]) === String(get("window"))) ?? BY_HAND;
    momentRow.hidden = scan.frames < 2;
    moment.max = String(scan.frames - 1);
    moment.value = String(get("frame"));
    momentOf.textContent = `${Number(moment.value) + 1} of ${scan.frames}`;
    const here = ["volume", "labels"].every((array) => view.arrays.get(array));
    if (here || scan.name !== drawn) pane?.draw(); // a moment gives way to the next when that is here, a scan at once
    if (here) drawn = scan.name;
  });
  view.watch(["scan", "answer", "task", "selection", "window", "frame", "error"], show);
  view.onArray(show);
  view.onLook(frameBox, () => fit());
  show();
});
