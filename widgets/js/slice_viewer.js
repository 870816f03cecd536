import { element, viewer } from "./viewer.js";
import { agreement, Cut, edges, greys, pixel, strokeEdges } from "./slices.js";

const DASHES = [[], [6, 4], [2, 3], [8, 3, 2, 3]];
const PANES_HEIGHT = 480;
const THUMB = 14; // as in slice_viewer.css
const STRIP_HEIGHT = 22;
const WHITE = Array(256).fill("#ffffff");

export default viewer((view) => {
  const { model, arrays } = view;
  const { shape, spacing_mm: spacingMm, affine, planes, scale, presets, maps, structures, agreement: verdicts } = model.get("about");
  const cuts = planes.map((plane) => new Cut(plane, shape));
  const colours = [];
  for (const { label, colour } of structures) colours[label] = colour;
  const names = Object.fromEntries(structures.map(({ label, name }) => [label, name]));
  const toggle = (list, value) => (list.includes(value) ? list.filter((other) => other !== value) : [...list, value]);
  const ordered = (list, order) => order.filter((value) => list.includes(value));
  const voxelNow = () => model.get("selection").voxel ?? shape.map((n) => n >> 1);
  let panes = [];
  let layout = new AbortController(); // ends the listeners of the panes that are replaced
  let hovered = null;

  // -- Moves ---------------------------------------------------------------------------------------------------------

  function move(axis, index) {
    const voxel = [...voxelNow()];
    voxel[axis] = Math.min(Math.max(index, 0), shape[axis] - 1);
    if (voxel[axis] !== voxelNow()[axis]) view.select({ voxel });
  }

  function onKey(event, axis) {
    const now = voxelNow()[axis];
    const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 };
    const ends = { Home: 0, End: shape[axis] - 1 };
    if (!(event.key in steps || event.key in ends) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    move(axis, ends[event.key] ?? now + steps[event.key]);
  }

  function onWheel(event, axis) {
    const step = -Math.sign(event.deltaY);
    const now = voxelNow()[axis];
    if (event.ctrlKey || !step || now + step < 0 || now + step >= shape[axis]) return; // at an end the page scrolls on
    event.preventDefault();
    move(axis, now + step);
  }

  function codeAt([d, h, w]) {
    const codes = arrays.get("codes");
    if (!codes || !codes.known[d]) return null;
    const [, rows, columns] = codes.shape;
    return codes.data[(d * rows + Math.floor((h * rows) / shape[1])) * columns + Math.floor((w * columns) / shape[2])];
  }

  // -- The pictures --------------------------------------------------------------------------------------------------

  function makePane(plane, shown) {
    const cut = cuts[plane];
    const { axis, name, letters } = planes[plane];
    const canvas = element("canvas", { tabIndex: 0, role: "img" });
    const caption = element("div", { className: "l2g-caption" });
    const sides = ["top", "bottom", "left", "right"].map((side, i) =>
      element("span", { className: `l2g-letter l2g-${side}`, "aria-hidden": "true" }, letters[i]),
    );
    const box = element("div", { className: "l2g-pane" }, canvas, caption, ...sides);
    const buffer = () => element("canvas", { width: cut.columns, height: cut.rows });
    const pane = { plane, axis, cut, shown, canvas, caption, box, title: maps.length && model.get("side_by_side") ? shown.join(", ") : name };
    pane.layers = [buffer(), buffer()].map((layer) => {
      const context = layer.getContext("2d");
      const image = context.createImageData(cut.columns, cut.rows);
      return { layer, context, image, pixels: new Uint32Array(image.data.buffer) };
    });
    pane.labels = new Uint8Array(cut.size);
    pane.truth = new Uint8Array(cut.size);
    const listen = (type, handler, options) => view.on(canvas, type, handler, { signal: layout.signal, ...options });
    listen("keydown", (event) => onKey(event, axis));
    listen("wheel", (event) => onWheel(event, axis), { passive: false });
    listen("pointerleave", () => {
      hovered = null;
      readOut();
    });
    listenToPointer(pane, listen);
    return pane;
  }

  /** A click points at a voxel; a drag changes the window: across its width, down its level. */
  function listenToPointer(pane, listen) {
    let press = null;
    const voxelAt = (event) => {
      const { left, top, width, height } = pane.canvas.getBoundingClientRect();
      const row = Math.floor(((event.clientY - top) / height) * pane.cut.rows);
      const column = Math.floor(((event.clientX - left) / width) * pane.cut.columns);
      const inside = (place, count) => Math.min(Math.max(place, 0), count - 1);
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
        if (press.dragged) {
          const [low, high] = press.window;
          const width = (high - low) * Math.exp(dx / 200);
          const level = (low + high) / 2 + ((high - low) * dy) / 300;
          view.set({ window: [level - width / 2, level + width / 2] });
        }
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
    const shown = ordered(model.get("shown"), maps);
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
    const widthMm = ({ cut, plane }) => cut.columns * spacingMm[planes[plane].across];
    const heightMm = ({ cut, plane }) => cut.rows * spacingMm[planes[plane].down];
    const scales = rows.map((row) => {
      const room = picture.clientWidth - 6 * (row.length - 1);
      const wide = room / row.reduce((sum, pane) => sum + widthMm(pane), 0);
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

  let table = null;
  function greyTable(data) {
    const window = model.get("window");
    if (table?.window !== window) table = { window, ...greys(data, scale, window) };
    return table;
  }

  function draw() {
    for (const pane of panes) drawPane(pane);
    drawStrips();
    readOut();
  }

  function drawPane(pane) {
    const { canvas, cut, axis, layers, caption, title } = pane;
    const voxel = voxelNow();
    const index = voxel[axis];
    const context = canvas.getContext("2d");
    const volume = arrays.get("volume");
    const here = volume && (axis === 0 ? volume.known[index] : volume.rows > 0);
    caption.textContent = `${title} · ${index + 1} of ${shape[axis]}${here ? "" : " · loading"}`;
    canvas.setAttribute("aria-label", `${title}, slice ${index + 1} of ${shape[axis]}`);
    context.fillStyle = "black";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!here) return;
    const [grey, paint] = layers;
    const { table: greyOf, shift } = greyTable(volume.data);
    cut.copy(volume.data, index, grey.pixels, greyOf, shift);
    grey.context.putImageData(grey.image, 0, 0);
    context.imageSmoothingEnabled = true;
    context.drawImage(grey.layer, 0, 0, canvas.width, canvas.height);
    const visible = new Uint8Array(256);
    for (const label of model.get("visible")) visible[label] = label;
    const painted = model.get("mode") === "errors" ? drawErrors : drawLabels;
    painted(pane, context, index, visible, paint);
    drawCode(pane, context, index, paint);
    if (model.get("three_planes")) drawCross(pane, context, voxel);
  }

  /** Labels of a map on a slice, 0 where they are hidden or not here yet. */
  function copyLabels(name, pane, index, visible, target) {
    const array = arrays.get(`labels of ${name}`);
    if (array) pane.cut.copy(array.data, index, target, visible);
    else target.fill(0);
  }

  function drawLabels(pane, context, index, visible, paint) {
    const fill = model.get("overlay") === "fill";
    pane.shown.forEach((name, position) => {
      copyLabels(name, pane, index, visible, pane.labels);
      const filled = fill && position === 0;
      if (filled) paintOver(pane, context, paint, pane.labels, colours, model.get("opacity"));
      const width = Math.round((filled ? 1 : 2) * devicePixelRatio);
      stroke(pane, context, pane.labels, colours, width, DASHES[maps.indexOf(name) % DASHES.length]);
    });
  }

  function drawErrors(pane, context, index, visible, paint) {
    const compared = pane.shown.find((name) => name !== maps[0]);
    if (!compared) return drawLabels(pane, context, index, visible, paint);
    copyLabels(maps[0], pane, index, visible, pane.truth);
    copyLabels(compared, pane, index, visible, pane.labels);
    agreement(pane.truth, pane.labels, pane.labels);
    paintOver(pane, context, paint, pane.labels, [null, ...Object.values(verdicts)], Math.max(model.get("opacity"), 0.3));
    return stroke(pane, context, pane.truth, WHITE, devicePixelRatio, []); // the verdicts need the colours
  }

  function drawCode(pane, context, index, paint) {
    const { code } = model.get("selection");
    if (code === undefined || !arrays.get("codes")) return;
    let i = 0;
    for (let row = 0; row < pane.cut.rows; row += 1) {
      for (let column = 0; column < pane.cut.columns; column += 1) {
        pane.labels[i++] = codeAt(pane.cut.voxel(index, row, column)) === code ? 1 : 0;
      }
    }
    paintOver(pane, context, paint, pane.labels, [null, "#ffffff"], 0.25);
    stroke(pane, context, pane.labels, [null, "#ffffff"], devicePixelRatio, []);
  }

  function paintOver(pane, context, paint, labels, palette, opacity) {
    const pixels = new Uint32Array(256);
    palette.forEach((colour, label) => colour && (pixels[label] = pixel(colour, opacity)));
    for (let i = 0; i < labels.length; i += 1) paint.pixels[i] = pixels[labels[i]];
    paint.context.putImageData(paint.image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(paint.layer, 0, 0, pane.canvas.width, pane.canvas.height);
  }

  function stroke({ canvas, cut }, context, labels, palette, width, dash) {
    const runs = edges(labels, cut.rows, cut.columns);
    const scaled = dash.map((length) => length * devicePixelRatio);
    strokeEdges(context, runs, canvas.width / cut.columns, canvas.height / cut.rows, palette, width, scaled);
  }

  function drawCross({ canvas, cut }, context, voxel) {
    const [row, column] = cut.place(voxel);
    const [x, y] = [((column + 0.5) * canvas.width) / cut.columns, ((row + 0.5) * canvas.height) / cut.rows];
    context.fillStyle = "rgba(255, 255, 255, 0.45)";
    context.fillRect(0, Math.round(y), canvas.width, devicePixelRatio);
    context.fillRect(Math.round(x), 0, devicePixelRatio, canvas.height);
  }

  // -- What lies under the cursor ------------------------------------------------------------------------------------

  function millimetres(voxel) {
    if (!affine) return `${voxel.map((index, axis) => (index * spacingMm[axis]).toFixed(1)).join(", ")} mm`;
    const world = affine.slice(0, 3).map((row) => row[3] + row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2]);
    return `${world.map((mm, axis) => `${"RAS LPI"[axis + (mm < 0 ? 4 : 0)]} ${Math.abs(mm).toFixed(1)}`).join("  ")} mm`;
  }

  function readOut() {
    const voxel = hovered ?? voxelNow();
    const at = (voxel[0] * shape[1] + voxel[1]) * shape[2] + voxel[2];
    const parts = [`voxel ${voxel.join(", ")}`, millimetres(voxel)];
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
  function stripValues(name) {
    const array = arrays.get(name === "area" ? "areas" : `dice of ${name}`);
    if (!array || array.rows < shape[0]) return null;
    const visible = model.get("visible");
    const L = array.shape[1];
    return Array.from({ length: shape[0] }, (_, d) => {
      const values = visible.map((label) => array.data[d * L + label]).filter((value) => !Number.isNaN(value));
      const sum = values.reduce((total, value) => total + value, 0);
      return name === "area" ? sum * ((spacingMm[1] * spacingMm[2]) / 100) : sum / values.length;
    });
  }

  function drawStrips() {
    const d = voxelNow()[0];
    const [here, elsewhere] = [view.colour("--l2g-accent"), view.colour("--l2g-bar")];
    slider.value = d;
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
      const context = canvas.getContext("2d");
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

  /** A button that shows a trait's state; `pressed` reads it and `press` changes it. */
  function button(content, title, pressed, press, traits) {
    const made = element("button", { title }, ...content);
    const show = () => made.setAttribute("aria-pressed", String(pressed()));
    view.on(made, "click", press);
    view.watch(traits, show);
    show();
    return made;
  }

  function choice(trait, options) {
    const buttons = options.map(([value, text, title]) =>
      button([text], title, () => model.get(trait) === value, () => view.set({ [trait]: value }), [trait]),
    );
    return element("span", { className: "l2g-choice", role: "group" }, ...buttons);
  }

  function windowControl() {
    const select = element("select", { title: "Window: drag over the picture to change it" });
    const values = element("output", { className: "l2g-quiet" });
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

  function jumpButton(to, title) {
    const made = element("button", { title }, to);
    view.on(made, "click", () => view.send("jump", { to }));
    return made;
  }

  function legend() {
    const swatch = (colour) => element("span", { className: "l2g-swatch", style: { background: colour } });
    const line = (name) => element("span", { className: "l2g-line", style: { borderTopStyle: ["solid", "dashed", "dotted", "double"][maps.indexOf(name) % 4] } });
    const structureButtons = structures.map(({ label, name, colour }) =>
      button([swatch(colour), name], `Show or hide ${name}`, () => model.get("visible").includes(label), () => {
        view.set({ visible: toggle(model.get("visible"), label).sort((a, b) => a - b) });
      }, ["visible"]),
    );
    const mapButtons = maps.map((name) =>
      button([line(name), name], `Show or hide the map ${name}`, () => model.get("shown").includes(name), () => {
        view.set({ shown: ordered(toggle(model.get("shown"), name), maps) });
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
