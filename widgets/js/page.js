// A saved page: viewers that run without Python. widgets/page.py writes it, with their data.

/** @import { Model, Offer, Request } from "./viewer.js" */
/**
 * What stands in for the Python of a viewer: `changed` is told which traits were set, other names are of events.
 *
 * @typedef {Record<string, (given: any) => void>} Answers
 */
/** @typedef {(model: Saved, data: any) => Answers} Answering */
/**
 * A viewer as it was saved: its name, its traits, its published arrays, and those that it is linked with.
 *
 * @typedef {{name: string, traits: Record<string, any>, arrays: Record<string, DataView>, data: any, linked: number[]}} Part
 */

const MISSING = "needs a running notebook";

/**
 * The traits of a viewer in a page: what is set is known to the viewers that it is linked with.
 *
 * @implements {Model}
 */
export class Saved {
  /** @param {Pick<Part, "traits" | "arrays">} part */
  constructor({ traits, arrays }) {
    this.traits = traits;
    this.arrays = arrays;
    /** @type {Set<Saved>} */
    this.linked = new Set();
    /** @type {Answers} */
    this.answers = {};
    /** @type {Map<string, Set<(...values: any[]) => void>>} */
    this.handlers = new Map();
    /** @type {Set<string>} */
    this.touched = new Set();
  }

  /** @param {string} trait */
  get(trait) {
    return this.traits[trait];
  }

  /**
   * @param {string} trait
   * @param {unknown} value
   */
  set(trait, value) {
    if (this.traits[trait] === value) return;
    this.traits[trait] = value;
    this.touched.add(trait);
    this.emit(`change:${trait}`);
  }

  save_changes() {
    const names = [...this.touched];
    this.touched.clear();
    if (names.length && this.answers.changed) this.answer("changed", names);
    const shared = names.includes("selection") || this.touched.has("selection"); // also one that the answer has set
    this.touched.clear();
    if (!shared) return;
    for (const other of this.linked) {
      other.set("selection", this.traits.selection);
      other.save_changes();
    }
  }

  /** @param {any} content */
  send({ event, ...details }) {
    if (event === "fetch") queueMicrotask(() => this.part(details));
    else this.answer(event, details);
  }

  /**
   * @param {string} events
   * @param {(...values: any[]) => void} handler
   */
  on(events, handler) {
    for (const event of events.split(" ")) {
      this.handlers.set(event, (this.handlers.get(event) ?? new Set()).add(handler));
    }
  }

  /**
   * @param {string} events
   * @param {(...values: any[]) => void} handler
   */
  off(events, handler) {
    for (const event of events.split(" ")) this.handlers.get(event)?.delete(handler);
  }

  /**
   * Offer an array anew, as Python's publish does.
   *
   * @param {string} name
   * @param {DataView} bytes
   * @param {number[]} shape
   */
  publish(name, bytes, shape) {
    /** @type {Record<string, Offer>} */
    const offers = this.traits.arrays;
    this.arrays[name] = bytes;
    const { version, dtype } = offers[name];
    this.set("arrays", { ...offers, [name]: { version: version + 1, dtype, shape } });
  }

  /**
   * @param {string} event
   * @param {any} given
   */
  answer(event, given) {
    try {
      if (!this.answers[event]) throw new Error(MISSING);
      this.answers[event](given);
    } catch (error) {
      this.set("error", error instanceof Error ? error.message : String(error));
    }
  }

  /** @param {Request} request */
  part({ array, version, start, stop }) {
    const offer = this.traits.arrays[array];
    if (offer.version !== version) return;
    const bytes = this.arrays[array];
    const row = bytes.byteLength / offer.shape[0];
    const part = new DataView(bytes.buffer, bytes.byteOffset + start * row, (stop - start) * row);
    this.emit("msg:custom", { array, version, start }, [part]);
  }

  /**
   * @param {string} event
   * @param {any[]} values
   */
  emit(event, ...values) {
    for (const handler of [...(this.handlers.get(event) ?? [])]) handler(...values);
  }
}

/**
 * The parts of a page: JSON, in which {"bytes": [start, stop]} stands for bytes that follow it, all compressed.
 *
 * @param {string} text
 * @returns {Promise<Part[]>}
 */
async function unpacked(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const all = await new Response(stream).arrayBuffer();
  const after = 4 + new DataView(all).getUint32(0, true);
  const words = new TextDecoder().decode(new Uint8Array(all, 4, after - 4));
  return JSON.parse(words, (_, value) => {
    if (!Array.isArray(value?.bytes) || Object.keys(value).length > 1) return value;
    const [start, stop] = value.bytes;
    return new DataView(all, after + start, stop - start);
  });
}

/** Tell what is drawn on canvases when the system turns from light to dark: viewers watch JupyterLab's sign of it. */
function followTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => (document.body.dataset.jpThemeLight = String(!dark.matches));
  dark.addEventListener("change", show);
  show();
}

/**
 * Show every part in the element of the page that waits for it.
 *
 * @param {{viewers: Record<string, any>, answers: Record<string, Answering>, models: Saved[]}} known by a viewer's name
 */
async function show(known) {
  const parts = await unpacked(document.getElementById("l2g-data")?.textContent ?? "");
  known.models = parts.map((part) => new Saved(part));
  parts.forEach(({ name, data, linked }, i) => {
    const model = known.models[i];
    for (const other of linked) model.linked.add(known.models[other]);
    model.answers = known.answers[name]?.(model, data) ?? {};
  });
  parts.forEach(({ name }, i) => {
    const model = known.models[i];
    const el = /** @type {HTMLElement} */ (document.querySelector(`[data-viewer="${i}"]`));
    const { initialize, render } = known.viewers[name]();
    initialize({ model });
    render({ model, el });
    for (const control of el.querySelectorAll("[data-needs-python]")) {
      Object.assign(control, { disabled: true, title: MISSING });
    }
  });
}

if (globalThis.document) {
  followTheme();
  show(/** @type {any} */ (globalThis).l2gnet).catch((error) => {
    document.body.prepend(`This page could not be opened: ${error}`);
  });
}
