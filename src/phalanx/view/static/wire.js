// Reads what wire.py writes.

export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { header, content: new Uint8Array(buffer, 4 + length) };
}

// Per class an Int32Array of first pixel and pixel after the last, in turn.
function readRuns(bytes, place, counts) {
  const classes = counts.map((count) => {
    const runs = new Int32Array(2 * count);
    let at = 0;
    for (let k = 0; k < 2 * count; k++) {
      let value = 0, scale = 1, byte;
      do {
        byte = bytes[place.at++];
        value += (byte & 127) * scale;
        scale *= 128;
      } while (byte > 127);
      at += value;
      runs[k] = at;
    }
    return runs;
  });
  return classes;
}

export function scene(buffer) {
  const { header, content } = unpack(buffer);
  if (header.kind === "masks") {
    const place = { at: 0 };
    for (const side of ["truth", "predicted"]) {
      if (header[side]) header[side] = readRuns(content, place, header[side]);
    }
  }
  return header;
}

export function heat(buffer) {
  const { header, content } = unpack(buffer);
  return { height: header.size[0], width: header.size[1], max: header.max, levels: content };
}

// Whether a pixel is in the runs of a class.
export function inside(runs, pixel) {
  let low = 0, high = runs.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs[2 * middle + 1] <= pixel) low = middle + 1;
    else high = middle;
  }
  return low < runs.length / 2 && runs[2 * low] <= pixel;
}
