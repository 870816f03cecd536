// The card of what is selected in the workbench, and what can be done with it.

import { element, pen } from "./viewer.js";
import { brief, percent, permille } from "./drawing.js";
import { matter, ofHead, strongest } from "./plans.js";
import { IGNORED } from "./slices.js";

/** @import { Bench } from "./bench_state.js" */
/**
 * What Python knows of a code; see `CodeCard` there.
 *
 * @typedef {object} CodeCard
 * @property {string} kind
 * @property {number} code
 * @property {string} name
 * @property {number} count
 * @property {number} tokens
 * @property {number} slices
 * @property {number} among
 * @property {number[]} shares
 * @property {number} typical
 * @property {number} purity
 * @property {[code: number, distance: number][]} neighbours
 * @property {Record<string, number[][]>} examples
 * @property {number[]} [held_out]
 */

const THUMB_PX = 44;

/** @param {Bench} bench */
export function cardPanel(bench) {
  const { view } = bench;
  const box = element("div", { className: "l2g-bench-card" });
  const labelName = (/** @type {number} */ label) => bench.about.structures.find((each) => each.label === label)?.name ?? "background";

  /** @param {string} text @param {string} title @param {() => void} act @param {boolean} [pressed] */
  const button = (text, title, act, pressed) => {
    const made = element("button", { title, ...(pressed === undefined ? {} : { "aria-pressed": String(pressed) }) }, text);
    view.on(made, "click", act);
    return made;
  };
  /** @param {string} name @param {string} text @param {(Node | string)[]} [more] */
  const line = (name, text, more = []) => element("div", { className: "l2g-bench-line" }, element("span", { className: "l2g-quiet" }, name), element("span", {}, text, ...more));
  /** A code or a reference to click. @param {string} text @param {Record<string, any>} keys @param {string} [colour] */
  const link = (text, keys, colour) => {
    const made = element("button", { className: "l2g-bench-link", title: `Select ${text}` }, ...(colour ? [element("span", { className: "l2g-swatch", style: { background: colour } })] : []), text);
    view.on(made, "click", () => bench.select(keys));
    return made;
  };
  const codeLink = (/** @type {number} */ code, text = `code ${code}`) => link(text, { by: "code", code, reference: null }, bench.colourOf(code));
  const referenceLink = (/** @type {number} */ reference, text = `r${reference}`) => link(text, { by: "reference", reference, code: null });

  const silenceCode = (/** @type {number} */ code) => {
    const { silenced_codes: silenced } = bench.changes;
    const off = silenced.includes(code);
    return button(off ? "hear it again" : "silence", "Silence this code: its mass goes, the rest is solved anew, its tokens hear nothing", () => {
      const { [code]: _, ...replaced } = bench.changes.replaced_codes; // it is one or the other
      bench.intervene({ silenced_codes: off ? silenced.filter((each) => each !== code) : [...silenced, code], replaced_codes: replaced });
    }, off);
  };
  const replaceCode = (/** @type {CodeCard} */ { code, neighbours }) => {
    const { replaced_codes: replaced } = bench.changes;
    const input = element("input", { type: "number", required: true, min: 0, max: bench.about.codes - 1, value: String(replaced[code] ?? neighbours[0]?.[0] ?? 0), title: "The code that stands in for it", "aria-label": "the code that stands in" });
    const on = code in replaced;
    const act = () => {
      if (!on && !input.reportValidity()) return; // an empty field would be code 0
      const { [code]: _, ...others } = replaced;
      const silenced = bench.changes.silenced_codes.filter((each) => each !== code);
      bench.intervene({ replaced_codes: on ? others : { ...others, [code]: Number(input.value) }, silenced_codes: silenced });
    };
    return element("span", { className: "l2g-key" }, button(on ? "put it back" : "replace by", "Put another code in its place; its nearest is offered", act, on), input);
  };

  /** @param {CodeCard} card */
  const codeCard = (card) => {
    const { plans, row } = bench;
    const name = element("input", { type: "text", className: "l2g-bench-name", value: card.name, placeholder: "name it", maxLength: 60, "aria-label": "name of this code" });
    view.on(name, "change", () => view.send("name", { code: card.code, name: name.value }));
    const shares = card.shares.map((share, label) => ({ share, label })).filter(({ share }) => share > 0.005).sort((a, b) => b.share - a.share).slice(0, 4);
    name.disabled = bench.about.saved === true;
    const parts = [
      element("div", { className: "l2g-bench-head" }, element("span", { className: "l2g-swatch", style: { background: bench.colourOf(card.code) } }), element("b", {}, `code ${card.code}`), name),
      line("fires at", `${card.count} of ${card.tokens} tokens of this scan (${percent(card.count / card.tokens)}), in ${card.slices} of ${card.among} slices`),
    ];
    if (card.held_out) parts.push(line("held out", `${percent(card.held_out[0] / Math.max(card.held_out[1], 1))} of ${card.held_out[1].toLocaleString("en")} tokens of ${card.held_out[2]} volumes`));
    parts.push(line("lies on", shares.map(({ share, label }) => `${labelName(label)} ${percent(share)}`).join(", ") || "nothing here"));
    if (bench.changes.silenced_codes.includes(card.code)) parts.push(line("plan", "silenced: it sends and hears nothing"));
    else if (plans && row >= 0) {
      const head = bench.get("head");
      const list = (/** @type {"sending" | "receiving"} */ which) => strongest(plans, which, head, row, 3).map(({ reference, share }) => referenceLink(reference, `r${reference} ${percent(share)}`));
      parts.push(line(bench.about.two ? "sends to" : "shares with", "", list("sending")));
      if (bench.about.two) parts.push(line("hears from", "", list("receiving")));
    } else if (bench.about.heads) parts.push(line("plan", bench.now ? "it does not fire in this slice" : "…"));
    parts.push(line("nearest", "", card.neighbours.slice(0, 4).map(([code, distance]) => codeLink(code, `${code} (${brief(distance)})`))));
    if (!bench.about.saved) parts.push(element("div", { className: "l2g-row l2g-bench-acts" }, silenceCode(card.code), replaceCode(card)));
    for (const [kind, places] of Object.entries(card.examples)) parts.push(gallery(kind, places));
    return parts;
  };

  /** @param {string} kind @param {number[][]} places */
  const gallery = (kind, places) => {
    const thumbs = places.map((place) => {
      const canvas = element("canvas", { width: 2 * THUMB_PX, height: 2 * THUMB_PX });
      patch(canvas, place);
      const thumb = element("button", { className: "l2g-bench-thumb", title: `slice ${place[0] + 1}: go there` }, canvas);
      const go = () => {
        const [h, w] = bench.about.cells ?? [1, 1];
        const [, H, W] = bench.about.shape;
        bench.select({ voxel: [place[0], Math.floor(((place[1] + 0.5) * H) / h), Math.floor(((place[2] + 0.5) * W) / w)] });
      };
      view.on(thumb, "click", go);
      return thumb;
    });
    return element("div", { className: "l2g-bench-gallery" }, element("span", { className: "l2g-quiet" }, kind), ...thumbs);
  };

  /** The image around a token. @param {HTMLCanvasElement} canvas @param {number[]} place */
  const patch = (canvas, [d, row, column]) => {
    const held = bench.held("images");
    const { shape: [, H, W], cells } = bench.about;
    if (!held?.known[d] || !cells) return;
    const [h, w] = cells;
    const side = Math.round((3 * H) / h);
    const [top, left] = [Math.round(((row + 0.5) * H) / h - side / 2), Math.round(((column + 0.5) * W) / w - side / 2)];
    const picture = new ImageData(side, side);
    for (let i = 0; i < side * side; i += 1) {
      const [y, x] = [top + Math.floor(i / side), left + (i % side)];
      const grey = y >= 0 && y < H && x >= 0 && x < W ? held.data[(d * H + y) * W + x] : 0;
      picture.data.set([grey, grey, grey, 255], 4 * i);
    }
    const small = element("canvas", { width: side, height: side });
    pen(small).putImageData(picture, 0, 0);
    const context = pen(canvas);
    context.imageSmoothingEnabled = true;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    context.strokeStyle = "#fff";
    context.lineWidth = 1.5;
    context.strokeRect(canvas.width / 3, canvas.height / 3, canvas.width / 3, canvas.height / 3);
  };

  const referenceCard = (/** @type {number} */ reference) => {
    const { plans, about } = bench;
    const { silenced_references: silenced } = bench.changes;
    const off = silenced.includes(reference);
    const parts = [element("div", { className: "l2g-bench-head" }, element("b", {}, `reference ${reference}`), element("span", { className: "l2g-quiet" }, `of ${about.references}, head ${bench.get("head") + 1}`))];
    if (off) parts.push(line("plan", "silenced: it gathers and passes on nothing"));
    else if (plans) {
      const head = bench.get("head");
      const R = plans.references;
      const most = (/** @type {"sending" | "receiving"} */ which) => {
        const plan = ofHead(plans, which, head);
        return plans.names
          .map((code, row) => ({ code, share: plan[row * R + reference] / Math.max(plans.target[reference], 1e-30) }))
          .sort((a, b) => b.share - a.share)
          .slice(0, 4)
          .map(({ code, share }) => codeLink(code, `${code} ${percent(share)}`));
      };
      parts.push(line(about.two ? "gathers from" : "shared by", "", most("sending")));
      if (about.two) parts.push(line("heard by", "", most("receiving")));
      const [h, w] = /** @type {number[]} */ (about.cells);
      const [, H, W] = about.shape;
      const at = matter(plans, head, reference, [(H / h) * about.spacing_mm[1], (W / w) * about.spacing_mm[2]]);
      if (!Number.isNaN(at.row)) parts.push(line("lies around", `row ${Math.round((at.row * H) / h + 0.5)}, column ${Math.round((at.column * W) / w + 0.5)}, scattered by ${at.spreadMm.toFixed(0)} ${about.unit}`));
      parts.push(line("mass", `${percent(plans.target[reference])} of the slice: each reference takes the same`));
    }
    const act = () => bench.intervene({ silenced_references: off ? silenced.filter((each) => each !== reference) : [...silenced, reference] });
    if (!about.saved) parts.push(element("div", { className: "l2g-row l2g-bench-acts" }, button(off ? "hear it again" : "silence", "Silence this reference in every head: its column goes, the others share its mass", act, off)));
    return parts;
  };

  const pixelCard = () => {
    const { about, plans, row, selection, now } = bench;
    const [d, h, w] = selection.voxel;
    const [, H, W] = about.shape;
    const parts = [element("div", { className: "l2g-bench-head" }, element("b", {}, `pixel (${h + 1}, ${w + 1})`), element("span", { className: "l2g-quiet" }, `of slice ${d + 1}`))];
    const value = (/** @type {string} */ name) => {
      const held = bench.held(name);
      return held?.known[d] ? held.data[(d * H + h) * W + w] : null;
    };
    if (now) parts.push(line("found", `${labelName(now.labels[h * W + w])}, probability ${brief(now.confidence[h * W + w] / 255)}`));
    const truth = value("truth");
    if (truth !== null) parts.push(line("truth", truth === IGNORED ? "not known" : labelName(truth)));
    const held = bench.held("codes");
    if (held?.known[d] && about.cells) {
      const code = held.data[d * about.cells[0] * about.cells[1] + bench.token];
      parts.push(line("its code", "", [codeLink(code, bench.nameOf(code))]));
    }
    if (plans && row >= 0) {
      const head = bench.get("head");
      const heard = strongest(plans, "receiving", head, row, 4, bench.token).filter(({ share }) => share > 0);
      parts.push(line("hears from", heard.length ? "" : "nothing", heard.map(({ reference, share }) => referenceLink(reference, `r${reference} ${percent(share)}`))));
    }
    if (!about.missing) parts.push(element("div", { className: "l2g-quiet l2g-bench-tip" }, "Overlay “relation” shows whom it hears, with arrows to where the matter of its strongest references lies. Click its code to silence or replace it."));
    return parts;
  };

  const show = () => {
    const { by = "voxel", reference, code } = bench.selection;
    const card = /** @type {CodeCard} */ (bench.get("card"));
    const writing = box.contains(document.activeElement) && document.activeElement instanceof HTMLInputElement;
    if (writing) return;
    if (bench.opening) box.replaceChildren(element("span", { className: "l2g-quiet" }, `opening ${bench.about.scans[bench.get("scan")]} …`));
    else if (by === "code" && card.kind === "code" && card.code === code) box.replaceChildren(...codeCard(card));
    else if (by === "code") box.replaceChildren(element("span", { className: "l2g-quiet" }, `code ${code} …`));
    else if (by === "reference" && reference !== undefined) box.replaceChildren(...referenceCard(reference));
    else if (by === "cell" && reference !== undefined && code !== undefined) box.replaceChildren(...cellCard(code, reference));
    else box.replaceChildren(...pixelCard());
  };

  const cellCard = (/** @type {number} */ code, /** @type {number} */ reference) => {
    const { plans, row } = bench;
    const parts = [element("div", { className: "l2g-bench-head" }, codeLink(code, bench.nameOf(code)), element("span", { className: "l2g-quiet" }, "and"), referenceLink(reference, `reference ${reference}`))];
    if (plans && row >= 0) {
      const at = row * plans.references + reference;
      for (const [which, words] of /** @type {const} */ ([["sending", "sends"], ["receiving", "hears"]])) {
        if (which === "receiving" && !bench.about.two) continue;
        const mass = ofHead(plans, which, bench.get("head"))[at];
        parts.push(line(words, `${percent(mass / Math.max(plans.source[row], 1e-30))} of what the code holds, ${permille(mass)} of the slice`));
      }
    } else parts.push(line("plan", bench.now ? "the code does not fire in this slice" : "…"));
    return parts;
  };
  return { element: box, show };
}
