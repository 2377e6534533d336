// Masks as pixels: fills, outlines, and errors as hatching. A colour is 0xAABBGGRR.

const MOST = 2048; // side of an overlay

export function packed(colour, alpha) {
  const value = parseInt(colour.slice(1), 16);
  return ((alpha << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

export const WRONG = { extra: "#ff7a00", missed: "#2aa5ff" };

// An overlay of a scene's masks, or null where there is nothing to paint.
export function overlay(scene, mode, colours, shown) {
  const [height, width] = scene.size;
  const step = Math.max(1, Math.ceil(Math.max(height, width) / MOST));
  const w = Math.ceil(width / step), h = Math.ceil(height / step);
  const canvas = document.createElement("canvas");
  canvas.width = w;
  canvas.height = h;
  const context = canvas.getContext("2d");
  const image = context.createImageData(w, h);
  const out = new Uint32Array(image.data.buffer);
  const scratch = new Uint8Array(w * h), other = new Uint8Array(w * h);
  const thick = Math.max(1, Math.round(Math.max(w, h) / 600));
  const spans = (runs, call) => {
    for (let k = 0; k < runs.length; k += 2) {
      for (let start = runs[k]; start < runs[k + 1]; ) {
        const row = Math.floor(start / width), end = Math.min(runs[k + 1], (row + 1) * width);
        if (row % step === 0) {
          const base = (row / step) * w, first = Math.ceil((start - row * width) / step);
          call(base + first, base + Math.floor((end - 1 - row * width) / step) + 1);
        }
        start = end;
      }
    }
  };
  const mark = (runs, into, value) => spans(runs, (a, b) => into.fill(value, a, b));
  const fill = (runs, colour) => spans(runs, (a, b) => {
    for (let i = a; i < b; i++) out[i] = out[i] ? mixed(out[i], colour) : colour;
  });
  const outline = (runs, colour, dashed) => {
    mark(runs, scratch, 1);
    spans(runs, (a, b) => {
      for (let i = a; i < b; i++) {
        const x = i % w;
        const inner = x >= thick && x + thick < w && scratch[i - thick] && scratch[i + thick] &&
          scratch[i - thick * w] && scratch[i + thick * w];
        if (!inner && !(dashed && ((x + Math.floor(i / w)) / (4 * thick) & 1))) out[i] = colour;
      }
    });
    mark(runs, scratch, 0);
  };
  const hatch = (runs, without, colour, way) => {
    mark(without, other, 1);
    spans(runs, (a, b) => {
      for (let i = a; i < b; i++) {
        if (other[i]) continue;
        const along = (i % w) + way * Math.floor(i / w);
        if ((((along % (5 * thick)) + 5 * thick) % (5 * thick)) < 3 * thick) out[i] = colour;
      }
    });
    mark(without, other, 0);
  };
  const none = new Int32Array(0);
  colours.forEach((colour, c) => {
    if (!shown[c]) return;
    const truth = scene.truth ? scene.truth[c] : none, made = scene.predicted ? scene.predicted[c] : none;
    if (mode === "truth") { fill(truth, packed(colour, 160)); outline(truth, packed(colour, 255), false); }
    if (mode === "prediction") { fill(made, packed(colour, 160)); outline(made, packed(colour, 255), true); }
    if (mode === "both") { fill(made, packed(colour, 130)); outline(made, packed(colour, 255), true); }
  });
  colours.forEach((colour, c) => {
    if (!shown[c]) return;
    const truth = scene.truth ? scene.truth[c] : none, made = scene.predicted ? scene.predicted[c] : none;
    if (mode === "both") outline(truth, packed("#ffffff", 255), false);
    if (mode === "errors" && scene.truth && scene.predicted) {
      hatch(made, truth, packed(WRONG.extra, 255), 1);
      hatch(truth, made, packed(WRONG.missed, 255), -1);
    }
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

function mixed(one, two) {
  return (((one >>> 1) & 0x7f7f7f7f) + ((two >>> 1) & 0x7f7f7f7f)) >>> 0;
}

// Grad-CAM as a canvas: transparent where there is none.
export function heatmap(found) {
  const canvas = document.createElement("canvas");
  canvas.width = found.width;
  canvas.height = found.height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(found.width, found.height);
  found.levels.forEach((level, i) => {
    const t = level / 255;
    image.data.set([255, Math.round(255 * Math.max(0, 2 * t - 1)), 30, Math.round(220 * t)], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

// Boxes as vectors in image coordinates. `unit` is the length of a screen pixel there.
export function boxes(context, scene, mode, colours, names, shown, unit) {
  const font = 13 * unit;
  context.font = `600 ${font}px system-ui, sans-serif`;
  context.textBaseline = "bottom";
  const draw = (box, text, style) => {
    const [x0, y0, x1, y1] = box.corners;
    context.lineWidth = (style.thick || 2) * unit;
    for (const [colour, more] of [["#000", 2], [colours[box.class], 0]]) {
      context.strokeStyle = colour;
      context.lineWidth = ((style.thick || 2) + more) * unit;
      context.setLineDash((style.dash || []).map((length) => length * unit));
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
    context.setLineDash([]);
    if (style.cross) {
      context.lineWidth = 2 * unit;
      context.beginPath();
      context.moveTo(x0, y0); context.lineTo(x1, y1);
      context.moveTo(x1, y0); context.lineTo(x0, y1);
      context.stroke();
    }
    const below = style.below, size = context.measureText(text).width + 6 * unit;
    const y = below ? y1 + font + 4 * unit : y0;
    context.fillStyle = "rgba(0,0,0,.78)";
    context.fillRect(x0, y - font - 4 * unit, size, font + 4 * unit);
    context.fillStyle = "#fff";
    context.fillText(text, x0 + 3 * unit, y - unit);
  };
  if (scene.truth && mode !== "prediction") {
    for (const box of scene.truth) {
      if (!shown[box.class] || (mode === "errors" && !box.missed)) continue;
      const missed = box.missed && mode !== "truth";
      const word = box.ignored ? " (ignored)" : missed ? " missed" : "";
      draw(box, `${names[box.class]}${word}`, missed ? { dash: [2, 4], thick: 4, below: true } : { below: true });
    }
  }
  if (scene.predicted && mode !== "truth") {
    for (const box of scene.predicted) {
      if (!shown[box.class] || (mode === "errors" && box.right)) continue;
      const wrong = scene.matched && !box.right;
      const word = wrong ? " false" : scene.matched ? " matched" : "";
      draw(box, `${names[box.class]} ${box.score.toFixed(2)}${word}`, { dash: [8, 4], cross: wrong });
    }
  }
}
