import { element, pen, sum, viewer } from "./viewer.js";
import { agreement, Cut, greys, known, millimetres, stepped } from "./slices.js";
import { Layer } from "./layers.js";
import { Pane } from "./pane.js";
import { WHOLE } from "./look.js";

/** @import { Values } from "./viewer.js" */
/** @import { Plane } from "./slices.js" */
/** @import { Box } from "./drawing.js" */
/**
 * What never changes of a viewer.
 *
 * @typedef {object} About
 * @property {number[]} shape
 * @property {number[]} spacing_mm
 * @property {number[][] | null} affine
 * @property {Plane[]} planes
 * @property {number[]} scale
 * @property {Record<string, number[]>} presets
 * @property {string[]} maps
 * @property {{label: number, name: string, colour: string}[]} structures
 * @property {Record<string, string>} agreement
 */
/**
 * A picture of one plane with the maps `shown` on it; `labels` and `truth` are room for those of a slice.
 *
 * @typedef {object} Picture
 * @property {number} plane
 * @property {Cut} cut
 * @property {string[]} shown
 * @property {Pane} pane
 * @property {Layer} grey
 * @property {Layer} over
 * @property {Uint8Array} labels
 * @property {Uint8Array} truth
 */
/**
 * A slice to paint: where in the array, and where on the canvas.
 *
 * @typedef {object} Canvas
 * @property {CanvasRenderingContext2D} context
 * @property {Box} box
 * @property {number} ratio
 * @property {number} index
 * @property {Uint8Array} visible
 */

const DASHES = [[], [6, 4], [2, 3], [8, 3, 2, 3]];
const PANES_HEIGHT = 480;
const THUMB = 14; // as in slice_viewer.css
const STRIP_HEIGHT = 22;
const WHITE = Array(256).fill("#ffffff");

/**
 * A list without a value that is in it, or with one that is not.
 *
 * @template Value
 * @param {Value[]} list
 * @param {Value} value
 */
function toggle(list, value) {
  return list.includes(value) ? list.filter((other) => other !== value) : [...list, value];
}

