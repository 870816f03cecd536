// The page around a live viewer, without a browser: what it says when the program ends, and scans beside the viewer.

import assert from "node:assert/strict";
import test from "node:test";

class Socket extends EventTarget {
  constructor() {
    super();
    sockets.push(this);
  }
}
const sockets = [];
const fake = () => ({ setAttribute: () => {} });
const place = fake();
const before = []; // the viewer
let wait = fake();
const page = Object.assign(new EventTarget(), {
  getElementById: (id) => (id === "viewer" ? place : wait),
  createElement: fake,
  body: { prepend: (line) => before.push(line) },
});
Object.assign(globalThis, { document: page, WebSocket: Socket, location: { href: "http://127.0.0.1:1/secret/" } });
await import("../../../widgets/js/live.js");

test("when the program ends the page says what to open, in the place of a viewer or above it", () => {
  const end = () => sockets[0].dispatchEvent(new Event("close"));
  end();
  assert.match(wait.textContent, /open the address that it prints/);
  assert.deepEqual(before, []); // there is no viewer yet
  wait = null;
  end();
  assert.match(before[0].textContent, /Start it again, and open the address that it prints/);
  assert.deepEqual([before.length, before[0].id], [1, "gone"]);
});

test("a scan that is held beside the viewer does not take the place of the page", () => {
  const held = (types) => {
    const event = Object.assign(new Event("dragover", { cancelable: true }), { dataTransfer: { types } });
    page.dispatchEvent(event);
    return [event.defaultPrevented, event.dataTransfer.dropEffect];
  };
  assert.deepEqual(held(["Files"]), [true, "none"]);
  assert.deepEqual(held(["text/plain"]), [false, undefined]);
});
