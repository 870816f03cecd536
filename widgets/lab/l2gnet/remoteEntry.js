// An extension of JupyterLab, written as its build would leave it: a notebook opened without a kernel shows pictures
// of its viewers, as they were when it was saved, where JupyterLab says "Error displaying widget: model not found".
//
// Any output of a widget that brings a picture is shown so. Only a viewer of ours, whose element has the method
// `picture`, is drawn anew before its notebook is saved.

(() => {
  const WIDGET = "application/vnd.jupyter.widget-view+json";
  const KINDS = ["image/jpeg", "image/png"];
  const STILL = /^<img [^<>]* src="(data:image\/svg\+xml,[^"]*)">$/; // an image can do nothing, whoever wrote it
  const BAR = /\d+%\|/; // of tqdm: what was going on is over
  // A widget without its kernel has no element, only words. A picture waits for a live view that is about to come.
  const STYLE = `
    .l2g-kept > .l2g-live:not(:has(> .lm-Widget)) { display: none; }
    .l2g-kept:has(> .l2g-live > .lm-Widget) > img { display: none; }
    .l2g-kept > img:not([hidden]) { display: block; max-width: 100%; height: auto; animation: l2g-wait 0.6s; }
    @keyframes l2g-wait { from, to { visibility: hidden; } }
  `;

  /** What is seen of a widget, and its picture beside it: one of the two is shown. */
  const keeping = (Panel, Widget) =>
    class Kept extends Panel {
      constructor(live) {
        super();
        this.picture = document.createElement("img");
        this.addWidget(new Widget({ node: this.picture }));
        this.take(live);
      }

      /** Show a widget by another renderer, as one that has come to know the kernel. */
      take(live) {
        this.live?.dispose();
        this.live = live;
        live.addClass("l2g-live");
        this.insertWidget(0, live);
        if (this.model) live.renderModel(this.model);
      }

      async renderModel(model) {
        const { data, metadata } = (this.model = model);
        const kind = KINDS.find((each) => data[each]);
        const source = kind ? `data:${kind};base64,${data[kind]}` : STILL.exec(data["text/html"] ?? "")?.[1];
        this.toggleClass("l2g-kept", source !== undefined || BAR.test(data["text/plain"] ?? ""));
        this.picture.hidden = !source;
        if (source) this.picture.src = source;
        this.picture.alt = data["text/plain"] ?? "";
        const { width } = metadata[kind] ?? {};
        if (width) this.picture.width = width;
        const { model_id: id } = data[WIDGET];
        if (id === this.shown) return; // a new picture is no reason to make the view anew
        this.shown = id;
        await this.live.renderModel(model);
      }

      /** Put the picture of what is seen now into the output, if it is to be seen. */
      async keep() {
        const seen = await this.live.node.querySelector(".l2g-viewer")?.picture?.();
        if (!seen || this.isDisposed) return;
        const { data, metadata } = this.model;
        const size = { width: seen.width, height: seen.height };
        const { "text/html": _, ...others } = data; // the picture that Python drew: two would be twice as heavy
        this.model.setData({ data: { ...others, "image/jpeg": seen.jpeg }, metadata: { ...metadata, "image/jpeg": size } });
      }
    };

  function attend(panel, context, Kept) {
    const { rendermime } = panel.content;
    const kept = new Set();
    const [create, add] = [rendermime.createRenderer.bind(rendermime), rendermime.addFactory.bind(rendermime)];
    rendermime.addFactory = (factory, rank) => {
      add(factory, rank); // it may come after the first outputs
      if (factory.mimeTypes.includes(WIDGET)) for (const each of kept) each.take(create(WIDGET));
    };
    rendermime.createRenderer = (kind) => {
      const renderer = create(kind);
      if (kind !== WIDGET || renderer instanceof Kept) return renderer;
      const made = new Kept(renderer);
      kept.add(made);
      made.disposed.connect(() => kept.delete(made));
      return made;
    };
    for (const name of ["save", "saveAs"]) {
      const write = context[name].bind(context);
      context[name] = async () => {
        // A picture that fails must not keep a notebook from being saved.
        await Promise.allSettled([...kept].map((each) => each.keep()));
        return write();
      };
    }
  }

  let shared;
  /** A module of JupyterLab's own. */
  const load = async (name) => (await Object.values(shared[name])[0].get())();

  (window._JUPYTERLAB ??= {}).l2gnet = {
    init: (scope) => {
      shared = scope;
    },
    get: async () => {
      const { Panel, Widget } = await load("@lumino/widgets");
      const Kept = keeping(Panel, Widget);
      const activate = (app) => {
        document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
        const createNew = (panel, context) => attend(panel, context, Kept);
        app.docRegistry?.addWidgetExtension("Notebook", { createNew });
      };
      return () => ({ id: "l2gnet:pictures", autoStart: true, activate });
    },
  };
})();
