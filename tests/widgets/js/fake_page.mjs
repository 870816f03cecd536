// A page without a browser: elements keep what they are given, canvases what is drawn, layers tell what they paint.

import { setMaxListeners } from "node:events";
import { Layer } from "../../../widgets/js/layers.js";
import { Saved } from "../../../widgets/js/page.js";

setMaxListeners(0); // as in a browser

class Fake {
  constructor(tag) {
    const classList = { add: () => {}, remove: () => {}, toggle: () => {} };
    Object.assign(this, { tag, value: "", style: {}, dataset: {}, children: [], handlers: {}, drawn: [], clientWidth: 100, clientHeight: 100, classList });
  }
  setAttribute() {}
  append(...children) {
    this.children.push(...children);
    for (const child of children) if (child instanceof Fake) child.parentElement = this;
  }
  replaceChildren(...children) {
    this.children = [];
    this.append(...children);
  }
  addEventListener(type, handler) {
    const before = this.handlers[type];
    this.handlers[type] = (event) => (before?.(event), handler(event));
  }
  querySelector() {
    return null;
  }
  querySelectorAll() {
    return [];
  }
  getBoundingClientRect() {
    return { left: 0, top: 0, width: this.clientWidth, height: this.clientHeight };
  }
  matches() {
    return false;
  }
  get options() {
    return this.children;
  }
  contains() {
    return false;
  }
  reportValidity() {
    return !(this.required && this.value === "");
  }
  getContext() {
    const own = { canvas: this, createImageData: (width, height) => ({ data: new Uint8ClampedArray(4 * width * height) }) };
    const draw = (name) => (...given) => void this.drawn.push([name, ...given]);
    return new Proxy(own, { get: (context, name) => context[name] ?? draw(name), set: () => true });
  }
}

/** What does not happen in a page that stays as it is. */
class Still {
  observe() {}
}

const frames = [];
Object.assign(globalThis, {
  devicePixelRatio: 1,
  document: { createElement: (tag) => new Fake(tag), activeElement: null },
  window: globalThis,
  getComputedStyle: () => ({ getPropertyValue: () => "#ffffff" }),
  requestAnimationFrame: (frame) => frames.push(frame),
  ResizeObserver: Still,
  MutationObserver: Still,
  ImageData: class {
    data = new Uint8ClampedArray(1 << 16);
  },
  Path2D: class {
    moveTo() {}
    lineTo() {}
  },
});

/** What layers were given since: labels that are filled, pixels, and edges that have a colour. */
export const painted = { fills: [], pixels: [], edges: [] };
const { fill, put, outline } = Layer.prototype;
Object.assign(Layer.prototype, {
  fill(context, box, labels, ...rest) {
    painted.fills.push([...labels]);
    fill.call(this, context, box, labels, ...rest);
  },
  put() {
    painted.pixels.push([...this.pixels]);
    put.call(this);
  },
  outline(context, box, runs, palette, ...rest) {
    painted.edges.push(runs.filter(([label]) => palette[label]));
    outline.call(this, context, box, runs, palette, ...rest);
  },
});

/** All text within an element, in one line. */
export const words = (each) => (typeof each === "string" ? each : [each.textContent ?? "", ...each.children.map(words)].join(" ").replaceAll(/ +/g, " ").trim());

/** All elements of a tag within one. */
export const all = (each, tag) => (typeof each === "string" ? [] : [...(each.tag === tag ? [each] : []), ...each.children.flatMap((child) => all(child, tag))]);

/** Let frames pass until nothing waits for one. */
export function settle() {
  while (frames.length) frames.splice(0).forEach((frame) => frame());
}

/** A viewer of these traits in the page: its element, its model, and the parts that it has asked for. */
export function rendered(viewer, traits) {
  const model = new Saved({ traits: { selection: {}, arrays: {}, error: "", ...traits }, arrays: {} });
  const asked = [];
  model.send = ({ event, ...request }) => event === "fetch" && asked.push(request);
  const [page, el] = [viewer(), document.createElement("div")];
  page.initialize({ model });
  page.render({ model, el });
  settle();
  return { el, model, asked };
}

/** Python's answer to the first part that was asked for: each of its values is the same. */
export function answer({ model, asked }, value) {
  const { array, version, start, stop } = asked.shift();
  const { dtype, shape } = model.get("arrays")[array];
  const values = new { uint8: Uint8Array, float32: Float32Array }[dtype]((stop - start) * shape.slice(1).reduce((size, n) => size * n, 1)).fill(value);
  model.emit("msg:custom", { array, version, start }, [new DataView(values.buffer)]);
  settle();
}

/** A view of these traits and arrays. */
export function viewOf(values, arrays) {
  return {
    model: { get: (name) => values[name] },
    arrays,
    on: (target, type, handler) => target.addEventListener(type, handler),
    set: (changes) => Object.assign(values, changes),
    voxelIn: () => values.selection.voxel,
    signal: new AbortController().signal,
  };
}

export const PLANE = { name: "slices", axis: 0, down: 1, across: 2, flip_down: false, flip_across: false, letters: ["", "", "", ""] };
export const held = (shape, data) => ({ shape, data, rows: shape[0], known: new Uint8Array(shape[0]).fill(1) });
