// What all viewers share. Python puts this file in the place of its import (widgets/viewer.py).
//
// A viewer's file ends with
//
//   export default viewer((view) => { ... });
//
// and builds its elements in `view.body`. `view.model` holds the synced traits; `view.arrays` the published arrays.

import { Packed } from "./packed.js";
import { pictureOf } from "./picture.js";

/**
 * The traits of the Python viewer, as anywidget hands them over.
 *
 * @typedef {object} Model
 * @property {(trait: string) => any} get
 * @property {(trait: string, value: unknown) => void} set
 * @property {() => void} save_changes
 * @property {(content: object, callbacks?: object, buffers?: ArrayBuffer[]) => void} send
 * @property {(events: string, handler: (...values: any[]) => void) => void} on
 * @property {(events: string, handler: (...values: any[]) => void) => void} off
 */
/** @typedef {Uint8Array | Int16Array | Uint16Array | Int32Array | Float32Array} Values */
/** @typedef {{version: number, dtype: keyof typeof TYPED, shape: number[], rows?: number, packed?: boolean}} Offer a published array before it is fetched; a frame of a cine has `rows` of it */
/** @typedef {{version: number, shape: number[], rows: number, known: Uint8Array, data: Values, packed?: Packed}} Held and after; `data` is empty where it is `packed` */
/** @typedef {{array: string, version: number, start: number, stop: number}} Request for a part of one */

/**
 * Make an element: element("button", { title: "Close", onclick }, "×"). Keys with a dash are attributes.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} properties
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, properties = {}, ...children) {
  const made = /** @type {any} */ (document.createElement(tag));
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else if (name === "style") Object.assign(made.style, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** @param {HTMLCanvasElement} canvas */
export function pen(canvas) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
}

/** What cannot be done now, in words for whoever asked. */
export class RefusedError extends Error {}

const HIDDEN_MS = 100; // until a hidden view is looked at again

/** @param {(view: View) => void} build */
export function viewer(build) {
  return () => {
    /** @type {Arrays} */
    let arrays; // one set a model, shared by its views
    return {
      /** @param {{model: Model}} host */
      initialize({ model }) {
        arrays = new Arrays(model);
        return () => arrays.release();
      },
      /** @param {{model: Model, el: HTMLElement}} host */
      render({ model, el }) {
        const view = new View(model, el, arrays);
        view.guard(build)(view);
        arrays.show();
        return () => {
          view.controller.abort();
          arrays.hide();
          for (const canvas of el.querySelectorAll("canvas")) canvas.width = 0; // the page goes on holding the elements
        };
      },
    };
  };
}

/** What a viewer is built with: a body, a status line, and listeners that show their errors and end with the view. */
export class View {
  /**
   * @param {Model} model
   * @param {HTMLElement} el
   * @param {Arrays} arrays
   */
  constructor(model, el, arrays) {
    this.model = model;
    this.arrays = arrays;
    this.controller = new AbortController();
    this.signal = this.controller.signal;
    this.setting = false;
    /** @type {Set<() => void>} */
    this.due = new Set(); // what is drawn when all is set
    this.body = element("div", { className: "l2g-body" });
    this.statusLine = element("div", { className: "l2g-status", role: "status", "aria-live": "off" });
    this.errorText = element("span");
    this.dismiss = element("button", { className: "l2g-dismiss", title: "Dismiss" }, "×");
    this.errorLine = element("div", { className: "l2g-error", role: "alert", hidden: true }, this.errorText, this.dismiss);
    el.classList.add("l2g-viewer");
    el.append(this.body, this.statusLine, this.errorLine);
    Object.assign(el, { picture: () => pictureOf(el) }); // for whoever saves the notebook
    // Keys are the viewer's, not the notebook's, which would take the arrows even from a slider.
    this.on(el, "keydown", (event) => event.ctrlKey || event.metaKey || event.stopPropagation());
    this.watch(["error"], () => this.showError(model.get("error")));
    this.showError(model.get("error"));
    this.on(this.dismiss, "click", () => {
      this.showError("");
      this.set({ error: "" });
    });
  }

