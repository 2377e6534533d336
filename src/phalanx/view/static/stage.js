// The middle of the page: the image, and what is shown of it.

import { Store, bytes, picture } from "./ask.js";
import { by, option } from "./dom.js";
import { Legend } from "./legend.js";
import { heatmap } from "./paint.js";
import { Painter } from "./painter.js";
import { Viewer } from "./viewer.js";
import { heat, scene } from "./wire.js";

const MODES = [
  ["both", "truth over prediction"], ["truth", "truth"], ["prediction", "prediction"], ["errors", "errors"], ["image", "image alone"],
];
const PIXELS = 1 << 26; // of pictures that are held ready

export class Stage {
  constructor(session) {
    this.session = session;
    this.numbers = new Map(); // of sources that are ready
    this.images = new Map(session.images.map((one) => [one.id, one]));
    this.painter = new Painter(session.classes.map((one) => one.colour));
    this.viewer = new Viewer(by("canvas"), by("under"), session, this.painter);
    this.legend = new Legend(session, this.viewer, this.numbers);
    this.pictures = new Store(PIXELS, (path) => picture(path), (one) => one.width * one.height);
    this.scenes = new Store(60, async (path) => scene(await bytes(path)));
    this.heats = new Store(60, async (path) => heatmap(heat(await bytes(path))));
    this.wanted = null; // what is to be shown: { image, extra, focus }
    this.next = []; // what may be wanted next
    this.ahead = 0; // pieces of work for it
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
    this.viewer.repaint();
    this.legend.signs();
  }

  nextMode() {
    const at = MODES.findIndex(([value]) => value === this.viewer.mode);
    this.setMode(MODES[(at + 1) % MODES.length][0]);
  }

  // Which sources are chosen and have this image.
  chosen(image) {
    const all = [by("source-a").value, by("source-b").value].filter(Boolean);
    return all.filter((id) => this.numbers.has(id) && this.numbers.get(id).place.has(image.id));
  }

  refresh() {
    return this.last ? this.open(this.last.image, this.last.extra) : Promise.resolve();
  }

  // Shows an image; of several that are wanted at once, the last one. Resolves when it is drawn.
  //   focus: { classes, object } of the annotation to look at.
  open(image, extra = {}, focus = null) {
    this.wanted = { image, extra, focus };
    this.opening ||= this.follow().finally(() => { this.opening = null; this.work(); });
    return this.opening;
  }

  async follow() {
    while (this.wanted) {
      const { image, extra, focus } = this.wanted, again = Boolean(this.last) && this.last.image === image;
      this.wanted = null;
      if (focus) this.viewer.shown = this.shownFor(focus);
      this.last = { image, extra };
      const before = this.viewer.state;
      try {
        const [layers, shownPicture] = await this.prepare(image, this.viewer.shown, "now");
        if (this.last === null || this.last.image !== image) continue; // another room was entered
        this.show(shownPicture, layers, again && !focus, image.id);
        this.legend.facts(image, layers, extra);
        by("stage").dataset.image = image.id;
        if (focus) this.viewer.frame(this.regionOf(layers, focus));
        if (this.viewer.state !== before) this.viewer.repaint(); // a class was switched meanwhile
      } catch (error) {
        by("under").textContent = error.message;
      }
    }
  }

  // Shows no image; one that is on its way is not shown either.
  clear() {
    this.last = this.wanted = null;
    this.viewer.clear();
    for (const id of ["swipe-label", "heat-label"]) by(id).hidden = true;
    delete by("stage").dataset.image;
    by("name").textContent = "";
    for (const id of ["facts", "notes"]) by(id).replaceChildren();
    this.legend.legend([]);
    this.legend.signs();
  }

  shownFor(focus) {
    const some = focus.classes.length > 0;
    return this.session.classes.map((_, c) => !some || focus.classes.includes(c));
  }

  // The picture of an image and its layers, overlays painted.
  async prepare(image, shown, when) {
    const loaded = this.pictures.get(`/image/${image.id}/full`), { mode } = this.viewer;
    loaded.catch(() => {}); // it is awaited below
    const layers = (await this.layers(image)).filter(Boolean);
    for (const layer of layers) {
      layer.overlay = await this.painter.overlay(layer.scene, mode, shown, when);
    }
    return [layers, await loaded];
  }

