import { element, pen, sum, viewer } from "./viewer.js";
import { brief, codeColour, percent } from "./drawing.js";
import { CodeMap } from "./code_map.js";
import { playerOf } from "./player.js";
import { edges, greys, strokeEdges } from "./slices.js";

/** @import { Held, View } from "./viewer.js" */
/** @typedef {{name: string, colour: string, values: (number | null)[]}} Line null where there is no value */
/** @typedef {{title: string, top: number, epochs: number[], lines: Line[]}} Panel */

const CHART_HEIGHT = 170;

export default viewer((view) => {
  const { model, arrays } = view;
  const text = element("div", { className: "l2g-progress-text" });
  const bar = element("div", { className: "l2g-progress-bar" });
  const track = element("div", { className: "l2g-progress", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 }, bar);
  const charts = element("div", { className: "l2g-charts" });
  const samples = element("div", { className: "l2g-samples" });
  const key = element("div", { className: "l2g-sample-key", hidden: true }, "newest epoch on validation slices: truth solid, prediction dotted");
  const forming = codesForming(view);
  view.body.append(text, track, charts, forming.element, samples, key);

  function showProgress() {
    const { epoch, epochs, state, text: words } = model.get("progress");
    const share = epochs ? Math.round((100 * epoch) / epochs) : 0;
    text.textContent = words;
    text.dataset.state = state;
    bar.style.width = `${state === "finished" ? 100 : share}%`;
    track.setAttribute("aria-valuenow", String(share));
  }

  function showCharts() {
    /** @type {Panel[]} */
    const panels = model.get("panels");
    charts.replaceChildren(
      ...panels.map((panel) => {
        const canvas = element("canvas", { role: "img" });
        const last = (/** @type {Line} */ line) => line.values.at(-1)?.toPrecision(3) ?? "–";
        canvas.setAttribute("aria-label", `${panel.title}: ${panel.lines.map((line) => `${line.name} ${last(line)}`).join(", ")}`);
        const legend = panel.lines.map((line) =>
          element("span", { className: "l2g-key" }, element("span", { className: "l2g-swatch", style: { background: line.colour } }), `${line.name} ${last(line)}`),
        );
        return element("figure", { className: "l2g-chart" }, element("figcaption", {}, panel.title), canvas, element("div", { className: "l2g-row" }, ...legend));
      }),
    );
    charts.querySelectorAll("canvas").forEach((canvas, i) => drawChart(canvas, panels[i]));
  }

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Panel} panel
   */
  function drawChart(canvas, { epochs, top, lines }) {
    const ratio = devicePixelRatio;
    const [width, height] = [canvas.parentElement?.clientWidth ?? 0, CHART_HEIGHT];
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    const context = pen(canvas);
    context.scale(ratio, ratio);
    const [left, right, above, below] = [40, width - 8, 8, height - 20];
    const [first, newest] = [epochs[0], epochs[epochs.length - 1]];
    const last = Math.max(newest, first + 1);
    const x = (/** @type {number} */ epoch) => left + ((epoch - first) / (last - first)) * (right - left);
    const y = (/** @type {number} */ value) => below - (value / top) * (below - above);
    context.font = `11px ${getComputedStyle(view.body).fontFamily}`;
    context.fillStyle = view.colour("--l2g-quiet");
    context.strokeStyle = view.colour("--l2g-line");
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const share of [0, 0.5, 1]) {
      const at = Math.round(y(share * top)) + 0.5;
      context.beginPath();
      context.moveTo(left, at);
      context.lineTo(right, at);
      context.stroke();
      context.fillText((share * top).toFixed(top > 20 ? 0 : 2), left - 6, at);
    }
    context.textBaseline = "top";
    context.textAlign = "left";
    context.fillText(`epoch ${brief(first)}`, left, below + 5);
    context.textAlign = "right";
    context.fillText(brief(newest), right, below + 5);
    context.lineWidth = 1.8;
    context.lineJoin = "round";
    for (const { colour, values } of lines) {
      context.strokeStyle = colour;
      context.fillStyle = colour;
      context.beginPath();
      let down = false;
      let [endX, endY] = [NaN, NaN];
      values.forEach((value, i) => {
        if (value !== null) {
          [endX, endY] = [x(epochs[i]), y(value)];
          if (down) context.lineTo(endX, endY);
          else context.moveTo(endX, endY);
        }
        down = value !== null;
      });
      context.stroke();
      context.beginPath();
      context.arc(endX, endY, 3, 0, 2 * Math.PI);
      context.fill();
    }
  }

  function showSamples() {
    const [image, truth, predicted] = ["image", "truth", "predicted"].map((name) => arrays.get(name));
    if (!image?.rows || !truth?.rows || !predicted?.rows) return;
    key.hidden = false;
    const [count, rows, columns] = image.shape;
    const { table } = greys(image.data, [1, 0], [0, 255]);
    const scale = Math.max(1, Math.floor((Math.min(200, view.body.clientWidth / count - 8) * devicePixelRatio) / columns));
    /** @type {string[]} */
    const palette = model.get("colours");
    const colours = [null, ...Array.from({ length: 255 }, (_, i) => palette[i % palette.length])];
    samples.replaceChildren(
      ...Array.from({ length: count }, (_, i) => {
        const small = element("canvas", { width: columns, height: rows });
        const context = pen(small);
        const pixels = context.createImageData(columns, rows);
        new Uint32Array(pixels.data.buffer).set(Array.from(part(image, i), (value) => table[value]));
        context.putImageData(pixels, 0, 0);
        const canvas = element("canvas", { width: columns * scale, height: rows * scale, role: "img" });
        canvas.setAttribute("aria-label", `validation slice ${i + 1}`);
        canvas.style.width = `${(columns * scale) / devicePixelRatio}px`;
        const large = pen(canvas);
        large.drawImage(small, 0, 0, canvas.width, canvas.height);
        const width = Math.max(1, Math.round(1.5 * devicePixelRatio));
        strokeEdges(large, edges(part(truth, i), rows, columns), [0, 0, scale, scale], colours, width, []);
        strokeEdges(large, edges(part(predicted, i), rows, columns), [0, 0, scale, scale], colours, width, [2 * width, 2 * width]);
        return canvas;
      }),
    );
  }

  /** @type {(array: Held, i: number) => ArrayLike<number>} */
  const part = ({ data, shape: [, rows, columns] }, i) => data.subarray(i * rows * columns, (i + 1) * rows * columns);

  view.watch(["progress"], showProgress);
  view.watch(["panels"], showCharts);
  view.watch(["forming", "shown_epoch"], forming.show);
  view.onArray(() => {
    showSamples();
    forming.show();
  });
  view.onLook(view.body, () => {
    showCharts();
    showSamples();
    forming.show();
  });
  showProgress();
});

