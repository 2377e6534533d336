// The middle of the page: the image, what is shown of it, and the numbers and legend beside it.

import { Store, bytes, picture } from "./ask.js";
import { by, element, option, shown, swatch } from "./dom.js";
import { WRONG, heatmap } from "./paint.js";
import { Viewer } from "./viewer.js";
import { heat, scene } from "./wire.js";

const MODES = [
  ["both", "truth over prediction"], ["truth", "truth"], ["prediction", "prediction"], ["errors", "errors"], ["image", "image alone"],
];

export class Stage {
  constructor(session) {
    this.session = session;
    this.numbers = new Map(); // of sources that are ready
    this.images = new Map(session.images.map((one) => [one.id, one]));
    this.viewer = new Viewer(by("canvas"), by("under"), session);
    this.pictures = new Store(24, (path) => picture(path));
    this.scenes = new Store(60, async (path) => scene(await bytes(path)));
    this.turn = 0;
    MODES.forEach(([value, text]) => by("mode").append(option(value, text)));
    for (const id of ["source-a", "source-b"]) {
      by(id).append(option("", id === "source-a" ? "truth alone" : "nothing"));
      session.sources.forEach((one) => by(id).append(option(one.id, one.name)));
      by(id).addEventListener("change", () => this.refresh());
    }
    if (session.sources.length) by("source-a").value = session.sources[0].id;
    by("mode").addEventListener("change", () => this.setMode(by("mode").value));
    by("opacity").addEventListener("input", () => { this.viewer.opacity = by("opacity").value / 100; this.viewer.draw(); });
    by("swipe").addEventListener("input", () => this.viewer.setSwipe(by("swipe").value / 1000));
    this.viewer.onswipe = (value) => { by("swipe").value = Math.round(value * 1000); };
    by("heat").addEventListener("change", () => this.refresh());
    by("zoom-in").addEventListener("click", () => this.viewer.zoom(1.3));
    by("zoom-out").addEventListener("click", () => this.viewer.zoom(1 / 1.3));
    by("zoom-fit").addEventListener("click", () => this.viewer.fit());
    by("heat").append(option("", "nothing"), ...session.classes.map((one, c) => option(String(c), one.name)));
  }

  setMode(mode) {
    this.viewer.mode = by("mode").value = mode;
    this.viewer.paint();
    this.key();
  }

  nextMode() {
    const at = MODES.findIndex(([value]) => value === this.viewer.mode);
    this.setMode(MODES[(at + 1) % MODES.length][0]);
  }

  // Which sources are chosen and have this image.
  chosen(image) {
    const all = [by("source-a").value, by("source-b").value].filter(Boolean);
    return all.filter((id) => this.numbers.has(id) && this.numbers.get(id).images.includes(image.id));
  }

  refresh() {
    return this.last ? this.open(this.last.image, this.last.extra) : Promise.resolve();
  }

  async open(image, extra = {}) {
    const turn = ++this.turn, again = Boolean(this.last) && this.last.image === image;
    this.last = { image, extra };
    try {
      const layers = (await this.layers(image)).filter(Boolean);
      const shownPicture = await this.pictures.get(`/image/${image.id}/full`);
      if (turn !== this.turn) return;
      this.show(shownPicture, layers, again, image.id);
      this.facts(image, layers, extra);
      by("stage").dataset.image = image.id;
    } catch (error) {
      if (turn === this.turn) by("under").textContent = error.message;
    }
  }

  async layers(image) {
    const sources = this.chosen(image);
    const truth = image.annotated ? await this.scenes.get(`/truth/${image.id}`) : null;
    if (!sources.length) return [truth && { name: "truth", scene: truth }];
    return Promise.all(sources.map(async (id) => {
      let found = await this.scenes.get(`/scene/${image.id}/${id}`);
      if (!found.truth && truth) found = { ...found, truth: truth.truth, truth_areas: truth.truth_areas };
      const c = by("heat").value;
      const warm = found.heat && c !== "" ? heatmap(heat(await bytes(`/heat/${image.id}/${id}/${c}`))) : null;
      return { name: this.numbers.get(id).name, source: id, scene: found, heat: warm };
    }));
  }

  show(image, layers, again, key) {
    const size = layers[0] ? layers[0].scene.size : [image.naturalHeight, image.naturalWidth];
    this.viewer.show(image, size, layers, again, key);
    const kind = layers[0] ? layers[0].scene.kind : "";
    by("swipe-label").hidden = layers.length < 2;
    by("heat-label").hidden = !layers.some((layer) => layer.scene.heat);
    by("mode").parentElement.hidden = by("opacity-label").hidden = kind === "labels";
    if (kind === "labels" && layers.some((layer) => layer.scene.heat)) by("opacity-label").hidden = false;
    if (kind === "boxes") by("opacity-label").hidden = true;
    this.legend(layers);
    this.key();
  }

  // Ahead of the user: image and scenes of neighbours.
  prefetch(image) {
    if (!image) return;
    this.pictures.get(`/image/${image.id}/full`).catch(() => {});
    if (image.annotated) this.scenes.get(`/truth/${image.id}`).catch(() => {});
    this.chosen(image).forEach((id) => this.scenes.get(`/scene/${image.id}/${id}`).catch(() => {}));
  }

