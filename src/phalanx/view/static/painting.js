// The worker that paints: one overlay after the other, so that the page stays smooth.

import { Board } from "./board.js";

let board = null, last = Promise.resolve();

function paint({ key, scene, mode, colours, shown }) {
  if (!board || board.height !== scene.size[0] || board.width !== scene.size[1]) board = new Board(scene.size);
  return board.paint(key, scene, mode, colours, shown);
}

addEventListener("message", ({ data }) => {
  last = last.then(() => paint(data)).then(
    (made) => postMessage({ ticket: data.ticket, made }, made ? [made.bitmap] : []),
    (error) => postMessage({ ticket: data.ticket, error: String(error) }),
  );
});
