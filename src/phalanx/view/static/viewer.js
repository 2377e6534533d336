// The canvas: an image with one or two layers, moved and zoomed by wheel, fingers and keys, divided by a swipe.

import { boxes } from "./paint.js";
import { inside } from "./wire.js";

const MOST = 64; // screen pixels of an image's pixel
const LEAST = 0.1; // part of the image that a zoom on an annotation shows at least

export class Viewer {
  constructor(canvas, under, session, painter) {
    Object.assign(this, { canvas, under, painter, names: session.classes.map((c) => c.name) });
    this.colours = session.classes.map((c) => c.colour);
    this.shown = this.names.map(() => true);
    this.layers = [];
    this.swipe = 0.5;
    this.opacity = 0.55;
    this.mode = "both";
    this.size = [1, 1];
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.touches = new Map();
    new ResizeObserver(() => this.resized()).observe(canvas.parentElement);
    this.listen();
  }

  // A new image: its size [height, width], layers of { scene, heat, overlay }, and what it is called when it is drawn.
  show(image, size, layers, again, key) {
    this.key = key;
    this.stale = false;
    const same = again && this.size[0] === size[0] && this.size[1] === size[1];
    this.image = image;
    this.size = size;
    this.layers = layers;
    if (same) this.draw();
    else this.fit();
  }

  // No image.
  clear() {
    Object.assign(this, { image: null, layers: [], size: [1, 1] });
    delete this.canvas.dataset.drawn;
    this.fit();
  }

  // What overlays are painted by.
  get state() { return `${this.mode} ${this.shown.map(Number).join("")}`; }

  // New overlays of the layers, after a mode or class changed. Of several changes at once, the last one counts.
  async repaint() {
    this.stale = true;
    if (this.painting) return;
    this.painting = true;
    try {
      for (let state = null; state !== this.state || this.layers !== this.painted; ) {
        state = this.state;
        this.painted = this.layers;
        const made = await Promise.all(this.painted.map(({ scene }) => this.painter.overlay(scene, this.mode, this.shown)));
        this.painted.forEach((layer, k) => { layer.overlay = made[k]; });
        this.stale = false;
        this.draw();
      }
    } catch (error) {
      this.under.textContent = error.message;
    } finally {
      this.painting = false;
    }
  }

  // Zooms to [x0, y0, x1, y1] of the image with what is around it; without one, the whole image.
  frame(region) {
    if (!region) return this.fit();
    const { width, height } = this.canvas, [x0, y0, x1, y1] = region;
    const side = Math.max(2 * (x1 - x0), 2 * (y1 - y0), LEAST * Math.max(...this.size));
    this.scale = Math.min(MOST, Math.min(width, height) / side);
    this.x = width / 2 - this.scale * (x0 + x1) / 2;
    this.y = height / 2 - this.scale * (y0 + y1) / 2;
    this.fitted = false;
    this.draw();
  }

