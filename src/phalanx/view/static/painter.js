// Asks the workers that paint: one for what is looked at, one for what may be looked at next.

import { Store } from "./ask.js";

const PIXELS = 1 << 26; // of overlays that are held ready

class Hand {
  constructor() {
    this.worker = new Worker("/static/painting.js", { type: "module" });
    this.waiting = new Map();
    this.ticket = 0;
    this.worker.addEventListener("message", ({ data }) => {
      const { done, failed } = this.waiting.get(data.ticket);
      this.waiting.delete(data.ticket);
      if (data.error) failed(new Error(data.error));
      else done(data.made);
    });
    this.worker.addEventListener("error", (event) => {
      this.waiting.forEach(({ failed }) => failed(new Error(event.message || "the painter does not start")));
      this.waiting.clear();
    });
  }
  paint(work) {
    return new Promise((done, failed) => {
      this.waiting.set(++this.ticket, { done, failed });
      this.worker.postMessage({ ...work, ticket: this.ticket });
    });
  }
}

export class Painter {
  constructor(colours) {
    this.colours = colours;
    this.made = new Store(PIXELS, (key, ...work) => this.paint(...work), (made) => (made ? made.bitmap.width * made.bitmap.height : 0));
    this.hands = { now: new Hand(), ahead: new Hand() };
  }

  // The overlay of a scene, as board.js paints it; null if there is nothing to paint.
  overlay(scene, asked, shown, when = "now") {
    const mode = modeOf(scene, asked);
    if (!scene || scene.kind !== "masks" || mode === "image") return Promise.resolve(null);
    return this.made.get(`${keyOf(scene)} ${mode} ${shown.map(Number).join("")}`, scene, mode, [...shown], when);
  }

  paint(scene, mode, shown, when) {
    const { truth, predicted, size } = scene;
    return this.hands[when].paint({ key: keyOf(scene), scene: { truth, predicted, size }, mode, colours: this.colours, shown });
  }
}

// Truth over prediction needs both: with one alone, that is shown.
export function modeOf(scene, mode) {
  if (!scene || mode !== "both") return mode;
  return !scene.predicted ? "truth" : !scene.truth ? "prediction" : mode;
}

let count = 0;
const keys = new WeakMap();

function keyOf(scene) {
  if (!keys.has(scene)) keys.set(scene, `scene ${++count}`);
  return keys.get(scene);
}
