// Colours, heat maps and boxes. A colour of pixels is 0xAABBGGRR.

export function packed(colour, alpha) {
  const value = parseInt(colour.slice(1), 16);
  return ((alpha << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

export const WRONG = { extra: "#ff7a00", missed: "#2aa5ff" };

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
//   Names that would cover another are left out: the pointer shows them.
export function boxes(context, scene, mode, colours, names, shown, unit) {
  const texts = [];
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
    texts.push([text, x0, style.below ? y1 : y0 - font - 4 * unit]);
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
  const taken = [];
  for (const [text, x, y] of texts) {
    const here = [x, y, x + context.measureText(text).width + 6 * unit, y + font + 4 * unit];
    if (taken.some((other) => here[0] < other[2] && other[0] < here[2] && here[1] < other[3] && other[1] < here[3])) continue;
    taken.push(here);
    context.fillStyle = "rgba(0,0,0,.78)";
    context.fillRect(x, y, here[2] - x, here[3] - y);
    context.fillStyle = "#fff";
    context.fillText(text, x + 3 * unit, here[3] - unit);
  }
}
