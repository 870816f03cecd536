// A codebook: how often its codes fire, where, and on what. Python counts (widgets/codebook_explorer.py).

import { element, sum, viewer } from "./viewer.js";
import { HEAT_COLOURS, WAYS, brief, cellAt, cellOf, choice, drawCells, drawImage, labelColour } from "./drawing.js";
import { itself, neighbour, outline, panel, pixelBeside, position, sharp, typed } from "./drawing.js";
import { CodeMap, foundCodes } from "./code_map.js";
import { toggled } from "./lasso.js";
import { drawPatches, patchAt } from "./patches.js";

/**
 * What does not change.
 *
 * @typedef {object} Book
 * @property {Float32Array} map two coordinates a code
 * @property {number} variance
 * @property {number[]} labels of the codes
 * @property {number[]} mostly the label that most of a code's pixels have
 * @property {number[]} purity the share of those
 * @property {string[]} classes
 * @property {string[]} volumes
 * @property {number[]} cells
 * @property {number} aspect
 * @property {number} field_px
 * @property {number[]} cell_px
 */
/** @import { Box } from "./drawing.js" */
/** @import { MapTool } from "./code_map.js" */
/** @typedef {{images: number[], index: number, codes: number[]}} Place volume and slice, with its codes */
/** @typedef {{counts: Float32Array, order: number[], text: string, top: number}} Usage within the scope */
/**
 * Of the selected code, or of those that are selected together.
 *
 * @typedef {object} Lit
 * @property {number} code
 * @property {number[]} group
 * @property {string} named what is lit, in words
 * @property {Float32Array} heat
 * @property {number} top
 * @property {string} unit
 * @property {string} title
 * @property {Uint8Array} patches
 * @property {number} patch_px
 * @property {number} count
 * @property {number[]} shares
 * @property {string[]} places where the patches come from, in words
 * @property {string} text
 */

const FLOOR = 16; // room below the bars of the histogram, in pixels
const LEFT = 50; // and at their left