export default viewer((view) => {
  const { model, arrays } = view;
  /** @type {About} */
  const about = model.get("about");
  const { shape, spacing_mm: spacingMm, affine, planes, scale, presets, maps, structures, agreement: verdicts } = about;
  const cuts = planes.map((plane) => new Cut(plane, shape));
  /** @type {string[]} */
  const colours = [];
  for (const { label, colour } of structures) colours[label] = colour;
  const names = Object.fromEntries(structures.map(({ label, name }) => [label, name]));
  /** @type {() => number[]} */
  const voxelNow = () => model.get("selection").voxel ?? shape.map((n) => n >> 1);
  /** @type {() => string[]} */
  const shownNow = () => maps.filter((name) => model.get("shown").includes(name));
  /** @type {() => number[]} */
  const visibleNow = () => model.get("visible");
  /** @type {Picture[]} */
  let pictures = [];
  const looks = planes.map(() => WHOLE); // panes of one plane are zoomed and panned together
  /** @type {number[] | null} */
  let hovered = null;

  // -- Moves ---------------------------------------------------------------------------------------------------------

  function move(/** @type {number} */ axis, /** @type {number} */ index) {
    const voxel = [...voxelNow()];
    voxel[axis] = Math.min(Math.max(index, 0), shape[axis] - 1);
    if (voxel[axis] !== voxelNow()[axis]) view.select({ voxel });
  }

  function onKey(/** @type {KeyboardEvent} */ event, /** @type {number} */ axis) {
    const to = stepped(event.key, voxelNow()[axis], shape[axis]);
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    move(axis, to);
  }

  function codeAt(/** @type {number[]} */ [d, h, w]) {
    const codes = arrays.get("codes");
    if (!codes || !codes.known[d]) return null;
    const [, rows, columns] = codes.shape;
    return codes.data[(d * rows + Math.floor((h * rows) / shape[1])) * columns + Math.floor((w * columns) / shape[2])];
  }

  // -- The pictures --------------------------------------------------------------------------------------------------

  /**
   * @param {number} plane
   * @param {string[]} shown
   * @returns {Picture}
   */
  function makePicture(plane, shown) {
    const cut = cuts[plane];
    const title = maps.length && model.get("side_by_side") ? shown.join(", ") : planes[plane].name;
    const pane = new Pane(view, cut, spacingMm, title, {
      now: () => ({ voxel: voxelNow(), window: model.get("window"), cross: model.get("three_planes") }),
      paint: (context, box, ratio) => paint(made, context, box, ratio),
      onPoint: (voxel) => view.select({ voxel, by: "voxel", ...(arrays.get("codes") ? { code: codeAt(voxel) } : {}) }),
      onSlice: (index) => move(cut.plane.axis, index),
      onWindow: (window) => view.set({ window }),
      onHover: (voxel) => {
        hovered = voxel;
        readOut();
      },
      onView: (look) => {
        looks[plane] = look;
        for (const other of pictures) if (other.plane === plane && other !== made) other.pane.see(look);
      },
    });
    pane.look = looks[plane];
    const [labels, truth] = [new Uint8Array(cut.size), new Uint8Array(cut.size)];
    const made = { plane, cut, shown, pane, grey: new Layer(cut), over: new Layer(cut), labels, truth };
    return made;
  }

  /** One row: a pane a map if side by side. With three planes: a row of planes, for each map if side by side. */
  function layOut() {
    for (const { pane } of pictures) pane.close();
    const shown = shownNow();
    const groups = model.get("side_by_side") && shown.length ? shown.map((name) => [name]) : [shown];
    const rows = model.get("three_planes")
      ? groups.map((group) => [0, 1, 2].map((plane) => makePicture(plane, group)))
      : [groups.map((group) => makePicture(0, group))];
    pictures = rows.flat();
    picture.replaceChildren(...rows.map((row) => element("div", { className: "l2g-panes" }, ...row.map(({ pane }) => pane.element))));
    fit();
  }

  /** Size all panes by one scale, so that a millimetre is the same everywhere. */
  function fit() {
    const rows = [...picture.children].map((row) => pictures.filter(({ pane }) => pane.element.parentElement === row));
    const scales = rows.map((row) => {
      const room = picture.clientWidth - 6 * (row.length - 1);
      const wide = room / sum(row.map(({ pane }) => pane.lengthsMm[1]));
      return Math.min(wide, PANES_HEIGHT / Math.max(...row.map(({ pane }) => pane.lengthsMm[0])));
    });
    const perMm = Math.max(Math.min(...scales), 0.1);
    for (const { pane } of pictures) {
      const [height, width] = pane.lengthsMm.map((mm) => Math.max(1, Math.round(mm * perMm)));
      pane.resize(width, height);
    }
    drawStrips();
    readOut();
  }

  let table = { window: [NaN, NaN], ...greys(new Uint8Array(), scale, [0, 0]) };
  function greyTable(/** @type {Values} */ data) {
    const window = model.get("window");
    if (table.window !== window) table = { window, ...greys(data, scale, window) };
    return table;
  }

  function draw() {
    for (const { pane } of pictures) pane.draw();
    drawStrips();
    readOut();
  }

  /** @type {(picture: Picture, context: CanvasRenderingContext2D, box: Box, ratio: number) => boolean} */
  function paint(picture, context, box, ratio) {
    const { cut, grey } = picture;
    const index = voxelNow()[cut.plane.axis];
    const volume = arrays.get("volume");
    if (!volume || !(cut.plane.axis === 0 ? volume.known[index] : volume.rows > 0)) return false;
    const { table: greyOf, shift } = greyTable(volume.data);
    cut.copy(volume.data, index, grey.pixels, greyOf, shift);
    grey.paint(context, box, true);
    const visible = new Uint8Array(256);
    for (const label of visibleNow()) visible[label] = label;
    const canvas = { context, box, ratio, index, visible };
    const painted = model.get("mode") === "errors" ? paintErrors : paintLabels;
    painted(picture, canvas);
    paintCode(picture, canvas);
    return true;
  }

  /**
   * Labels of a map on a slice, 0 where they are hidden or not here yet.
   *
   * @param {string} name
   * @param {Picture} picture
   * @param {Canvas} canvas
   * @param {Uint8Array} target
   */
  function copyLabels(name, { cut }, { index, visible }, target) {
    const array = arrays.get(`labels of ${name}`);
    if (array) cut.copy(array.data, index, target, visible);
    else target.fill(0);
  }

  /** @type {(picture: Picture, canvas: Canvas) => void} */
  function paintLabels(picture, canvas) {
    const { context, box, ratio } = canvas;
    const { shown, labels, over } = picture;
    const fill = model.get("overlay") === "fill";
    shown.forEach((name, position) => {
      copyLabels(name, picture, canvas, labels);
      const filled = fill && position === 0;
      if (filled) over.fill(context, box, labels, colours, model.get("opacity"));
      const dash = DASHES[maps.indexOf(name) % DASHES.length].map((length) => length * ratio);
      over.outline(context, box, labels, colours, Math.round((filled ? 1 : 2) * ratio), dash);
    });
  }

  /** @type {(picture: Picture, canvas: Canvas) => void} */
  function paintErrors(picture, canvas) {
    const { context, box, ratio } = canvas;
    const { shown, labels, truth, over } = picture;
    const compared = shown.find((name) => name !== maps[0]);
    if (!compared) return paintLabels(picture, canvas);
    copyLabels(maps[0], picture, canvas, truth);
    copyLabels(compared, picture, canvas, labels);
    agreement(truth, labels, labels);
    over.fill(context, box, labels, [null, ...Object.values(verdicts)], Math.max(model.get("opacity"), 0.3));
    return over.outline(context, box, truth, WHITE, ratio); // the verdicts need the colours
  }

  /** @type {(picture: Picture, canvas: Canvas) => void} */
  function paintCode({ cut, labels, over }, { context, box, ratio, index }) {
    const { code } = model.get("selection");
    if (code === undefined || !arrays.get("codes")) return;
    let i = 0;
    for (let row = 0; row < cut.rows; row += 1) {
      for (let column = 0; column < cut.columns; column += 1) {
        labels[i++] = codeAt(cut.voxel(index, row, column)) === code ? 1 : 0;
      }
    }
    over.fill(context, box, labels, [null, "#ffffff"], 0.25);
    over.outline(context, box, labels, [null, "#ffffff"], ratio);
  }

  // -- What lies under the cursor ------------------------------------------------------------------------------------

  function readOut() {
    const voxel = hovered ?? voxelNow();
    const at = (voxel[0] * shape[1] + voxel[1]) * shape[2] + voxel[2];
    const parts = [`voxel ${voxel.join(", ")}`, millimetres(voxel, affine, spacingMm)];
    const volume = arrays.get("volume");
    if (volume?.known[voxel[0]]) {
      const intensity = scale[0] * volume.data[at] + scale[1];
      parts.push(`intensity ${Number.isInteger(intensity) ? intensity : intensity.toPrecision(4)}`);
    }
    for (const name of maps) {
      const labels = arrays.get(`labels of ${name}`);
      if (labels?.known[voxel[0]]) parts.push(`${name}: ${names[labels.data[at]] ?? "background"}`);
    }
    const code = codeAt(voxel);
    if (code !== null) parts.push(`code ${code}`);
    const progress = arrays.progress();
    if (progress < 1) parts.push(`${Math.floor(100 * progress)} % loaded`);
    view.status(parts.join("   ·   "));
  }

  // -- Strips under the slider: where the structures are, and the Dice of each map on every slice ---------------------

  const slider = element("input", { type: "range", className: "l2g-slider", min: 0, max: shape[0] - 1, step: 1 });
  slider.setAttribute("aria-label", "slice");
  const number = element("output", { className: "l2g-number" });
  view.on(slider, "keydown", (event) => onKey(event, 0));
  view.on(slider, "input", () => move(0, Number(slider.value)));
  const strips = (maps.length ? ["area", ...maps.slice(1)] : []).map((name) => {
    const canvas = element("canvas", { className: "l2g-strip", height: STRIP_HEIGHT });
    view.on(canvas, "pointerdown", (event) => {
      const { left, width } = canvas.getBoundingClientRect();
      move(0, Math.round(((event.clientX - left - THUMB / 2) / (width - THUMB)) * (shape[0] - 1)));
    });
    return { name, canvas, value: element("output", { className: "l2g-number" }), title: name === "area" ? "area" : `Dice, ${name}` };
  });

  /** The value of a strip on every slice, over the visible structures; NaN where there is none. */
  function stripValues(/** @type {string} */ name) {
    const array = arrays.get(name === "area" ? "areas" : `dice of ${name}`);
    if (!array || array.rows < shape[0]) return null;
    const cm2 = (spacingMm[1] * spacingMm[2]) / 100;
    return known(array, visibleNow()).map((values) => (name === "area" ? sum(values) * cm2 : sum(values) / values.length));
  }

  function drawStrips() {
    const d = voxelNow()[0];
    const [here, elsewhere] = [view.colour("--l2g-accent"), view.colour("--l2g-bar")];
    slider.value = String(d);
    slider.setAttribute("aria-valuetext", `slice ${d + 1} of ${shape[0]}`);
    number.textContent = `${d + 1} / ${shape[0]}`;
    for (const { name, canvas, value } of strips) {
      const values = stripValues(name);
      if (!values) continue;
      const number = values[d];
      value.textContent = name === "area" ? `${number.toFixed(1)} cm²` : Number.isNaN(number) ? "–" : number.toFixed(3);
      const most = name === "area" ? Math.max(...values, 1e-9) : 1;
      const [width, height] = [Math.round(canvas.clientWidth * devicePixelRatio), STRIP_HEIGHT * devicePixelRatio];
      canvas.width = width;
      canvas.height = height;
      const context = pen(canvas);
      const margin = (THUMB / 2) * devicePixelRatio;
      const step = (width - 2 * margin) / Math.max(shape[0] - 1, 1);
      const bar = Math.min(Math.max(step * 0.7, 1), 2 * margin);
      values.forEach((share, slice) => {
        if (Number.isNaN(share)) return;
        const tall = Math.max((share / most) * (height - 2), share > 0 || name !== "area" ? 1 : 0);
        context.fillStyle = slice === d ? here : elsewhere;
        context.fillRect(margin + slice * step - bar / 2, height - tall, bar, tall);
      });
    }
  }

  // -- Controls ------------------------------------------------------------------------------------------------------

  /**
   * A button that shows the state of traits; `pressed` reads it and `press` changes it.
   *
   * @param {(Node | string)[]} content
   * @param {string} title
   * @param {() => boolean} pressed
   * @param {() => void} press
   * @param {string[]} traits
   */
  function button(content, title, pressed, press, traits) {
    const made = element("button", { title }, ...content);
    const show = () => made.setAttribute("aria-pressed", String(pressed()));
    view.on(made, "click", press);
    view.watch(traits, show);
    show();
    return made;
  }

  /**
   * @param {string} trait
   * @param {[value: string | boolean, text: string, title: string][]} options
   */
  function choice(trait, options) {
    const buttons = options.map(([value, text, title]) =>
      button([text], title, () => model.get(trait) === value, () => view.set({ [trait]: value }), [trait]),
    );
    return element("span", { className: "l2g-choice", role: "group" }, ...buttons);
  }

  function windowControl() {
    const select = element("select", { title: "Window: drag over the picture to change it" });
    const values = element("output", { className: "l2g-quiet" });
    /** @type {(one: number[], two: number[]) => boolean} */
    const same = (one, two) => one.every((value, i) => Math.abs(value - two[i]) < 1e-6 * Math.max(1, Math.abs(value)));
    const show = () => {
      const [low, high] = model.get("window");
      const name = Object.keys(presets).find((preset) => same(presets[preset], [low, high])) ?? "by hand";
      const options = Object.keys(presets).concat(name === "by hand" ? ["by hand"] : []);
      select.replaceChildren(...options.map((option) => element("option", { value: option, selected: option === name }, option)));
      const digits = high - low > 20 ? 0 : 2;
      values.textContent = `${low.toFixed(digits)} to ${high.toFixed(digits)}`;
    };
    view.on(select, "change", () => select.value in presets && view.set({ window: presets[select.value] }));
    view.watch(["window"], show);
    show();
    return element("label", {}, "window", select, values);
  }

  function opacityControl() {
    const range = element("input", { type: "range", min: 0, max: 1, step: 0.05, className: "l2g-slider l2g-short" });
    const label = element("label", {}, "opacity", range);
    const show = () => {
      range.value = model.get("opacity");
      label.hidden = model.get("overlay") === "outline" && model.get("mode") === "labels";
    };
    view.on(range, "input", () => view.set({ opacity: Number(range.value) }));
    view.watch(["opacity", "overlay", "mode"], show);
    show();
    return label;
  }

  function jumpButton(/** @type {string} */ to, /** @type {string} */ title) {
    const made = element("button", { title }, to);
    view.on(made, "click", () => view.send("jump", { to }));
    return made;
  }

  function legend() {
    const swatch = (/** @type {string} */ colour) => element("span", { className: "l2g-swatch", style: { background: colour } });
    const styles = ["solid", "dashed", "dotted", "double"];
    const line = (/** @type {string} */ name) =>
      element("span", { className: "l2g-line", style: { borderTopStyle: styles[maps.indexOf(name) % 4] } });
    const structureButtons = structures.map(({ label, name, colour }) =>
      button([swatch(colour), name], `Show or hide ${name}`, () => visibleNow().includes(label), () => {
        view.set({ visible: toggle(visibleNow(), label).sort((a, b) => a - b) });
      }, ["visible"]),
    );
    const mapButtons = maps.map((name) =>
      button([line(name), name], `Show or hide the map ${name}`, () => model.get("shown").includes(name), () => {
        const shown = toggle(shownNow(), name);
        view.set({ shown: maps.filter((each) => shown.includes(each)) });
      }, ["shown"]),
    );
    const verdictKey = element("span", { className: "l2g-row l2g-quiet" }, ...Object.entries(verdicts).map(([name, colour]) => element("span", { className: "l2g-key" }, swatch(colour), name)));
    const showKey = () => (verdictKey.hidden = model.get("mode") !== "errors");
    view.watch(["mode"], showKey);
    showKey();
    const jumps = [jumpButton("largest", "Go to the slice where the visible structures are largest")];
    if (maps.length > 1) jumps.push(jumpButton("worst", "Go to the slice with the lowest Dice of the visible structures"));
    const jump = element("span", { className: "l2g-row" }, element("span", { className: "l2g-quiet" }, "go to slice"), element("span", { className: "l2g-choice" }, ...jumps));
    const spring = element("span", { className: "l2g-spring" });
    const chips = [...structureButtons, ...(maps.length > 1 ? mapButtons : []), verdictKey];
    return element("div", { className: "l2g-row l2g-structures" }, ...chips, spring, opacityControl(), jump);
  }

  const controls = [
    windowControl(),
    choice("three_planes", [[false, "one plane", "Only the slices"], [true, "three planes", "Three orthogonal planes"]]),
  ];
  if (maps.length) controls.push(choice("overlay", [["outline", "outline", "Draw outlines"], ["fill", "fill", "Fill the first map"]]));
  if (maps.length > 1) {
    controls.push(
      choice("mode", [["labels", "labels", "Show structures"], ["errors", "errors", `Compare with ${maps[0]}`]]),
      choice("side_by_side", [[false, "together", "All maps on one picture"], [true, "side by side", "A picture for each map"]]),
    );
  }

  const picture = element("div", { className: "l2g-picture" });
  const scroll = element("div", { className: "l2g-scroll" }, element("span", {}, "slice"), slider, number);
  for (const { canvas, value, title } of strips) scroll.append(element("span", { title }, title), canvas, value);
  view.body.append(element("div", { className: "l2g-row l2g-controls" }, ...controls), picture, scroll);
  if (structures.length) view.body.append(legend());

  view.watch(["selection", "window", "overlay", "mode", "opacity", "visible"], draw);
  view.watch(["three_planes", "side_by_side", "shown"], layOut);
  view.onArray((name, start, stop) => {
    const d = voxelNow()[0];
    if (model.get("three_planes") || !/^(volume|labels)/.test(name) || (start <= d && d < stop)) draw();
    else readOut();
  });
  let width = 0;
  view.onLook(view.body, () => {
    if (view.body.clientWidth !== width) {
      width = view.body.clientWidth;
      fit();
    } else drawStrips();
  });
  layOut();
});
