// What a training monitor shows between two epochs, without a browser.

import assert from "node:assert/strict";
import test from "node:test";
import { all, answer, rendered, settle, words } from "./fake_page.mjs";
import trainingMonitor from "../../../widgets/js/training_monitor.js";

const offers = (version) => ({ places: { version, dtype: "float32", shape: [2, 1, 2] }, uses: { version, dtype: "float32", shape: [2, 1] } });

test("the codes of the epochs before stay until those of the next are here", () => {
  const progress = { epoch: 2, epochs: 4, state: "running", text: "" };
  const page = rendered(trainingMonitor, { progress, panels: [], colours: [], shown_epoch: -1, forming: { epochs: [1, 2], variance: 1 }, arrays: offers(1) });
  const figure = all(page.el, "figure")[0];
  const seen = () => [figure.hidden, /epoch \d: \d of \d/.exec(words(figure))?.[0]];
  answer(page, 1);
  assert.deepEqual(seen(), [true, undefined]);
  answer(page, 1);
  assert.deepEqual(seen(), [false, "epoch 2: 1 of 1"]);
  page.model.set("arrays", offers(2));
  page.model.set("forming", { epochs: [1, 3], variance: 1 });
  settle();
  assert.deepEqual(seen(), [false, "epoch 2: 1 of 1"]);
  answer(page, 0);
  assert.deepEqual(seen(), [false, "epoch 2: 1 of 1"]);
  answer(page, 0);
  assert.deepEqual(seen(), [false, "epoch 3: 0 of 1"]);
  page.model.set("forming", {}); // the run begins anew
  assert.equal(figure.hidden, true);
});
