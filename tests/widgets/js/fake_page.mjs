// A page without a browser: elements keep what they are given, canvases draw nothing, layers tell what they paint.

import { Layer } from "../../../widgets/js/layers.js";

class Fake {
  constructor(tag) {
    Object.assign(this, { tag, style: {}, dataset: {}, children: [], handlers: {}, clientWidth: 100, clientHeight: 100 });
  }
  setAttribute() {}
  append(...children) {
    this.children.push(...children);
  }
  replaceChildren(...children) {
    this.children = children;
  }
  addEventListener(type, handler) {
    this.handlers[type] = handler;
  }
  contains() {
    return false;
  }
  reportValidity() {
    return !(this.required && this.value === "");
  }
  getContext() {
    const own = { canvas: this, createImageData: (width, height) => ({ data: new Uint8ClampedArray(4 * width * height) }) };
    return new Proxy(own, { get: (context, name) => context[name] ?? (() => {}), set: () => true });
  }
}

Object.assign(globalThis, {
  devicePixelRatio: 1,
  document: { createElement: (tag) => new Fake(tag) },
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
