// A viewer's traits in a saved page, and numbers as Python writes them.

import assert from "node:assert/strict";
import test from "node:test";
import { descending, percent, pointed, rounded } from "../../../widgets/js/answers.js";
import { Saved } from "../../../widgets/js/page.js";

const saved = (traits = {}, arrays = {}) => new Saved({ traits: { selection: {}, error: "", ...traits }, arrays });

test("what is set is heard at once, and answered when it is saved", () => {
  const [model, heard, answered] = [saved({ side: "sends", order: "usage" }), [], []];
  model.answers = { changed: (names) => answered.push(names) };
  const hear = () => heard.push(model.get("side"));
  model.on("change:side change:order", hear);
  model.set("side", "receives");
  model.set("side", "receives");
  assert.deepEqual([heard, answered], [["receives"], []]);
  model.save_changes();
  model.save_changes();
  assert.deepEqual(answered, [["side"]]);
  model.off("change:side change:order", hear);
  model.set("side", "sends");
  assert.equal(heard.length, 1);
});

test("a selection is shared with whom one is linked with, round and round", () => {
  const models = [saved(), saved(), saved()];
  models.forEach((model, i) => model.linked.add(models[(i + 1) % 3]));
  models[1].set("selection", { code: 3 });
  models[1].save_changes();
  assert.deepEqual(models.map((model) => model.get("selection")), [{ code: 3 }, { code: 3 }, { code: 3 }]);
});

test("a selection that an answer has set is shared as well, and answered once", () => {
  const [model, other, answered] = [saved({ volume: 0 }), saved(), []];
  model.linked.add(other);
  model.answers = {
    changed: (names) => {
      answered.push(names);
      if (names.includes("volume")) model.set("selection", { voxel: [2, 0, 0] });
    },
  };
  model.set("volume", 1);
  model.save_changes();
  assert.deepEqual(other.get("selection"), { voxel: [2, 0, 0] });
  model.set("error", "");
  model.save_changes();
  assert.deepEqual(answered, [["volume"]]);
});

test("parts of arrays come as they are asked for, and of the newest version only", async () => {
  const offer = { version: 1, dtype: "uint8", shape: [3, 2] };
  const model = saved({ arrays: { volume: offer } }, { volume: new DataView(Uint8Array.of(0, 1, 2, 3, 4, 5).buffer) });
  const heard = [];
  model.on("msg:custom", ({ start }, [part]) => heard.push([start, part.getUint8(0), part.byteLength]));
  model.send({ event: "fetch", array: "volume", version: 1, start: 1, stop: 3 });
  await Promise.resolve();
  model.publish("volume", new DataView(Uint8Array.of(9, 8).buffer), [1, 2]);
  model.send({ event: "fetch", array: "volume", version: 1, start: 0, stop: 1 });
  model.send({ event: "fetch", array: "volume", version: 2, start: 0, stop: 1 });
  await Promise.resolve();
  assert.deepEqual(heard, [[1, 2, 4], [0, 9, 2]]);
});

test("what only Python can do says so", () => {
  const model = saved();
  model.send({ event: "export" });
  assert.equal(model.get("error"), "needs a running notebook");
});

test("numbers are those of Python", () => {
  assert.deepEqual([0.5, 1.5, 2.5, -0.5, -1.5, 2.4, 2.6].map(rounded), [0, 2, 2, -0, -2, 2, 3]);
  assert.deepEqual([percent(0.125, 1), percent(0.285), percent(1)], ["12.5%", "28%", "100%"]);
  assert.deepEqual(descending(Float32Array.of(1, 3, 3, 0)), [1, 2, 0, 3]);
  assert.deepEqual([pointed({ by: "code", code: 1 }), pointed({ by: "code", reference: 1 }), pointed({})], ["code", "reference", "voxel"]);
});
