// What opens over a viewer and closes by itself: a menu where the right button is pressed, and the page of help.

import { element } from "./viewer.js";

/** @import { View } from "./viewer.js" */
/** @typedef {[text: string, key: string, act: () => unknown]} Entry of a menu */

/**
 * Open a menu at a point of the window; it is gone after a choice, Escape, or a click beside it.
 *
 * @param {Pick<View, "on">} host
 * @param {HTMLElement} parent
 * @param {number[]} point
 * @param {Entry[]} entries
 */
export function openMenu(host, parent, [x, y], entries) {
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  const menu = element("div", { className: "l2g-menu", role: "menu", popover: "auto" });
  const buttons = entries.map(([text, key, act]) => {
    const button = element("button", { role: "menuitem" }, text, element("kbd", {}, key));
    host.on(button, "click", () => {
      menu.hidePopover();
      return act();
    });
    return button;
  });
  menu.append(...buttons);
  host.on(menu, "keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    buttons[(at + step + buttons.length) % buttons.length].focus();
  });
  host.on(menu, "toggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState === "open") return;
    menu.remove();
    before?.focus({ preventScroll: true });
  });
  parent.append(menu);
  menu.showPopover();
  const room = [window.innerWidth - menu.offsetWidth, window.innerHeight - menu.offsetHeight];
  Object.assign(menu.style, { left: `${Math.min(x, room[0])}px`, top: `${Math.min(y, room[1])}px` });
  buttons[0].focus();
}

/**
 * Open a page of what keys and mouse do.
 *
 * @param {HTMLElement} parent
 * @param {string[][]} rows keys, and what they do
 */
export function openHelp(parent, rows) {
  const lines = rows.flatMap(([keys, text]) => [element("kbd", {}, keys), element("span", {}, text)]);
  const page = element("div", { className: "l2g-help", popover: "auto", role: "dialog", tabIndex: -1, "aria-label": "keys and mouse" });
  page.append(element("b", {}, "Keys and mouse"), element("div", { className: "l2g-help-rows" }, ...lines));
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  page.addEventListener("toggle", (event) => {
    if (event.newState === "open") return;
    page.remove();
    before?.focus({ preventScroll: true });
  });
  page.addEventListener("keydown", (event) => event.key === "?" && (event.stopPropagation(), page.hidePopover()));
  parent.append(page);
  page.showPopover();
  page.focus();
}
