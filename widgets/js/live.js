// A viewer in a page of its own. The server (jobs/live.py) does what a kernel does in a notebook.

/** The traits of the Python viewer, kept in step over a socket; see `Model` in widgets/js/viewer.js. */
class Live {
  /** @param {WebSocket} socket */
  constructor(socket) {
    this.socket = socket;
    /** @type {Record<string, any>} */
    this.traits = {};
    /** @type {Record<string, any>} */
    this.changed = {};
    this.busy = false;
    /** @type {Map<string, Set<(...values: any[]) => void>>} */
    this.listeners = new Map();
  }

  /** @param {string} name */
  get(name) {
    return this.traits[name];
  }

  /** @param {string} name @param {unknown} value */
  set(name, value) {
    this.traits[name] = value;
    this.changed[name] = value;
    this.tell(`change:${name}`, this, value);
  }

  /** While the server is at the last change, only the newest values wait for it. */
  save_changes() {
    if (this.busy || Object.keys(this.changed).length === 0) return;
    this.busy = true;
    const state = this.changed;
    this.changed = {};
    this.post({ method: "update", state, buffer_paths: [] });
  }

  /** @param {object} content @param {object} [_] @param {ArrayBuffer[]} buffers */
  send(content, _, buffers = []) {
    this.post({ method: "custom", content }, buffers);
  }

  /** @param {object} data @param {ArrayBuffer[]} buffers */
  post(data, buffers = []) {
    this.socket.send(JSON.stringify({ data, parts: buffers.length }));
    for (const buffer of buffers) this.socket.send(buffer);
  }

  /** @param {string} events @param {(...values: any[]) => void} handler */
  on(events, handler) {
    for (const event of events.split(" ")) {
      const known = this.listeners.get(event) ?? new Set();
      this.listeners.set(event, known.add(handler));
    }
  }

  /** @param {string} events @param {(...values: any[]) => void} handler */
  off(events, handler) {
    for (const event of events.split(" ")) this.listeners.get(event)?.delete(handler);
  }

  /** @param {string} event @param {unknown[]} values */
  tell(event, ...values) {
    for (const handler of [...(this.listeners.get(event) ?? [])]) handler(...values);
  }

  done() {
    this.busy = false;
    this.save_changes();
  }

  /**
   * What the viewer says: new values of traits, or an event with binary parts.
   *
   * @param {{method: string, state: Record<string, any>, buffer_paths?: (string | number)[][], content?: object}} message
   * @param {DataView[]} parts
   */
  hear({ method, state, buffer_paths: paths = [], content }, parts) {
    if (method === "custom") this.tell("msg:custom", content, parts);
    if (method !== "update" && method !== "echo_update") return; // an echo: what a page has changed, told to all
    paths.forEach((path, i) => {
      const parent = path.slice(0, -1).reduce((/** @type {any} */ at, key) => at[key], state);
      parent[path[path.length - 1]] = parts[i];
    });
    // A value that was changed here meanwhile is newer than what Python says of it.
    const news = Object.entries(state).filter(([name, value]) => !(name in this.changed) && (method === "update" || JSON.stringify(value) !== JSON.stringify(this.traits[name])));
    for (const [name, value] of news) this.traits[name] = value;
    for (const [name, value] of news) this.tell(`change:${name}`, this, value);
  }
}

const place = /** @type {HTMLElement} */ (document.getElementById("viewer"));
const socket = new WebSocket(new URL("socket", location.href.replace(/^http/, "ws")));
socket.binaryType = "arraybuffer";
const model = new Live(socket);
/** @type {any} */
let waiting = null;
/** @type {DataView[]} */
let parts = [];
let shown = false;
let failed = false;

/** Say why there is no viewer: in its place, or above one that answers by what it has alone. @param {string} words */
const say = (words) => {
  let line = document.getElementById("wait");
  if (!line) {
    line = Object.assign(document.createElement("p"), { id: "gone" });
    document.body.prepend(line);
  }
  line.setAttribute("role", "alert");
  line.textContent = words;
};

/** Now that Python is there, so are its scripts; until then this page was. */
const show = async () => {
  const styles = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "viewer.css" });
  const styled = new Promise((done) => (styles.onload = done));
  document.head.append(styles);
  const { default: viewer } = /** @type {any} */ (await import("./viewer.js")); // that of this page, as it is served
  await styled;
  document.getElementById("wait")?.remove();
  const { initialize, render } = viewer();
  initialize({ model });
  render({ model, el: place });
};

socket.addEventListener("message", ({ data }) => {
  if (typeof data === "string") {
    const message = JSON.parse(data);
    if (message.failed) {
      failed = true;
      say(message.failed);
    }
    if (message.done) model.done();
    if (!message.data) return;
    waiting = message;
    parts = [];
  } else parts.push(new DataView(data));
  if (parts.length < waiting.parts) return;
  model.hear(waiting.data, parts);
  if (!shown && waiting.data.method === "update") {
    shown = true;
    show();
  }
});
socket.addEventListener("close", () => failed || say("The program that this page belongs to has ended, and nothing new is computed. Start it again, and open the address that it prints."));
// A scan that is let go beside the viewer would take the place of the page.
document.addEventListener("dragover", (event) => {
  if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "none";
});