/**
 * The codebook at a few epochs, to go through: its codes on one map, larger the more they are used.
 *
 * @param {View} view
 */
function codesForming(view) {
  const { model, arrays } = view;
  const caption = element("figcaption");
  const canvas = element("canvas", { tabIndex: 0, role: "img", "aria-label": "the codes at an epoch of the training" });
  const slider = element("input", { type: "range", className: "l2g-slider", min: 0, step: 1, "aria-label": "epoch" });
  const number = element("output", { className: "l2g-number" });
  /** @returns {number[]} */
  const epochs = () => model.get("forming").epochs ?? [];
  const at = () => (model.get("shown_epoch") < 0 ? epochs().length - 1 : Math.min(model.get("shown_epoch"), epochs().length - 1));
  const go = (/** @type {number} */ index) => view.set({ shown_epoch: index === epochs().length - 1 ? -1 : index });
  const player = playerOf(view, { what: "epoch", count: () => epochs().length, at, go, isHere: () => true }, false);
  view.on(slider, "input", () => go(Number(slider.value)));
  const row = element("div", { className: "l2g-scroll" }, player.element, slider, number);
  const figure = element("figure", { className: "l2g-chart l2g-forming", hidden: true }, caption, canvas, row);
  /** @type {Float32Array} */
  let uses = new Float32Array();
  const map = new CodeMap(view, canvas, {
    hover: (code) => view.status(code === undefined ? "" : `code ${code}: ${percent(uses[code] / Math.max(1, sum(uses)))} of the tokens of epoch ${epochs()[at()]}`),
  });
  const show = () => {
    const [places, counts] = ["places", "uses"].map((name) => arrays.get(name));
    const count = epochs().length;
    figure.hidden ||= count < 2;
    if (count < 2 || places?.rows !== count || counts?.rows !== count) return; // those before stay until all are here
    figure.hidden = false;
    const [, K] = counts.shape;
    const [all, every] = [/** @type {Float32Array} */ (places.data), /** @type {Float32Array} */ (counts.data)];
    uses = every.subarray(at() * K, (at() + 1) * K);
    const colours = Array.from(uses, (_, code) => codeColour(code));
    const epoch = epochs()[at()];
    caption.textContent = `the codes at epoch ${epoch}: ${uses.filter(Boolean).length} of ${K} in use`;
    caption.title = `two principal components of the newest codes, ${Math.round(100 * model.get("forming").variance)} % of their variance; a dot is larger the more its code is used, and hollow if it is not`;
    slider.max = String(epochs().length - 1);
    slider.value = String(at());
    slider.setAttribute("aria-valuetext", `epoch ${epoch}`);
    number.textContent = `epoch ${epoch}`;
    map.draw({ places: all.subarray(2 * at() * K, 2 * (at() + 1) * K), room: all, colours, counts: uses, top: Math.max(...every, 1), found: null });
  };
  return { element: figure, show };
}