  async layers(image) {
    const sources = this.chosen(image);
    const whole = sources.every((id) => this.numbers.get(id).scored); // what is scored brings the truth
    const truth = image.annotated && !(whole && sources.length) ? this.scenes.get(`/truth/${image.id}`) : null;
    if (!sources.length) return [truth && { name: "truth", scene: await truth }];
    return Promise.all(sources.map(async (id) => {
      let found = await this.scenes.get(`/scene/${image.id}/${id}`);
      const known = await truth;
      if (!found.truth && known) found = merged(found, known);
      const c = by("heat").value;
      const warm = found.heat && c !== "" ? await this.heats.get(`/heat/${image.id}/${id}/${c}`) : null;
      return { name: this.numbers.get(id).name, source: id, scene: found, heat: warm };
    }));
  }

  show(image, layers, again, key) {
    const size = layers[0] ? layers[0].scene.size : [image.height, image.width];
    this.viewer.show(image, size, layers, again, key);
    const kind = layers[0] ? layers[0].scene.kind : "";
    by("swipe-label").hidden = layers.length < 2;
    by("heat-label").hidden = !layers.some((layer) => layer.scene.heat);
    by("mode").parentElement.hidden = by("opacity-label").hidden = kind === "labels";
    if (kind === "labels" && layers.some((layer) => layer.scene.heat)) by("opacity-label").hidden = false;
    if (kind === "boxes") by("opacity-label").hidden = true;
    this.legend.legend(layers);
    this.legend.signs();
  }

  // What may be wanted next, the likeliest first: [{ image, focus }].
  prefetch(next) {
    this.next = next.filter((one) => one.image);
    this.work();
  }

  // Prepares two images ahead at a time, while nothing is waited for.
  work() {
    while (this.next.length && this.ahead < 2 && !this.opening) {
      const { image, focus } = this.next.shift();
      this.ahead++;
      this.prepare(image, focus ? this.shownFor(focus) : this.viewer.shown, "ahead").catch(() => {}).finally(() => {
        this.ahead--;
        this.work();
      });
    }
  }

  // [x0, y0, x1, y1] of an annotation in the image: of a mask with what is predicted of its class; without an object, of
  // the best box of the class that no object overlaps. null: the whole image.
  regionOf(layers, { classes, object }) {
    const found = [];
    for (const { scene: one } of layers) {
      for (const side of ["truth", "predicted"]) {
        if (!one[side] || one.kind === "labels") continue;
        if (one.kind === "masks") found.push(...classes.slice(0, 1).map((c) => around(one[side][c], one.size[1])));
        else if (object === null) {
          const own = side === "predicted" ? one.predicted.filter((box) => classes[0] === box.class) : [];
          const free = own.filter((box) => !(one.truth || []).some((other) => iou(box.corners, other.corners) >= 0.1));
          found.push(...(free.length ? free.slice(0, 1) : own).map((box) => box.corners));
        } else if (side === "truth" && one[side][object]) found.push(one[side][object].corners);
      }
    }
    const there = found.filter(Boolean);
    return there.length ? [0, 1, 2, 3].map((k) => (k < 2 ? Math.min : Math.max)(...there.map((corners) => corners[k]))) : null;
  }
}

// A prediction with the truth beside it; the same object for the same two.
const merges = new WeakMap();

function merged(found, truth) {
  if (!merges.has(found)) merges.set(found, { ...found, truth: truth.truth, truth_areas: truth.truth_areas });
  return merges.get(found);
}

function iou(one, other) {
  const area = ([x0, y0, x1, y1]) => Math.max(0, x1 - x0) * Math.max(0, y1 - y0);
  const both = area([0, 1, 2, 3].map((k) => (k < 2 ? Math.max : Math.min)(one[k], other[k])));
  return both / (area(one) + area(other) - both || 1);
}

// The frame of a mask.
function around(runs, width) {
  if (!runs.length) return null;
  let left = width, right = 0;
  for (let k = 0; k < runs.length; k += 2) {
    const from = runs[k] % width, to = from + runs[k + 1] - runs[k];
    left = Math.min(left, to > width ? 0 : from);
    right = Math.max(right, Math.min(to, width));
  }
  return [left, Math.floor(runs[0] / width), right, Math.floor((runs[runs.length - 1] - 1) / width) + 1];
}
