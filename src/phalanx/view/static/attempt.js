// The room in which a run predicts an image of the user's own.

import { bytes, picture, send } from "./ask.js";
import { by, element, option, shown, swatch } from "./dom.js";
import { scene } from "./wire.js";

export class Attempt {
  constructor(session, stage) {
    Object.assign(this, { session, stage, asked: 0 });
    const runs = session.sources.filter((one) => one.kind === "run");
    by("try-run").append(...runs.map((one) => option(one.id, one.name)));
    this.usable = runs.length > 0;
    by("try-file").disabled = !this.usable;
    by("try-file").addEventListener("change", () => this.predict(by("try-file").files[0]));
    const zone = document.body;
    zone.addEventListener("dragover", (event) => {
      if (zone.dataset.room !== "try") return;
      event.preventDefault();
      by("drop-zone").classList.add("over");
    });
    zone.addEventListener("dragleave", () => by("drop-zone").classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      by("drop-zone").classList.remove("over");
      if (zone.dataset.room === "try") this.predict(event.dataTransfer.files[0]);
    });
  }

  ready() {}

  enter() {
    by("count").textContent = "";
    by("try-state").textContent = this.usable ? by("try-state").textContent : "Name a run on the command line to try it.";
    if (this.last) return this.show();
    this.stage.clear();
  }

  // Of several files that were dropped, the last one counts, whichever is predicted first.
  async predict(file) {
    if (!file || !this.usable) return;
    const asked = ++this.asked;
    if (file.size > this.session.max_upload) {
      by("try-state").textContent = `${file.name}: more than ${this.session.max_upload / 2 ** 20} MiB`;
      return;
    }
    by("try-state").textContent = `Predicting ${file.name} …`;
    by("try-csv").hidden = true;
    try {
      const run = by("try-run").selectedOptions[0];
      const found = await send(`/api/try/${run.value}`, file, { "X-File-Name": encodeURIComponent(file.name) });
      if (asked !== this.asked) return;
      const [image, made] = await Promise.all([picture(`/try/${found.id}/picture`), bytes(`/try/${found.id}/scene`)]);
      if (asked !== this.asked) return;
      this.last = { found, image, scene: scene(made), run: run.textContent };
      by("try-state").textContent = `Predicted ${found.name}.`;
      by("try-csv").href = `/try/${found.id}/csv`;
      by("try-csv").hidden = false;
      if (document.body.dataset.room === "try") await this.show();
    } catch (error) {
      if (asked === this.asked) by("try-state").textContent = error.message;
    }
    by("try-file").value = "";
  }

  async show() {
    const { found, image, run } = this.last, { stage } = this;
    stage.last = stage.wanted = null;
    if (stage.viewer.mode !== "image") stage.setMode("prediction");
    const layer = { name: run, scene: this.last.scene };
    layer.overlay = await stage.painter.overlay(layer.scene, stage.viewer.mode, stage.viewer.shown);
    if (document.body.dataset.room !== "try") return;
    stage.show(image, [layer], false, found.id);
    by("name").textContent = found.name;
    const { spacing } = found, rows = [["run", run], ["size", `${found.size[1]} × ${found.size[0]} pixels`]];
    rows.push(["pixel", spacing ? `${spacing.columns} × ${spacing.rows} mm (${spacing.tag}${spacing.tag === "ImagerPixelSpacing" ? ", at the detector" : ""})` : "size not known"]);
    by("facts").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
    by("notes").replaceChildren();
    if (found.areas) this.areas(found);
  }

  areas(found) {
    const columns = ["class", "area, px", ...(found.spacing ? ["area, mm²"] : [])];
    by("legend").tHead.replaceChildren(element("tr", {}, ...columns.map((text) => element("th", { scope: "col" }, text))));
    by("legend").tBodies[0].replaceChildren(...found.areas.map((area, c) => {
      const label = element("label", {}, this.stage.legend.toggle(c), swatch(this.session.classes[c].colour), element("span", {}, area.class));
      const cells = [element("td", {}, shown(area.pixels, 1)), ...(found.spacing ? [element("td", {}, shown(area.mm2, 2))] : [])];
      return element("tr", {}, element("th", { scope: "row" }, label), ...cells);
    }));
  }

  key() { return false; }
}
