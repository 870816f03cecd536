// Files: the user's, sent to Python in parts, the next one when the last has been taken; and Python's, to keep.

/** @import { View } from "./viewer.js" */

const FILE_PART_BYTES = 2 << 20;

/**
 * Send a file to the method _on_drop of the Python viewer; false where that refuses it.
 *
 * @param {View} view
 * @param {File} file
 * @param {(share: number) => void} tell hears how much of it is there
 */
export async function sendFile(view, file, tell) {
  for (let start = 0; start < file.size; start += FILE_PART_BYTES) {
    const part = await file.slice(start, start + FILE_PART_BYTES).arrayBuffer();
    const taken = answerOf(view, "taken");
    view.send("drop", { name: file.name, start, size: file.size }, [part]);
    if ((await taken) < 0) return false;
    tell(Math.min(1, (start + FILE_PART_BYTES) / file.size));
  }
  return true;
}

/** The next message that says something of this name. @param {View} view @param {string} name @returns {Promise<number>} */
function answerOf(view, name) {
  return new Promise((done) => {
    const hear = (/** @type {any} */ content) => {
      if (!(name in content)) return;
      view.model.off("msg:custom", hear);
      done(content[name]);
    };
    view.model.on("msg:custom", hear);
  });
}

/** Let the browser keep the files that Python sends. @param {View} view */
export function keepFiles(view) {
  const keep = (/** @type {{file?: string}} */ { file }, /** @type {DataView[]} */ [part]) => {
    if (!file) return;
    const bytes = new Uint8Array(/** @type {ArrayBuffer} */ (part.buffer), part.byteOffset, part.byteLength);
    const href = URL.createObjectURL(new Blob([bytes]));
    Object.assign(document.createElement("a"), { href, download: file }).click();
    URL.revokeObjectURL(href);
  };
  view.model.on("msg:custom", keep);
  view.signal.addEventListener("abort", () => view.model.off("msg:custom", keep));
}