export default viewer((view) => {
  const { model, body } = view;
  const get = (/** @type {string} */ name) => model.get(name);
  body.classList.add("l2g-codebook");

  // Controls
  const scope = choice(view, "count over", ["slice", "volume", "data set"].map(itself), (scope) => view.set({ scope }));
  const order = choice(view, "order of the bars", ["usage", "label", "index"].map(itself), (order) => view.set({ order }));
  const volumes = element("select", { "aria-label": "volume" });
  view.on(volumes, "change", () => view.set({ volume: Number(volumes.value) }));
  const slices = element("input", { type: "range", min: 0, step: 1, "aria-label": "slice" });
  const sliceText = element("output", { className: "l2g-number" });
  const sliceRow = element("label", {}, "slice", slices, sliceText);
  view.on(slices, "input", () => view.select({ voxel: [Number(slices.value), ...view.voxelIn(place.images).slice(1)] }));

  const search = element("input", { type: "search", className: "l2g-search", placeholder: "find a code", "aria-label": "find a code" });
  search.title = "The number of a code, or the name of a structure; Enter goes from one to the next";

  // Pictures
  const where = panel("", "the image, and where the selected code fires; arrow keys move", HEAT_COLOURS);
  const bars = panel("", "usage of each code; arrow keys move");
  const map = panel("", "map of the codebook");
  const gallery = panel("", "patches of the selected code; a click, or 1 to 8, leads there");
  const shares = element("div", { className: "l2g-shares", role: "img" });
  bars.figure.classList.add("l2g-bars");
  map.figure.classList.add("l2g-map");
  gallery.figure.classList.add("l2g-gallery");
  const members = element("tbody");
  const heads = ["code", "fires at", "mostly"].map((head) => element("th", { scope: "col" }, head));
  const table = element("div", { className: "l2g-members" },
    element("table", { "aria-label": "codes that are selected together" }, element("thead", {}, element("tr", {}, ...heads)), members));
  gallery.figure.append(shares, table);
  /** @type {[MapTool, string][]} */
  const tools = [["pan", "pan"], ["lasso", "lasso"]];
  const tool = choice(view, "what a drag over the map does", tools, (tool) => handle(tool));
  tool.buttons[0].title = "Drag the map (h)";
  tool.buttons[1].title = "Draw around codes, to select them together (g, or Shift + drag)";
  map.figure.append(element("div", { className: "l2g-map-tools" }, tool.group));
  const legend = element("div", { className: "l2g-row l2g-legend" });
  body.append(
    element("div", { className: "l2g-row" }, element("span", { className: "l2g-named" }, "count over", scope.group),
      element("span", { className: "l2g-named" }, "order by", order.group), volumes, sliceRow, search),
    element("div", { className: "l2g-grid" }, where.figure, bars.figure, map.figure, gallery.figure),
    legend,
  );

  const take = () => {
    const [book, place, usage, lit] = [get("book"), get("place"), get("usage"), get("lit")];
    const patches = typed(Uint8Array, lit.patches) ?? new Uint8Array();
    return {
      book: /** @type {Book} */ ({ ...book, map: typed(Float32Array, book.map) }),
      place: /** @type {Place} */ (place),
      usage: /** @type {Usage} */ ({ ...usage, counts: typed(Float32Array, usage.counts) }),
      lit: /** @type {Lit} */ ({ ...lit, heat: typed(Float32Array, lit.heat), patches }),
    };
  };
  let { book, place, usage, lit } = take();
  /** Select a code, and let go of a group if there is one. @param {number} code */
  const chosen = (code) => view.set({ group: [], selection: pointedAt(code) });
  const pointedAt = (/** @type {number} */ code) => {
    const { reference, ...rest } = get("selection");
    return { ...rest, code, by: "code" };
  };
  /** The code that is selected, also while Python still looks. @returns {number} */
  const cursor = () => (get("selection").by === "code" ? get("selection").code : lit.code);
  /** Select codes together, and point at the one of them that fires most. @param {number[]} codes */
  const together = (codes) => {
    if (!codes.length) return view.set({ group: [] });
    const first = codes.reduce((best, code) => (usage.counts[code] > usage.counts[best] ? code : best));
    return view.set({ group: codes, selection: pointedAt(codes.includes(cursor()) ? cursor() : first) });
  };
  /** One more, or one less; the first makes a group with the code that is selected. @param {number} code */
  const add = (code) => {
    const group = get("group").length ? get("group") : [cursor()];
    together(code === cursor() && !get("group").length ? [code] : toggled(group, code));
  };
  /** @param {MapTool} named */
  const handle = (named) => {
    codeMap.tool = named;
    map.canvas.style.cursor = named === "pan" ? "grab" : "crosshair";
    tool.show(named);
  };

  const showControls = () => {
    scope.show(get("scope"));
    order.show(get("order"));
    volumes.hidden = book.volumes.length < 2;
    if (volumes.options.length !== book.volumes.length) {
      volumes.replaceChildren(...book.volumes.map((name, value) => element("option", { value }, name)));
    }
    volumes.value = get("volume");
    const [D] = place.images;
    sliceRow.hidden = D < 2;
    slices.max = String(D - 1);
    slices.value = String(place.index);
    sliceText.textContent = `${place.index + 1} / ${D}`;
    const swatch = (/** @type {string} */ name, /** @type {number} */ i) =>
      element("span", {}, element("i", { style: { background: labelColour(i) } }), name);
    legend.replaceChildren(...(book.classes.length ? ["colour: the label most above its share", ...book.classes.map(swatch)] : []));
    bars.caption.textContent = usage.text;
    bars.caption.title = usage.text;
  };

  const drawWhere = () => {
    const [, H, W] = place.images;
    const [h, w] = book.cells;
    where.canvas.style.aspectRatio = `${W} / ${H * book.aspect}`;
    const { context, width, height } = sharp(where.canvas);
    /** @type {Box} */
    const box = [0, 0, width, height];
    const volume = view.arrays.get("images");
    if (volume?.shape[0] === place.images[0] && volume.known[place.index]) {
      drawImage(context, volume.data.subarray(place.index * H * W, (place.index + 1) * H * W), W, H, box);
    }
    drawCells(context, lit.heat, w, h, lit.top, HEAT_COLOURS, box);
    const [r, c] = cellOf(view.voxelIn(place.images).slice(1), [H, W], book.cells);
    if (place.codes[r * w + c] === lit.code) outline(context, (c * width) / w, (r * height) / h, width / w, height / h);
    where.caption.textContent = lit.title;
    where.top.textContent = lit.unit === "(fires)" ? "1 (fires)" : `${brief(100 * lit.top)} % ${lit.unit}`;
  };

  const drawBars = () => {
    const { context, width, height } = sharp(bars.canvas);
    const { counts, order: codes } = usage;
    const step = (width - LEFT) / codes.length;
    const top = Math.max(...counts, 1);
    const room = height - FLOOR - 18;
    const wanted = wantedCodes();
    codes.forEach((code, i) => {
      const length = (room * counts[code]) / top;
      context.fillStyle = labelColour(book.labels[code]);
      context.globalAlpha = code === lit.code ? 1 : !wanted || wanted.has(code) ? 0.8 : 0.12;
      context.fillRect(LEFT + i * step, height - FLOOR - length, Math.max(0.8, step - 0.8), length);
      if (code !== lit.code) return;
      context.globalAlpha = 1;
      context.fillStyle = view.colour("--l2g-accent");
      const middle = LEFT + (i + 0.5) * step;
      context.beginPath();
      context.moveTo(middle, height - FLOOR - length - 3);
      context.lineTo(middle - 5, height - FLOOR - length - 11);
      context.lineTo(middle + 5, height - FLOOR - length - 11);
      context.fill();
    });
    context.globalAlpha = 1;
    context.font = `11px ${getComputedStyle(body).fontFamily}`;
    context.fillStyle = view.colour("--l2g-quiet");
    context.strokeStyle = view.colour("--l2g-line");
    context.beginPath();
    context.moveTo(LEFT, height - FLOOR + 0.5);
    context.lineTo(width, height - FLOOR + 0.5);
    context.stroke();
    context.textAlign = "right";
    context.fillText(`${brief(100 * usage.top)} %`, LEFT - 4, height - FLOOR - room + 4);
    context.fillText("0", LEFT - 4, height - FLOOR + 4);
    context.textAlign = "left";
    context.fillText(`codes by ${get("order")}`, LEFT, height - 2);
  };

  const found = () => foundCodes(search.value, book.labels, book.classes);
  /** What a search finds, else what is selected together. */
  const wantedCodes = () => found() ?? (lit.group.length ? new Set(lit.group) : null);
  const codeMap = new CodeMap(view, map.canvas, {
    choose: chosen,
    add,
    group: together,
    hover: (code) => view.status(code === undefined ? lit.text : about(code)),
  });
  const drawMap = () => {
    const colours = book.labels.map(labelColour);
    codeMap.draw({ places: book.map, colours, counts: usage.counts, chosen: lit.code, found: wantedCodes(), aspect: book.aspect });
    map.caption.textContent = `map of the codes: two principal components, ${Math.round(100 * book.variance)} % of the variance`;
  };

  const drawGallery = () => {
    gallery.caption.textContent = lit.count
      ? `patches of ${lit.named}; box: receptive field, ${book.field_px} pixels`
      : `${lit.named} ${lit.group.length > 1 ? "do" : "does"} not fire here`;
    drawPatches(gallery.canvas, lit, book);
    const parts = book.classes.length ? lit.shares : [];
    const words = parts.map((share, label) => `${book.classes[label]} ${(100 * share).toFixed(0)} %`);
    const named = words.filter((_, label) => parts[label] >= 0.005);
    shares.setAttribute("aria-label", `labels under ${lit.named}: ${named.join(", ")}`);
    shares.replaceChildren(
      ...parts.map((share, i) => element("i", { title: words[i], style: { width: `${100 * share}%`, background: labelColour(i) } })),
    );
    shares.hidden = !parts.length;
    table.hidden = lit.group.length < 2;
    heads[2].hidden = !book.classes.length;
    members.replaceChildren(...(table.hidden ? [] : usage.order.filter((code) => lit.group.includes(code)).map(row)));
  };

  /** A code of the group. @param {number} code */
  const row = (code) => {
    const only = element("button", { title: `Only code ${code}` }, `code ${code}`);
    view.on(only, "click", () => chosen(code));
    const share = usage.counts[code] / Math.max(1, sum(usage.counts));
    const mostly = book.purity[code] ? `${Math.round(100 * book.purity[code])} % ${book.classes[book.mostly[code]]}` : "";
    const cells = [only, `${(100 * share).toFixed(2)} % of the pixels`, ...(book.classes.length ? [mostly] : [])];
    return element("tr", {}, ...cells.map((cell) => element("td", {}, cell)));
  };

  const draw = () => {
    ({ book, place, usage, lit } = take());
    showControls();
    drawWhere();
    drawBars();
    drawMap();
    drawGallery();
    view.status(lit.text);
  };

  const selectPixel = (/** @type {number[]} */ pixel) => {
    const [row, column] = cellOf(pixel, place.images.slice(1), book.cells);
    const code = place.codes[row * book.cells[1] + column];
    view.set({ group: [], selection: { ...pointedAt(code), voxel: [place.index, ...pixel], by: "voxel" } });
  };
  view.on(where.canvas, "click", (event) => {
    const [, H, W] = place.images;
    selectPixel(cellAt(position(event), [0, 0, where.canvas.clientWidth, where.canvas.clientHeight], H, W));
  });
  view.on(where.canvas, "keydown", (event) => {
    const way = WAYS[event.key];
    if (!way) return;
    event.preventDefault();
    const size = place.images.slice(1);
    const cell = cellOf(view.voxelIn(place.images).slice(1), size, book.cells);
    selectPixel(pixelBeside(cell, way, size, book.cells));
  });
  const barAt = (/** @type {MouseEvent} */ event) => {
    const [x] = position(event);
    return usage.order[Math.floor(((x - LEFT) / (bars.canvas.clientWidth - LEFT)) * usage.order.length)];
  };
  const about = (/** @type {number} */ code) => {
    const share = usage.counts[code] / Math.max(1, sum(usage.counts));
    return `code ${code}: ${(100 * share).toFixed(2)} % of the pixels`;
  };
  view.on(bars.canvas, "click", (event) => {
    const code = barAt(event);
    if (code !== undefined) (event.shiftKey ? add : chosen)(code);
  });
  view.on(bars.canvas, "mousemove", (event) => {
    const code = barAt(event);
    view.status(code === undefined ? lit.text : about(code));
  });
  view.on(bars.canvas, "mouseleave", () => view.status(lit.text));
  for (const canvas of [bars.canvas, map.canvas]) {
    view.on(canvas, "keydown", (event) => {
      const way = WAYS[event.key];
      if (way) view.set({ selection: pointedAt(neighbour(usage.order, cursor(), way[0] + way[1])) });
      else if (event.key === "Enter" && event.shiftKey) add(cursor());
      else if (event.key === "Escape") view.set({ group: [] });
      else return;
      event.preventDefault();
    });
  }

  // From a patch to where it comes from
  const visit = (/** @type {number} */ example) => {
    if (example < lit.count) view.send("visit", { example });
  };
  view.on(gallery.canvas, "click", (event) => visit(patchAt(position(event), gallery.canvas)));
  view.on(gallery.canvas, "mousemove", (event) => {
    const number = patchAt(position(event), gallery.canvas);
    gallery.canvas.title = number < lit.count ? `${lit.places[number]}: click to go there` : "";
  });
  view.on(gallery.canvas, "keydown", (event) => /^[1-8]$/.test(event.key) && visit(Number(event.key) - 1));

  view.on(map.canvas, "keydown", (event) => event.key === "h" ? handle("pan") : event.key === "g" && handle("lasso"));
  handle("pan");

  // A search
  view.on(search, "input", () => {
    drawMap();
    drawBars();
    const codes = found();
    view.status(codes ? `${codes.size} of ${book.labels.length} codes found` : lit.text);
  });
  view.on(search, "keydown", (event) => {
    if (event.key !== "Enter") return;
    const codes = usage.order.filter((code) => found()?.has(code));
    if (codes.length) chosen(codes.includes(lit.code) ? neighbour(codes, lit.code, event.shiftKey ? -1 : 1) : codes[0]);
  });

  const redraw = view.eachFrame(draw);
  view.watch(["book", "place", "usage", "lit", "scope", "order", "volume", "selection", "group"], redraw);
  view.onArray(redraw);
  view.onLook(body, redraw);
  redraw();
});
