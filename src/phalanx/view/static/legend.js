// Beside the image: its facts, the signs, and the classes with their numbers.

import { breakable, by, element, shown, swatch } from "./dom.js";
import { WRONG } from "./paint.js";
import { modeOf } from "./painter.js";

export class Legend {
  constructor(session, viewer, numbers) {
    Object.assign(this, { session, viewer, numbers });
    by("classes-all").addEventListener("click", () => this.show(viewer.shown.includes(false)));
  }

  // Shows these classes, or all, or none.
  show(which) {
    this.viewer.shown = this.viewer.shown.map((_, c) => (typeof which === "boolean" ? which : which.includes(c)));
    this.viewer.repaint();
    this.check();
  }

  // The boxes of the table as the viewer has the classes.
  check() {
    const every = !this.viewer.shown.includes(false);
    by("legend").querySelectorAll("input").forEach((box, c) => { box.checked = this.viewer.shown[c]; });
    by("classes-all").hidden = !by("legend").querySelector("input");
    by("classes-all").textContent = every ? "Hide all classes" : "Show all classes";
  }

  toggle(c) {
    const box = element("input", { type: "checkbox" });
    box.checked = this.viewer.shown[c];
    box.addEventListener("change", () => { this.viewer.shown[c] = box.checked; this.viewer.repaint(); this.check(); });
    return box;
  }

  facts(image, layers, extra) {
    by("name").textContent = image.name;
    const rows = [["patient", image.patient], ["set", image.split], ["fold", image.fold]];
    for (const layer of layers) {
      const found = layer.source && this.numbers.get(layer.source);
      if (found && found.per_image) {
        rows.push([`${found.per_image_name}, ${found.name}`, shown(found.per_image[found.place.get(image.id)])]);
      }
    }
    const first = this.numbers.get(by("source-a").value);
    const at = first && first.place.get(image.id);
    if (first && first.attributes && at !== undefined) {
      Object.entries(first.attributes).forEach(([name, values]) => rows.push([name, values[at]]));
    }
    Object.entries(extra).forEach((row) => rows.push(row));
    by("facts").replaceChildren(...rows.filter(([, value]) => value !== null && value !== "").flatMap(([name, value]) => [
      element("dt", {}, name), element("dd", {}, value),
    ]));
    by("notes").replaceChildren(...(first ? first.notes : []).map((note) => element("li", {}, note)));
  }

  signs() {
    const kinds = new Set(this.viewer.layers.map((layer) => layer.scene.kind)), lines = [];
    const line = (sign, text) => lines.push(element("p", {}, element("span", { class: `sign ${sign}`, "aria-hidden": true }), text));
    if (kinds.has("masks") && this.viewer.mode === "errors") {
      line("extra", "hatched / : predicted, not in the truth");
      line("missed", "hatched \\ : in the truth, not predicted");
    } else if (kinds.has("masks")) {
      const modes = this.viewer.layers.map((layer) => modeOf(layer.scene, this.viewer.mode));
      if (modes.includes("prediction") || modes.includes("both")) line("dashed", "dashed: prediction");
      if (modes.includes("both")) line("white", "solid white line: truth");
      if (modes.includes("truth")) line("solid", "solid line: truth");
    }
    if (kinds.has("boxes")) {
      const matched = this.viewer.layers.some((layer) => layer.scene.matched);
      if (this.viewer.layers.some((layer) => layer.scene.truth)) line("solid", "solid: truth");
      if (this.viewer.layers.some((layer) => layer.scene.predicted)) line("dashed", matched ? "dashed: prediction that matches" : "dashed: prediction");
      if (matched) line("cross", "dashed with a cross: false prediction");
      if (matched) line("dotted", "dotted, thick: missed object");
    }
    by("key").replaceChildren(...lines);
    by("key").style.setProperty("--extra", WRONG.extra);
    by("key").style.setProperty("--missed", WRONG.missed);
  }

  legend(layers) {
    const kind = layers[0] ? layers[0].scene.kind : "", body = by("legend").tBodies[0], head = by("legend").tHead;
    head.replaceChildren();
    body.replaceChildren();
    if (kind === "labels") this.bars(layers, head, body);
    else if (kind) this.table(kind, layers, head, body);
    this.check();
  }

  table(kind, layers, head, body) {
    const count = (items, c) => (items ? items.filter((box) => box.class === c).length : null);
    const truth = (found, c) => (kind === "masks" ? found.truth && found.truth_areas && found.truth_areas[c] : count(found.truth, c));
    const made = (found, c) => (kind === "masks" ? shown(found.predicted && found.predicted_areas[c]) : boxesOf(found, c));
    const first = layers[0].scene;
    const predicting = layers.filter((layer) => layer.source);
    const columns = [kind === "masks" ? "area in pixels" : "boxes", "truth", ...predicting.map((layer) => layer.name)];
    head.append(element("tr", {}, ...columns.map((text) => element("th", { scope: "col" }, breakable(text)))));
    this.session.classes.forEach((one, c) => {
      const cells = [shown(truth(first, c)), ...predicting.map((layer) => made(layer.scene, c))].map((text) => element("td", {}, text));
      body.append(element("tr", {}, element("th", { scope: "row" }, element("label", {}, this.toggle(c), swatch(one.colour), element("span", {}, one.name))), ...cells));
    });
  }

  bars(layers, head, body) {
    const known = layers.some((layer) => layer.scene.truth), made = layers.filter((layer) => layer.scene.probabilities);
    const columns = ["probability", ...(known ? ["truth"] : []), ...made.map((layer) => layer.name)];
    head.append(element("tr", {}, ...columns.map((text) => element("th", { scope: "col" }, breakable(text)))));
    this.session.classes.forEach((one, c) => {
      const truth = layers[0].scene.truth, label = truth ? truth[c] : null;
      const cells = made.map(({ scene: found }) => {
        const called = found.predicted[c], p = found.probabilities[c];
        const wrong = label !== null && label !== undefined && (label === 1) !== called;
        const bar = element("span", { class: `bar${wrong ? " wrong" : ""}` });
        bar.style.setProperty("--p", `${100 * p}%`);
        return element("td", {}, bar, element("span", { class: "p" }, `${p.toFixed(3)}${called ? " called" : ""}${wrong ? " ✗ wrong" : ""}`));
      });
      body.append(element("tr", {}, element("th", { scope: "row" }, element("span", { class: "named" }, swatch(one.colour), element("span", {}, one.name))),
        ...(known ? [element("td", {}, label === 1 ? "✓ yes" : label === 0 ? "no" : "–")] : []), ...cells));
    });
  }
}

// Boxes of a class in words.
function boxesOf(found, c) {
  const own = found.predicted.filter((box) => box.class === c), right = own.filter((box) => box.right).length;
  if (!found.matched) return String(own.length);
  const missed = found.truth.filter((box) => box.class === c && box.missed).length;
  return `${right} matched, ${own.length - right} false, ${missed} missed`;
}