  /**
   * The same function, its errors shown below the picture, also those of what it does later.
   *
   * @template {unknown[]} Given
   * @template Result
   * @param {(...values: Given) => Result} callback
   * @returns {(...values: Given) => Result | undefined}
   */
  guard(callback) {
    const show = (/** @type {unknown} */ error) =>
      this.showError(error instanceof RefusedError ? error.message : String(error));
    return (...values) => {
      try {
        const result = callback(...values);
        if (result instanceof Promise) result.catch(show);
        return result;
      } catch (error) {
        show(error);
        return undefined;
      }
    };
  }

  /**
   * Listen to an element.
   *
   * @template {keyof HTMLElementEventMap} Type
   * @param {HTMLElement} target
   * @param {Type} type
   * @param {(event: HTMLElementEventMap[Type]) => unknown} handler
   * @param {AddEventListenerOptions} options
   */
  on(target, type, handler, options = {}) {
    target.addEventListener(type, this.guard(handler), { signal: this.signal, ...options });
  }

  /**
   * Listen to traits.
   *
   * @param {string[]} names
   * @param {() => void} handler
   */
  watch(names, handler) {
    const guarded = this.guard(() => handler());
    const events = names.map((name) => `change:${name}`).join(" ");
    this.model.on(events, guarded);
    this.signal.addEventListener("abort", () => this.model.off(events, guarded));
  }

  /**
   * Listen to parts of published arrays as they arrive.
   *
   * @param {(name: string, start: number, stop: number) => void} handler
   */
  onArray(handler) {
    const guarded = this.guard(handler);
    this.arrays.listeners.add(guarded);
    this.signal.addEventListener("abort", () => this.arrays.listeners.delete(guarded));
  }

  /**
   * Redraw what was drawn in colours of the theme, or to the element's size, when either changes.
   *
   * @param {HTMLElement} target
   * @param {() => void} redraw
   */
  onLook(target, redraw) {
    const guarded = this.guard(() => redraw());
    const size = new ResizeObserver(guarded);
    const theme = new MutationObserver(guarded);
    size.observe(target);
    theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
    this.signal.addEventListener("abort", () => (size.disconnect(), theme.disconnect()));
  }

  /**
   * A function that calls `draw` at the next frame at which the view is shown, however often it is called until then.
   *
   * @param {() => void} draw
   */
  nextFrame(draw) {
    const guarded = this.guard(draw);
    let waiting = false;
    const frame = () => {
      if (this.signal.aborted) return;
      if (this.body.clientWidth === 0) {
        // JupyterLab hides everything for a moment while it changes its theme: a picture would get no size.
        setTimeout(() => requestAnimationFrame(frame), HIDDEN_MS);
        return;
      }
      waiting = false;
      guarded();
    };
    return () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(frame);
    };
  }

  /**
   * A function that calls `draw` at once, so that a picture does not wait for a frame, but once a frame: what follows
   * in the same frame is gathered for the next. What `set` changes together is drawn together.
   *
   * @param {() => void} draw
   */
  eachFrame(draw) {
    const guarded = this.guard(draw);
    const later = this.nextFrame(() => turn());
    let fresh = false; // drawn in this frame
    const turn = () => {
      fresh = true;
      requestAnimationFrame(() => (fresh = false));
      guarded();
    };
    const call = () => {
      if (this.signal.aborted) return;
      if (this.setting) this.due.add(call);
      else if (fresh || this.body.clientWidth === 0) later();
      else turn();
    };
    return call;
  }

  /**
   * Set traits; while the kernel is busy only the last values wait for it.
   *
   * @param {Record<string, unknown>} values
   */
  set(values) {
    this.setting = true;
    for (const [name, value] of Object.entries(values)) this.model.set(name, value);
    this.setting = false;
    for (const draw of [...this.due]) draw();
    this.due.clear();
    this.model.save_changes();
  }

  /**
   * Change keys of the selection, and keep the others; a value of null removes its key.
   *
   * @param {Record<string, unknown>} keys
   */
  select(keys) {
    const entries = Object.entries({ ...this.model.get("selection"), ...keys });
    this.set({ selection: Object.fromEntries(entries.filter(([, value]) => value !== null)) });
  }

  /**
   * The voxel [d, h, w] that is selected, by default the middle one of a volume: whoever links may select a code alone.
   *
   * @param {number[]} shape
   * @returns {number[]}
   */
  voxelIn(shape) {
    return this.model.get("selection").voxel ?? shape.map((n) => n >> 1);
  }

  /**
   * Call the method _on_NAME of the Python viewer; buffers arrive there as `parts`.
   *
   * @param {string} event
   * @param {object} details
   * @param {ArrayBuffer[]} buffers
   */
  send(event, details = {}, buffers = []) {
    this.model.send({ event, ...details }, undefined, buffers);
  }

  /** @param {string} text */
  status(text) {
    this.statusLine.textContent = text;
  }

  /** @param {string} text */
  showError(text) {
    this.errorText.textContent = text;
    this.errorLine.hidden = !text;
  }

  /**
   * A colour of the style sheet, for canvases: view.colour("--l2g-text").
   *
   * @param {string} name
   */
  colour(name) {
    return getComputedStyle(this.body).getPropertyValue(name).trim();
  }
}

