// Masks as pixels: fills, outlines, and errors as hatching. A colour is 0xAABBGGRR.

import { WRONG, packed } from "./paint.js";

const MOST = 2048; // side of an overlay
const NONE = new Int32Array(0);

// The pixels of one overlay after the other. After some classes were switched, only what is around them is painted.
export class Board {
  constructor(size) {
    [this.height, this.width] = size; // of the image
    this.step = Math.max(1, Math.ceil(Math.max(...size) / MOST));
    this.w = Math.ceil(this.width / this.step);
    this.h = Math.ceil(this.height / this.step);
    this.thick = Math.max(1, Math.round(Math.max(this.w, this.h) / 600));
    this.canvas = new OffscreenCanvas(this.w, this.h);
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.image = this.context.createImageData(this.w, this.h);
    this.out = new Uint32Array(this.image.data.buffer);
    this.scratch = new Uint8Array(this.w * this.h);
    this.other = new Uint8Array(this.w * this.h);
    this.key = null;
  }

  // Paints a scene's masks: { bitmap, place: [x, y, width, height] as parts of the image }, or null if none is there.
  async paint(key, scene, mode, colours, shown) {
    const boxes = colours.map((_, c) => union([this.box(side(scene, "truth", c)), this.box(side(scene, "predicted", c))]));
    const whole = [0, 0, this.w, this.h], again = this.key === `${mode} ${key}`;
    const some = again ? union(boxes.filter((_, c) => shown[c] !== this.shown[c])) : whole;
    if (some) this.repaint(scene, mode, colours, shown, boxes, some);
    this.key = `${mode} ${key}`;
    this.shown = [...shown];
    const all = union(boxes);
    if (!all) return null;
    const [x, y, width, height] = [all[0], all[1], all[2] - all[0], all[3] - all[1]];
    const bitmap = await createImageBitmap(this.canvas, x, y, width, height);
    return { bitmap, place: [x / this.w, y / this.h, width / this.w, height / this.h] };
  }

  repaint(scene, mode, colours, shown, boxes, frame) {
    this.frame = frame;
    const [x0, y0, x1, y1] = frame, { thick } = this;
    this.around = [Math.max(0, x0 - thick), Math.max(0, y0 - thick), Math.min(this.w, x1 + thick), Math.min(this.h, y1 + thick)];
    for (let y = y0; y < y1; y++) this.out.fill(0, y * this.w + x0, y * this.w + x1);
    const there = colours.map((_, c) => c).filter((c) => shown[c] && boxes[c] && meet(boxes[c], frame));
    for (const c of there) {
      const truth = side(scene, "truth", c), made = side(scene, "predicted", c);
      if (mode === "truth") { this.fill(truth, packed(colours[c], 160)); this.outline(truth, packed(colours[c], 255), false); }
      if (mode === "prediction") { this.fill(made, packed(colours[c], 160)); this.outline(made, packed(colours[c], 255), true); }
      if (mode === "both") { this.fill(made, packed(colours[c], 130)); this.outline(made, packed(colours[c], 255), true); }
    }
    for (const c of there) {
      const truth = side(scene, "truth", c), made = side(scene, "predicted", c);
      if (mode === "both") this.outline(truth, packed("#ffffff", 255), false);
      if (mode === "errors" && scene.truth && scene.predicted) {
        this.hatch(made, truth, packed(WRONG.extra, 255), 1);
        this.hatch(truth, made, packed(WRONG.missed, 255), -1);
      }
    }
    this.context.putImageData(this.image, 0, 0, x0, y0, x1 - x0, y1 - y0);
  }

  // Calls with first, pixel after the last, and row of each piece of the runs within a frame.
  spans(runs, [x0, y0, x1, y1], call) {
    const { step, w, width } = this;
    for (let k = 2 * first(runs, y0 * step * width); k < runs.length; k += 2) {
      for (let start = runs[k]; start < runs[k + 1]; ) {
        const row = Math.floor(start / width), end = Math.min(runs[k + 1], (row + 1) * width), y = row / step;
        if (y >= y1) return;
        if (row % step === 0 && y >= y0) {
          const a = Math.max(x0, Math.ceil((start - row * width) / step));
          const b = Math.min(x1, Math.floor((end - 1 - row * width) / step) + 1);
          if (b > a) call(y * w + a, y * w + b, y);
        }
        start = end;
      }
    }
  }

  // [x0, y0, x1, y1] around the runs; null without any.
  box(runs) {
    if (!runs.length) return null;
    const found = [this.w, this.h, 0, 0], { w } = this;
    this.spans(runs, [0, 0, this.w, this.h], (a, b, y) => {
      found[0] = Math.min(found[0], a - y * w);
      found[1] = Math.min(found[1], y);
      found[2] = Math.max(found[2], b - y * w);
      found[3] = Math.max(found[3], y + 1);
    });
    return found[2] > found[0] ? found : null;
  }

  fill(runs, colour) {
    const { out } = this;
    this.spans(runs, this.frame, (a, b) => {
      for (let i = a; i < b; i++) out[i] = out[i] ? mixed(out[i], colour) : colour;
    });
  }

  mark(runs, into, value) {
    this.spans(runs, this.around, (a, b) => into.fill(value, a, b));
  }

  outline(runs, colour, dashed) {
    const { out, scratch, thick, w } = this, down = thick * w, dash = 4 * thick;
    this.mark(runs, scratch, 1);
    this.spans(runs, this.frame, (a, b, y) => {
      for (let i = a, x = a - y * w; i < b; i++, x++) {
        if (x >= thick && x + thick < w && scratch[i - down] && scratch[i + down] && scratch[i - thick] && scratch[i + thick]) continue;
        if (!(dashed && ((x + y) / dash & 1))) out[i] = colour;
      }
    });
    this.mark(runs, scratch, 0);
  }

  hatch(runs, without, colour, way) {
    const { out, other, thick, w } = this, period = 5 * thick;
    this.mark(without, other, 1);
    this.spans(runs, this.frame, (a, b, y) => {
      for (let i = a, x = a - y * w; i < b; i++, x++) {
        if (!other[i] && (((x + way * y) % period) + period) % period < 3 * thick) out[i] = colour;
      }
    });
    this.mark(without, other, 0);
  }
}

const side = (scene, name, c) => (scene[name] ? scene[name][c] : NONE);

const meet = (one, other) => one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];

function union(boxes) {
  const there = boxes.filter(Boolean);
  if (!there.length) return null;
  return [0, 1, 2, 3].map((k) => (k < 2 ? Math.min : Math.max)(...there.map((box) => box[k])));
}

// Number of the first run that ends after a pixel.
function first(runs, pixel) {
  let low = 0, high = runs.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs[2 * middle + 1] <= pixel) low = middle + 1;
    else high = middle;
  }
  return low;
}

function mixed(one, two) {
  return (((one >>> 1) & 0x7f7f7f7f) + ((two >>> 1) & 0x7f7f7f7f)) >>> 0;
}
