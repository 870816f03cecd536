import { element, pen, sum, viewer } from "./viewer.js";
import { agreement, Cut, dragged, edges, greys, known, millimetres, pixel, stepped, strokeEdges } from "./slices.js";

/** @import { Values } from "./viewer.js" */
/** @import { Plane } from "./slices.js" */
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
/** @typedef {ReturnType<typeof blank>} Pane */
/**
 * @typedef {<Type extends keyof HTMLElementEventMap>(
 *   type: Type, handler: (event: HTMLElementEventMap[Type]) => void, options?: AddEventListenerOptions
 * ) => void} Listen
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

/**
 * A canvas of the pixels of a cut, to be painted as 32-bit numbers.
 *
 * @param {Cut} cut
 */
function layer({ rows, columns }) {
  const canvas = element("canvas", { width: columns, height: rows });
  const context = pen(canvas);
  const image = context.createImageData(columns, rows);
  return { canvas, context, image, pixels: new Uint32Array(image.data.buffer) };
}

/**
 * A picture of one plane with the maps `shown` on it; `labels` and `truth` are room for those of a slice.
 *
 * @param {number} plane
 * @param {Cut} cut
 * @param {string[]} shown
 * @param {string} title
 */
function blank(plane, cut, shown, title) {
  const canvas = element("canvas", { tabIndex: 0, role: "img" });
  const caption = element("div", { className: "l2g-caption" });
  const sides = ["top", "bottom", "left", "right"].map((side, i) =>
    element("span", { className: `l2g-letter l2g-${side}`, "aria-hidden": "true" }, cut.plane.letters[i]),
  );
  const box = element("div", { className: "l2g-pane" }, canvas, caption, ...sides);
  const [labels, truth] = [new Uint8Array(cut.size), new Uint8Array(cut.size)];
  return { plane, axis: cut.plane.axis, cut, shown, canvas, caption, box, title, grey: layer(cut), paint: layer(cut), labels, truth };
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
  /** @type {Pane[]} */
  let panes = [];
  let layout = new AbortController(); // ends the listeners of the panes that are replaced
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

  function onWheel(/** @type {WheelEvent} */ event, /** @type {number} */ axis) {
    const step = -Math.sign(event.deltaY);
    const now = voxelNow()[axis];
    if (event.ctrlKey || !step || now + step < 0 || now + step >= shape[axis]) return; // at an end the page scrolls on
    event.preventDefault();
    move(axis, now + step);
  }

  function codeAt(/** @type {number[]} */ [d, h, w]) {
    const codes = arrays.get("codes");
    if (!codes || !codes.known[d]) return null;
    const [, rows, columns] = codes.shape;
    return codes.data[(d * rows + Math.floor((h * rows) / shape[1])) * columns + Math.floor((w * columns) / shape[2])];
  }

  // -- The pictures --------------------------------------------------------------------------------------------------

  function makePane(/** @type {number} */ plane, /** @type {string[]} */ shown) {
    const title = maps.length && model.get("side_by_side") ? shown.join(", ") : planes[plane].name;
    const pane = blank(plane, cuts[plane], shown, title);
    /** @type {Listen} */
    const listen = (type, handler, options) => view.on(pane.canvas, type, handler, { signal: layout.signal, ...options });
    listen("keydown", (event) => onKey(event, pane.axis));
    listen("wheel", (event) => onWheel(event, pane.axis), { passive: false });
    listen("pointerleave", () => {
      hovered = null;
      readOut();
    });
    listenToPointer(pane, listen);
    return pane;
  }

  /**
   * A click points at a voxel; a drag changes the window: across its width, down its level.
   *
   * @param {Pane} pane
   * @param {Listen} listen
   */
  function listenToPointer(pane, listen) {
    /** @type {{x: number, y: number, window: number[], dragged: boolean} | null} */
    let press = null;
    /** @type {(place: number, count: number) => number} */
    const inside = (place, count) => Math.min(Math.max(place, 0), count - 1);
    const voxelAt = (/** @type {PointerEvent} */ event) => {
      const { left, top, width, height } = pane.canvas.getBoundingClientRect();
      const row = Math.floor(((event.clientY - top) / height) * pane.cut.rows);
      const column = Math.floor(((event.clientX - left) / width) * pane.cut.columns);
      return pane.cut.voxel(voxelNow()[pane.axis], inside(row, pane.cut.rows), inside(column, pane.cut.columns));
    };
    listen("pointerdown", (event) => {
      if (event.button !== 0) return;
      press = { x: event.clientX, y: event.clientY, window: model.get("window"), dragged: false };
      pane.canvas.setPointerCapture(event.pointerId);
    });
    listen("pointermove", (event) => {
      hovered = voxelAt(event);
      if (press) {
        const [dx, dy] = [event.clientX - press.x, event.clientY - press.y];
        press.dragged ||= Math.hypot(dx, dy) > 3;
        if (press.dragged) view.set({ window: dragged(press.window, dx, dy) });
      }
      readOut();
    });
    listen("pointerup", (event) => {
      if (press && !press.dragged) {
        const voxel = voxelAt(event);
        view.select({ voxel, by: "voxel", ...(arrays.get("codes") ? { code: codeAt(voxel) } : {}) });
      }
      press = null;
    });
  }

  /** One row: a pane a map if side by side. With three planes: a row of planes, for each map if side by side. */
  function layOut() {
    layout.abort();
    layout = new AbortController();
    const shown = shownNow();
    const groups = model.get("side_by_side") && shown.length ? shown.map((name) => [name]) : [shown];
    const rows = model.get("three_planes")
      ? groups.map((group) => [0, 1, 2].map((plane) => makePane(plane, group)))
      : [groups.map((group) => makePane(0, group))];
    panes = rows.flat();
    picture.replaceChildren(...rows.map((row) => element("div", { className: "l2g-panes" }, ...row.map(({ box }) => box))));
    fit();
  }

  /** Size all panes by one scale, so that a millimetre is the same everywhere. */
  function fit() {
    const rows = [...picture.children].map((row) => panes.filter(({ box }) => box.parentElement === row));
    const widthMm = (/** @type {Pane} */ { cut, plane }) => cut.columns * spacingMm[planes[plane].across];
    const heightMm = (/** @type {Pane} */ { cut, plane }) => cut.rows * spacingMm[planes[plane].down];
    const scales = rows.map((row) => {
      const room = picture.clientWidth - 6 * (row.length - 1);
      const wide = room / sum(row.map(widthMm));
      return Math.min(wide, PANES_HEIGHT / Math.max(...row.map(heightMm)));
    });
    const perMm = Math.max(Math.min(...scales), 0.1);
    for (const pane of panes) {
      const [width, height] = [widthMm(pane), heightMm(pane)].map((mm) => Math.max(1, Math.round(mm * perMm)));
      Object.assign(pane.canvas.style, { width: `${width}px`, height: `${height}px` });
      pane.canvas.width = Math.round(width * devicePixelRatio);
      pane.canvas.height = Math.round(height * devicePixelRatio);
    }
    draw();
  }

  let table = { window: [NaN, NaN], ...greys(new Uint8Array(), scale, [0, 0]) };
  function greyTable(/** @type {Values} */ data) {
    const window = model.get("window");
    if (table.window !== window) table = { window, ...greys(data, scale, window) };
    return table;
  }

  function draw() {
    for (const pane of panes) drawPane(pane);
    drawStrips();
    readOut();
  }

  function drawPane(/** @type {Pane} */ pane) {
    const { canvas, cut, axis, grey, caption, title } = pane;
    const voxel = voxelNow();
    const index = voxel[axis];
    const context = pen(canvas);
    const volume = arrays.get("volume");
    const here = volume && (axis === 0 ? volume.known[index] : volume.rows > 0);
    caption.textContent = `${title} · ${index + 1} of ${shape[axis]}${here ? "" : " · loading"}`;
    canvas.setAttribute("aria-label", `${title}, slice ${index + 1} of ${shape[axis]}`);
    context.fillStyle = "black";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!here) return;
    const { table: greyOf, shift } = greyTable(volume.data);
    cut.copy(volume.data, index, grey.pixels, greyOf, shift);
    grey.context.putImageData(grey.image, 0, 0);
    context.imageSmoothingEnabled = true;
    context.drawImage(grey.canvas, 0, 0, canvas.width, canvas.height);
    const visible = new Uint8Array(256);
    for (const label of visibleNow()) visible[label] = label;
    const painted = model.get("mode") === "errors" ? drawErrors : drawLabels;
    painted(pane, context, index, visible);
    drawCode(pane, context, index);
    if (model.get("three_planes")) drawCross(pane, context, voxel);
  }

  /**
   * Labels of a map on a slice, 0 where they are hidden or not here yet.
   *
   * @param {string} name
   * @param {Pane} pane
   * @param {number} index
   * @param {Uint8Array} visible
   * @param {Uint8Array} target
   */
  function copyLabels(name, pane, index, visible, target) {
    const array = arrays.get(`labels of ${name}`);
    if (array) pane.cut.copy(array.data, index, target, visible);
    else target.fill(0);
  }

  /** @type {(pane: Pane, context: CanvasRenderingContext2D, index: number, visible: Uint8Array) => void} */
  function drawLabels(pane, context, index, visible) {
    const fill = model.get("overlay") === "fill";
    pane.shown.forEach((name, position) => {
      copyLabels(name, pane, index, visible, pane.labels);
      const filled = fill && position === 0;
      if (filled) paintOver(pane, context, colours, model.get("opacity"));
      const width = Math.round((filled ? 1 : 2) * devicePixelRatio);
      stroke(pane, context, pane.labels, colours, width, DASHES[maps.indexOf(name) % DASHES.length]);
    });
  }

  /** @type {(pane: Pane, context: CanvasRenderingContext2D, index: number, visible: Uint8Array) => void} */
  function drawErrors(pane, context, index, visible) {
    const compared = pane.shown.find((name) => name !== maps[0]);
    if (!compared) return drawLabels(pane, context, index, visible);
    copyLabels(maps[0], pane, index, visible, pane.truth);
    copyLabels(compared, pane, index, visible, pane.labels);
    agreement(pane.truth, pane.labels, pane.labels);
    paintOver(pane, context, [null, ...Object.values(verdicts)], Math.max(model.get("opacity"), 0.3));
    return stroke(pane, context, pane.truth, WHITE, devicePixelRatio, []); // the verdicts need the colours
  }

  /** @type {(pane: Pane, context: CanvasRenderingContext2D, index: number) => void} */
  function drawCode(pane, context, index) {
    const { code } = model.get("selection");
    if (code === undefined || !arrays.get("codes")) return;
    let i = 0;
    for (let row = 0; row < pane.cut.rows; row += 1) {
      for (let column = 0; column < pane.cut.columns; column += 1) {
        pane.labels[i++] = codeAt(pane.cut.voxel(index, row, column)) === code ? 1 : 0;
      }
    }
    paintOver(pane, context, [null, "#ffffff"], 0.25);
    stroke(pane, context, pane.labels, [null, "#ffffff"], devicePixelRatio, []);
  }

  /**
   * Fill the pane's labels.
   *
   * @param {Pane} pane
   * @param {CanvasRenderingContext2D} context
   * @param {(string | null)[]} palette
   * @param {number} opacity
   */
  function paintOver({ canvas, paint, labels }, context, palette, opacity) {
    const pixels = new Uint32Array(256);
    palette.forEach((colour, label) => colour && (pixels[label] = pixel(colour, opacity)));
    for (let i = 0; i < labels.length; i += 1) paint.pixels[i] = pixels[labels[i]];
    paint.context.putImageData(paint.image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(paint.canvas, 0, 0, canvas.width, canvas.height);
  }

  /**
   * Outline labels.
   *
   * @param {Pane} pane
   * @param {CanvasRenderingContext2D} context
   * @param {Uint8Array} labels
   * @param {(string | null)[]} palette
   * @param {number} width
   * @param {number[]} dash
   */
  function stroke({ canvas, cut }, context, labels, palette, width, dash) {
    const runs = edges(labels, cut.rows, cut.columns);
    const scaled = dash.map((length) => length * devicePixelRatio);
    strokeEdges(context, runs, canvas.width / cut.columns, canvas.height / cut.rows, palette, width, scaled);
  }

  /** @type {(pane: Pane, context: CanvasRenderingContext2D, voxel: number[]) => void} */
  function drawCross({ canvas, cut }, context, voxel) {
    const [row, column] = cut.place(voxel);
    const [x, y] = [((column + 0.5) * canvas.width) / cut.columns, ((row + 0.5) * canvas.height) / cut.rows];
    context.fillStyle = "rgba(255, 255, 255, 0.45)";
    context.fillRect(0, Math.round(y), canvas.width, devicePixelRatio);
    context.fillRect(Math.round(x), 0, devicePixelRatio, canvas.height);
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
    return element("div", { className: "l2g-row l2g-legend" }, ...chips, spring, opacityControl(), jump);
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