const PART_BYTES = 4 << 20;
const TYPED = { uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array, float32: Float32Array };

/**
 * The published arrays, fetched in parts along the first axis: one part at a time, the nearest to the selected slice
 * first. Of the frames of a cine the one that is looked at is fetched, then the next, so that one can play.
 */
export class Arrays {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    /** @type {Map<string, Held>} */
    this.held = new Map();
    /** @type {Set<(name: string, start: number, stop: number) => void>} */
    this.listeners = new Set();
    /** @type {Request | null} */
    this.fetching = null;
    this.views = 0;
    this.onOffer = () => this.views && this.fetch();
    /** @type {(content: Request, buffers: DataView[]) => void} */
    this.onPart = (content, buffers) => content.array && this.receive(content, buffers[0]);
    model.on("change:arrays", this.onOffer);
    model.on("change:frame", this.onOffer);
    model.on("msg:custom", this.onPart);
  }

  /** Start fetching: not before a view is shown, when the selection is what the user is going to see. */
  show() {
    this.views += 1;
    this.fetch();
  }

  /** Keep nothing for views that are gone: a cell that is run again shows a viewer of its own, and the old one stays. */
  hide() {
    this.views -= 1;
    if (this.views) return;
    this.held.clear();
    this.fetching = null;
  }

  /**
   * The array as far as it is here: known[i] is 1 for each of its `rows` rows. What was replaced is not here any more:
   * it may be of another scan than what is shown with it.
   *
   * @param {string} name
   */
  get(name) {
    const held = this.held.get(name);
    return held?.version === this.offers()[name]?.version ? held : undefined;
  }

  /** The share of all rows that is here, 0 to 1; of a cine those of the frame that is looked at. */
  progress() {
    const offers = Object.entries(this.offers());
    const rows = offers.map(([name, offer]) => sum(this.get(name)?.known.subarray(...this.span(offer)) ?? []));
    return sum(rows) / Math.max(1, sum(offers.map(([, { shape, rows: each }]) => each ?? shape[0])));
  }

  /**
   * The rows [start, stop) of the frame that is looked at, or of one that comes `later`; all where there are no frames.
   *
   * @param {Pick<Offer, "shape" | "rows">} offer
   * @returns {[number, number]}
   */
  span({ shape: [all], rows = all }, later = 0) {
    const frame = all > rows ? ((this.model.get("frame") ?? 0) + later) % (all / rows) : 0;
    return [frame * rows, (frame + 1) * rows];
  }

  /** @returns {Record<string, Offer>} */
  offers() {
    return this.model.get("arrays");
  }

  release() {
    this.model.off("change:arrays", this.onOffer);
    this.model.off("change:frame", this.onOffer);
    this.model.off("msg:custom", this.onPart);
    this.listeners.clear();
    this.held.clear();
  }

  fetch() {
    const offers = this.offers();
    // A part of an array that was replaced never comes, so it is not waited for.
    if (this.fetching && this.fetching.version === offers[this.fetching.array].version) return;
    const frames = [0, 1].map((later) => Object.entries(offers).map(([name, offer]) => this.missing(name, offer, later)));
    const parts = frames[0].some(Boolean) ? frames[0] : frames[1];
    const [part] = parts.filter((each) => each !== null).sort((a, b) => a.away - b.away);
    this.fetching = part?.request ?? null;
    if (part) this.model.send({ event: "fetch", ...part.request });
  }

  /**
   * The part to fetch next: rows that lie together, around the missing row nearest to the selected slice.
   *
   * @param {string} name
   * @param {Offer} offer
   * @param {number} later frames
   */
  missing(name, offer, later) {
    const { version, dtype, shape } = offer;
    const [first, end] = this.span(offer, later);
    const D = end - first;
    const held = this.get(name);
    if (D === 0 || held?.rows === shape[0]) return null;
    const known = held?.known.subarray(first, end) ?? new Uint8Array(D);
    if (!known.includes(0)) return null;
    const slice = Math.min(Math.max(this.model.get("selection").voxel?.[0] ?? 0, 0), D - 1);
    let away = 0;
    while (known[slice + away] !== 0 && known[slice - away] !== 0) away += 1;
    const rowBytes = size(shape.slice(1)) * TYPED[dtype].BYTES_PER_ELEMENT;
    const most = Math.max(1, Math.floor(PART_BYTES / rowBytes));
    let start = known[slice + away] === 0 ? slice + away : slice - away;
    let stop = start + 1;
    while (stop - start < most && known[stop] === 0) stop += 1;
    while (stop - start < most && known[start - 1] === 0) start -= 1;
    return { away, request: { array: name, version, start: first + start, stop: first + stop } };
  }

  /**
   * Keep a part, whoever asked for it: Python sends it to all pages. Only one's own lets one ask for the next, or each
   * part would bring forth a request of every page.
   *
   * @param {Pick<Request, "array" | "version" | "start">} part
   * @param {DataView} values
   */
  receive({ array: name, version, start }, values) {
    if (!this.views) return;
    const { version: newest, dtype, shape, packed } = this.offers()[name];
    if (version === newest) {
      let held = this.get(name);
      if (!held) {
        const data = new TYPED[dtype](packed ? 0 : size(shape));
        held = { version, shape, rows: 0, known: new Uint8Array(shape[0]), data };
        if (packed) held.packed = new Packed(shape);
        this.held.set(name, held);
      }
      const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      const rowBytes = size(shape.slice(1)) * TYPED[dtype].BYTES_PER_ELEMENT;
      if (held.packed) held.packed.set(bytes, start);
      else new Uint8Array(held.data.buffer).set(bytes, start * rowBytes);
      const stop = start + values.byteLength / rowBytes;
      held.rows += stop - start - sum(held.known.subarray(start, stop)); // those of a view before may come as well
      held.known.fill(1, start, stop);
      for (const listener of this.listeners) listener(name, start, stop);
    }
    const own = this.fetching;
    if (own?.array !== name || own.version !== version || own.start !== start) return;
    this.fetching = null;
    this.fetch();
  }
}

/** @param {number[]} shape */
function size(shape) {
  return shape.reduce((product, n) => product * n, 1);
}

/** @param {ArrayLike<number>} numbers */
export function sum(numbers) {
  let total = 0;
  for (let i = 0; i < numbers.length; i += 1) total += numbers[i];
  return total;
}
