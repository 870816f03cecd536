import { element, viewer } from "./viewer.js";

export default viewer((view) => {
  const text = element("output");
  const show = () => {
    text.textContent = `angle ${view.model.get("angle")}`;
  };
  const button = (name, handler) => {
    const made = element("button", {}, name);
    view.on(made, "click", handler);
    return made;
  };
  view.body.append(
    text,
    button("turn", () => view.send("turn", { by: 5 })),
    button("jam", () => view.send("jam")),
    button("broken", () => view.nothing.here()),
  );
  view.watch(["angle"], show);
  view.onArray((name) => {
    const { data, shape, rows } = view.arrays.get(name);
    view.status(`${name}: ${rows} of ${shape[0]} rows, ${100 * view.arrays.progress()} %, last ${data.at(-1)}`);
  });
  show();
});
