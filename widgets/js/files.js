// Files: the user's, sent to Python in parts, the next one when the last has been taken; and Python's, to keep.

import { RefusedError, element } from "./viewer.js";

/** @import { View } from "./viewer.js" */

const FILE_PART_BYTES = 2 << 20;

/**
 * Send files, one after the other, to the method _on_drop of the Python viewer; false where that refuses them. An id
 * tells the drop from those of other pages, which are answered to all.
 *
 * @param {View} view
 * @param {File[]} chosen
 * @param {(share: number) => void} tell hears how much of them has been sent
 */
export async function sendFiles(view, chosen, tell) {
  const files = chosen.filter((file) => file.size > 0);
  if (!files.length) throw new RefusedError("a scan that is dropped must hold something; this is empty");
  const all = files.reduce((sum, file) => sum + file.size, 0);
  const of = Math.random().toString(36).slice(2);
  let before = 0;
  for (const [number, file] of files.entries()) {
    for (let start = 0; start < file.size; ) {
      const part = await file.slice(start, start + FILE_PART_BYTES).arrayBuffer();
      const answer = answerOf(view, of);
      view.send("drop", { name: file.webkitRelativePath || file.name, start, size: file.size, number, count: files.length, of }, [part]);
      tell((before + start + part.byteLength) / all); // now, as Python answers the last one when it has read all
      const { taken, refused } = await answer;
      if (refused) throw new RefusedError(refused);
      if (taken < 0) return false;
      start = taken;
    }
    before += file.size;
  }
  return true;
}

/**
 * Let scans be dropped on an element and be chosen: as a file, several, a folder or an archive.
 *
 * @param {View} view
 * @param {HTMLElement} target
 * @param {string} over the class of the target while something is held over it
 * @param {HTMLProgressElement} bar
 * @param {(files: File[]) => void} [taken] hears of those that Python did not refuse
 */
export function takeFiles(view, target, over, bar, taken) {
  const bring = async (/** @type {File[]} */ files) => {
    if (file.disabled) throw new RefusedError("a scan can be read in a running notebook alone; this is a saved page");
    view.showError(""); // it was said of a scan before
    bar.hidden = false;
    try {
      const tell = (/** @type {number} */ share) => {
        bar.value = share;
        view.status(share < 1 ? `${Math.floor(100 * share)} % of the scan is here` : "reading the scan …");
      };
      tell(0);
      if (await sendFiles(view, files, tell)) taken?.(files);
    } finally {
      bar.hidden = true;
      bar.removeAttribute("value");
      view.status("");
    }
  };
  let before = Promise.resolve();
  /** One scan after the other: what comes while one is on its way waits for it. @param {File[]} files */
  const offer = (files) => {
    if (files.length) before = before.catch(() => {}).then(() => bring(files));
    return before;
  };
  const input = (/** @type {string} */ name, /** @type {object} */ options) => {
    const made = element("input", { type: "file", multiple: true, hidden: true, "aria-label": name, "data-needs-python": "", ...options });
    view.on(made, "change", async () => {
      const files = [...(made.files ?? [])];
      made.value = ""; // so that the same can be chosen again
      await offer(files);
    });
    return made;
  };
  const [file, folder] = [input("scan file", {}), input("scan folder", { webkitdirectory: true })];
  view.on(target, "dragover", (event) => {
    event.preventDefault();
    target.classList.add(over);
  });
  view.on(target, "dragleave", () => target.classList.remove(over));
  view.on(target, "drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    target.classList.remove(over);
    if (event.dataTransfer) await offer(await filesOf(event.dataTransfer));
  });
  return { file, folder };
}

/** All files that were dropped, and those within folders that were. @param {DataTransfer} transfer */
async function filesOf(transfer) {
  const files = [...transfer.files]; // a page may read them only now
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  if (!entries.some((entry) => entry?.isDirectory)) return files;
  return (await Promise.all(entries.map((entry) => (entry ? filesBelow(entry) : [])))).flat();
}

/** @param {FileSystemEntry} entry @returns {Promise<File[]>} */
async function filesBelow(entry) {
  if (entry.isFile) {
    /** @type {File} */
    const file = await new Promise((take, fail) => /** @type {FileSystemFileEntry} */ (entry).file(take, fail));
    // As of a folder that is chosen: the folders of a file say whether it is a scan or a label map.
    return [Object.defineProperty(file, "webkitRelativePath", { value: entry.fullPath.slice(1) })];
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  /** @type {FileSystemEntry[]} */
  const found = [];
  for (let more = true; more; ) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((take, fail) => reader.readEntries(take, fail)); // a hundred at a time
    found.push(...some);
    more = some.length > 0;
  }
  return (await Promise.all(found.map(filesBelow))).flat();
}

/** The next answer to a part of this drop. @param {View} view @param {string} of @returns {Promise<{taken: number, refused?: string}>} */
function answerOf(view, of) {
  return new Promise((done) => {
    const hear = (/** @type {any} */ content) => {
      if (content.of !== of) return;
      view.model.off("msg:custom", hear);
      done(content);
    };
    view.model.on("msg:custom", hear);
  });
}

/**
 * A function that asks Python for a file, or several, by the name of an event, and lets the browser keep them: Python
 * sends them to all pages, and the others do not want them.
 *
 * @param {View} view
 */
export function fileFetcher(view) {
  let asked = false;
  const end = (/** @type {string} */ words) => {
    asked = false;
    view.status(words);
  };
  /** @type {(content: {file?: string, files?: string[]}, parts: DataView<ArrayBuffer>[]) => void} */
  const keep = ({ file, files = file ? [file] : [] }, parts) => {
    if (!files.length || !asked) return;
    files.forEach((name, i) => {
      const href = URL.createObjectURL(new Blob([parts[i]]));
      Object.assign(document.createElement("a"), { href, download: name }).click();
      URL.revokeObjectURL(href);
    });
    end(`saved ${files.join(" and ")}`);
  };
  view.model.on("msg:custom", keep);
  view.signal.addEventListener("abort", () => view.model.off("msg:custom", keep));
  view.watch(["error"], () => asked && view.model.get("error") && end("")); // there will be none
  return (/** @type {string} */ event) => {
    asked = true;
    view.status("making the file …");
    view.send(event);
  };
}