  resized() {
    const { clientWidth, clientHeight } = this.canvas.parentElement;
    const ratio = window.devicePixelRatio || 1, fitted = this.fitted;
    this.canvas.width = Math.max(1, Math.round(clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    if (fitted !== false) this.fit();
    else this.draw();
  }

  fit() {
    const { width, height } = this.canvas;
    this.scale = Math.min(width / this.size[1], height / this.size[0]);
    this.x = (width - this.size[1] * this.scale) / 2;
    this.y = (height - this.size[0] * this.scale) / 2;
    this.fitted = true;
    this.draw();
  }

  zoom(factor, at = [this.canvas.width / 2, this.canvas.height / 2]) {
    const least = 0.2 * Math.min(this.canvas.width / this.size[1], this.canvas.height / this.size[0]);
    const scale = Math.min(MOST, Math.max(least, this.scale * factor)), real = scale / this.scale;
    this.x = at[0] - (at[0] - this.x) * real;
    this.y = at[1] - (at[1] - this.y) * real;
    this.scale = scale;
    this.fitted = false;
    this.draw();
  }

  move(x, y) {
    this.x += x;
    this.y += y;
    this.fitted = false;
    this.draw();
  }

  draw() {
    if (!this.asked) this.asked = requestAnimationFrame(() => { this.asked = 0; this.render(); });
  }

  render() {
    const context = this.canvas.getContext("2d"), { width, height } = this.canvas;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#111";
    context.fillRect(0, 0, width, height);
    if (!this.image) return;
    this.canvas.dataset.drawn = this.stale ? "" : this.key;
    context.imageSmoothingEnabled = this.scale < 3;
    const place = () => context.setTransform(this.scale, 0, 0, this.scale, this.x, this.y);
    place();
    context.drawImage(this.image, 0, 0, this.size[1], this.size[0]);
    const divided = this.layers.length > 1, edge = Math.round(this.swipe * width);
    this.layers.forEach((layer, k) => {
      context.save();
      context.setTransform(1, 0, 0, 1, 0, 0);
      if (divided) {
        context.beginPath();
        context.rect(k ? edge : 0, 0, k ? width - edge : edge, height);
        context.clip();
      }
      place();
      context.globalAlpha = this.mode === "errors" ? 1 : this.opacity;
      if (layer.heat) context.drawImage(layer.heat, 0, 0, this.size[1], this.size[0]);
      if (layer.overlay) {
        const { bitmap, place: [x, y, wide, tall] } = layer.overlay, [rows, columns] = this.size;
        context.drawImage(bitmap, x * columns, y * rows, wide * columns, tall * rows);
      }
      context.globalAlpha = 1;
      if (layer.scene && layer.scene.kind === "boxes" && this.mode !== "image") {
        boxes(context, layer.scene, this.mode, this.colours, this.names, this.shown, (window.devicePixelRatio || 1) / this.scale);
      }
      context.restore();
    });
    if (divided) {
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.fillStyle = "#000";
      context.fillRect(edge - 2, 0, 5, height);
      context.fillStyle = "#fff";
      context.fillRect(edge - 1, 0, 3, height);
      context.font = `600 ${13 * (window.devicePixelRatio || 1)}px system-ui, sans-serif`;
      context.textBaseline = "top";
      this.layers.forEach((layer, k) => {
        const size = context.measureText(layer.name).width, x = k ? edge + 8 : edge - 8 - size;
        context.fillStyle = "rgba(0,0,0,.78)";
        context.fillRect(x - 4, 6, size + 8, 20 * (window.devicePixelRatio || 1));
        context.fillStyle = "#fff";
        context.fillText(layer.name, x, 9);
      });
    }
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * this.canvas.width / box.width, (event.clientY - box.top) * this.canvas.height / box.height];
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), this.place(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      const at = this.place(event);
      this.touches.set(event.pointerId, at);
      this.swiping = this.layers.length > 1 && this.touches.size === 1 && Math.abs(at[0] - this.swipe * canvas.width) < 18;
    });
    canvas.addEventListener("pointermove", (event) => this.pointed(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => {
        this.touches.delete(event.pointerId);
        this.swiping = false;
      });
    }
    canvas.addEventListener("pointerleave", () => { this.under.textContent = " "; });
    canvas.addEventListener("keydown", (event) => {
      const step = 60, moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      if (event.ctrlKey || event.metaKey || event.altKey || !moves[event.key]) return;
      event.preventDefault();
      this.move(...moves[event.key]);
    });
  }

  pointed(event) {
    const at = this.place(event), before = this.touches.get(event.pointerId);
    if (!before) {
      this.canvas.style.cursor = this.layers.length > 1 && Math.abs(at[0] - this.swipe * this.canvas.width) < 18 ? "ew-resize" : "grab";
      this.hover(at);
      return;
    }
    if (this.swiping) this.setSwipe(at[0] / this.canvas.width);
    else if (this.touches.size === 2) {
      const other = [...this.touches].find(([id]) => id !== event.pointerId)[1];
      const distance = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
      this.zoom(distance(at) / distance(before), other);
    } else this.move(at[0] - before[0], at[1] - before[1]);
    this.touches.set(event.pointerId, at);
  }

  setSwipe(value) {
    this.swipe = Math.min(1, Math.max(0, value));
    if (this.onswipe) this.onswipe(this.swipe);
    this.draw();
  }

  // Names of what is under the pointer: colour is not the only sign.
  hover(at) {
    const x = Math.floor((at[0] - this.x) / this.scale), y = Math.floor((at[1] - this.y) / this.scale);
    if (x < 0 || y < 0 || x >= this.size[1] || y >= this.size[0]) { this.under.textContent = " "; return; }
    const layer = this.layers.length > 1 && at[0] > this.swipe * this.canvas.width ? this.layers[1] : this.layers[0];
    const parts = [`${x}, ${y}`];
    const found = layer && layer.scene;
    for (const [side, word] of [["truth", "truth"], ["predicted", "prediction"]]) {
      if (!found || !found[side] || found.kind === "labels") continue;
      const here = found.kind === "masks"
        ? this.names.filter((_, c) => inside(found[side][c], y * this.size[1] + x))
        : found[side].filter(({ corners: [a, b, c, d] }) => x >= a && x < c && y >= b && y < d).map((box) => this.names[box.class]);
      parts.push(`${word}: ${here.join(", ") || "nothing"}`);
    }
    this.under.textContent = parts.join("  ·  ");
  }
}
