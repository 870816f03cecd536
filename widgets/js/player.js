// Plays through slices or moments: one after the other, as fast as is chosen, once or round and round.

import { element } from "./viewer.js";

/** @import { View } from "./viewer.js" */
/**
 * What is played through.
 *
 * @typedef {object} Reel
 * @property {string} what one of it is called
 * @property {() => number} count
 * @property {() => number} at
 * @property {(index: number) => void} go
 * @property {(index: number) => boolean} isHere whether it can be shown at once; the player waits for it
 */

const SPEEDS = [2, 5, 10, 20]; // a second
const WAIT_MS = 20;

/**
 * @param {View} view
 * @param {Reel} reel
 * @param {boolean} keys whether those of the viewer are its own
 */
export function playerOf(view, { what, count, at, go, isHere }, keys) {
  let speed = { moment: 10, slice: 5, epoch: 2 }[what] ?? 5;
  let loop = true;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const play = element("button", { className: "l2g-icon" });
  const round = element("button", { className: "l2g-icon", "aria-label": `loop the ${what}s` }, "↻");
  const pace = element("select", { title: `${what}s a second${keys ? " ( < and > )" : ""}`, "aria-label": `${what}s a second` });
  pace.append(...SPEEDS.map((each) => element("option", { value: String(each) }, `${each} / s`)));
  const show = () => {
    play.textContent = timer ? "❚❚" : "▶";
    play.title = `${timer ? "Stop" : `Play the ${what}s`}${keys ? " (space)" : ""}`;
    play.setAttribute("aria-label", `${timer ? "stop" : "play"} the ${what}s`);
    round.title = `${loop ? `Stop at the last ${what}` : `Begin again after the last ${what}`}${keys ? " (l)" : ""}`;
    round.setAttribute("aria-pressed", String(loop));
    pace.value = String(speed);
  };
  const stop = () => {
    clearTimeout(timer);
    timer = undefined;
    show();
  };
  const step = view.guard(() => {
    const next = at() + 1;
    if (next >= count() && !loop) return stop();
    const here = isHere(next % count());
    if (here) go(next % count());
    timer = setTimeout(step, here ? 1000 / speed : WAIT_MS);
    return undefined;
  });
  const toggle = () => {
    if (timer) return stop();
    if (at() === count() - 1) go(0);
    timer = setTimeout(step, 1000 / speed);
    return show();
  };
  const toggleLoop = () => {
    loop = !loop;
    show();
  };
  /** @param {number} way */
  const change = (way) => {
    speed = SPEEDS[Math.min(Math.max(SPEEDS.indexOf(speed) + way, 0), SPEEDS.length - 1)];
    show();
  };
  view.on(play, "click", toggle);
  view.on(round, "click", toggleLoop);
  view.on(pace, "change", () => change(SPEEDS.indexOf(Number(pace.value)) - SPEEDS.indexOf(speed)));
  view.signal.addEventListener("abort", stop);
  show();
  return { element: element("span", { className: "l2g-player" }, element("span", {}, what), play, round, pace), toggle, toggleLoop, change };
}