  facts(image, layers, extra) {
    by("name").textContent = image.name;
    const rows = [["patient", image.patient], ["set", image.split], ["fold", image.fold]];
    for (const layer of layers) {
      const found = layer.source && this.numbers.get(layer.source);
      if (found && found.per_image) {
        rows.push([`${found.per_image_name}, ${found.name}`, shown(found.per_image[found.images.indexOf(image.id)])]);
      }
    }
    const first = this.numbers.get(by("source-a").value);
    const at = first ? first.images.indexOf(image.id) : -1;
    if (first && first.attributes && at >= 0) {
      Object.entries(first.attributes).forEach(([name, values]) => rows.push([name, values[at]]));
    }
    Object.entries(extra).forEach((row) => rows.push(row));
    by("facts").replaceChildren(...rows.filter(([, value]) => value !== null && value !== "").flatMap(([name, value]) => [
      element("dt", {}, name), element("dd", {}, value),
    ]));
    by("notes").replaceChildren(...(first ? first.notes : []).map((note) => element("li", {}, note)));
  }

  key() {
    const kinds = new Set(this.viewer.layers.map((layer) => layer.scene.kind)), lines = [];
    const line = (sign, text) => lines.push(element("p", {}, element("span", { class: `sign ${sign}`, "aria-hidden": true }), text));
    if (kinds.has("masks") && this.viewer.mode === "errors") {
      line("extra", "hatched / : predicted, not in the truth");
      line("missed", "hatched \\ : in the truth, not predicted");
    } else if (kinds.has("masks")) {
      if (this.viewer.layers.some((layer) => layer.scene.predicted)) line("dashed", "dashed: prediction");
      if (this.viewer.layers.some((layer) => layer.scene.truth)) line("solid", this.viewer.mode === "both" ? "solid white line: truth" : "solid line: truth");
    }
    if (kinds.has("boxes")) {
      line("solid", "solid: truth");
      line("dashed", "dashed: prediction that matches");
      line("cross", "dashed with a cross: false prediction");
      line("dotted", "dotted, thick: missed object");
    }
    by("key").replaceChildren(...lines);
    by("key").style.setProperty("--extra", WRONG.extra);
    by("key").style.setProperty("--missed", WRONG.missed);
  }

  legend(layers) {
    const kind = layers[0] ? layers[0].scene.kind : "", body = by("legend").tBodies[0], head = by("legend").tHead;
    head.replaceChildren();
    body.replaceChildren();
    if (kind === "labels") return this.bars(layers, head, body);
    const count = (items, c) => (items ? items.filter((box) => box.class === c).length : null);
    const truth = (found, c) => (kind === "masks" ? found.truth && found.truth_areas && found.truth_areas[c] : count(found.truth, c));
    const made = (found, c) => (kind === "masks" ? found.predicted && found.predicted_areas[c] : count(found.predicted, c));
    const unit = kind === "masks" ? "px" : "boxes", first = layers[0].scene;
    const predicting = layers.filter((layer) => layer.source);
    const columns = [`truth, ${unit}`, ...predicting.map((layer) => `${layer.name}, ${unit}`)];
    head.append(element("tr", {}, element("th", { scope: "col" }, "class"), ...columns.map((text) => element("th", { scope: "col" }, text))));
    this.session.classes.forEach((one, c) => {
      const box = element("input", { type: "checkbox" });
      box.checked = this.viewer.shown[c];
      box.addEventListener("change", () => { this.viewer.shown[c] = box.checked; this.viewer.paint(); });
      const cells = [truth(first, c), ...predicting.map((layer) => made(layer.scene, c))].map((value) => element("td", {}, shown(value)));
      body.append(element("tr", {}, element("th", { scope: "row" }, element("label", {}, box, swatch(one.colour), element("span", {}, one.name))), ...cells));
    });
  }

  bars(layers, head, body) {
    head.append(element("tr", {}, element("th", { scope: "col" }, "class"), element("th", { scope: "col" }, "truth"),
      ...layers.map((layer) => element("th", { scope: "col" }, `probability, ${layer.name}`))));
    this.session.classes.forEach((one, c) => {
      const truth = layers[0].scene.truth, label = truth ? truth[c] : null;
      const cells = layers.map(({ scene: found }) => {
        if (!found.probabilities) return element("td", {}, "–");
        const called = found.predicted[c], p = found.probabilities[c];
        const wrong = label !== null && label !== undefined && (label === 1) !== called;
        const bar = element("span", { class: `bar${wrong ? " wrong" : ""}` });
        bar.style.setProperty("--p", `${100 * p}%`);
        return element("td", {}, bar, element("span", { class: "p" }, `${p.toFixed(3)}${called ? " called" : ""}${wrong ? " ✗ wrong" : ""}`));
      });
      body.append(element("tr", {}, element("th", { scope: "row" }, swatch(one.colour), one.name),
        element("td", {}, label === 1 ? "✓ yes" : label === 0 ? "no" : "–"), ...cells));
    });
  }
}
