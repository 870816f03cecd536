// A picture of an element as it is seen: an SVG image can hold HTML, and a canvas can draw an SVG image.

const QUALITY = 0.85; // scans are noise, and as PNG they would fill a notebook

/**
 * A JPEG of an element and all in it, at the screen's resolution, with its size on the screen; null if it has none.
 *
 * @param {HTMLElement} el
 * @returns {Promise<{jpeg: string, width: number, height: number} | null>}
 */
export async function pictureOf(el) {
  const { width, height } = el.getBoundingClientRect();
  if (!width || !height) return null;
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg(el, width, height))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = getComputedStyle(el).getPropertyValue("--l2g-ground") || "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return { jpeg: canvas.toDataURL("image/jpeg", QUALITY).split(",")[1], width: Math.round(width), height: Math.round(height) };
}

/**
 * @param {HTMLElement} el
 * @param {number} width
 * @param {number} height
 */
function svg(el, width, height) {
  const copy = /** @type {HTMLElement} */ (el.cloneNode(true));
  const copies = [...copy.querySelectorAll("*")];
  el.querySelectorAll("*").forEach((part, i) => {
    if (part instanceof HTMLCanvasElement) copies[i].replaceWith(stillOf(part));
    else if (part instanceof HTMLInputElement) copies[i].setAttribute("value", part.value);
    else if (part instanceof HTMLOptionElement) copies[i].toggleAttribute("selected", part.selected);
  });
  const style = document.createElement("style");
  const sheets = [...document.querySelectorAll("style")].map((sheet) => sheet.textContent);
  const ours = sheets.filter((text) => text.includes("l2g-")).join("\n");
  style.textContent = ours.replace(/\bcanvas\b/g, "img"); // as which each canvas is in the copy
  const looks = getComputedStyle(el);
  for (const name of new Set(style.textContent.match(/--[\w-]+/g))) copy.style.setProperty(name, looks.getPropertyValue(name));
  Object.assign(copy.style, { width: `${width}px`, margin: "0" });
  copy.prepend(style);
  const inside = new XMLSerializer().serializeToString(copy);
  const size = `width="${width}" height="${height}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size}><foreignObject ${size}>${inside}</foreignObject></svg>`;
}

/**
 * A canvas as an image, in the same place: a copy of a canvas would be empty.
 *
 * @param {HTMLCanvasElement} canvas
 */
function stillOf(canvas) {
  const still = document.createElement("img");
  if (canvas.width && canvas.height) still.src = canvas.toDataURL();
  still.className = canvas.className;
  still.style.cssText = canvas.style.cssText;
  Object.assign(still.style, { display: "block", width: `${canvas.offsetWidth}px`, height: `${canvas.offsetHeight}px` });
  return still;
}
