// The page: rooms, keys and what belongs to all of them.

import { json } from "./ask.js";
import { Attempt } from "./attempt.js";
import { Browse } from "./browse.js";
import { by, element } from "./dom.js";
import { Review } from "./review.js";
import { Stage } from "./stage.js";

const KEYS = [
  ["1 2 3", "browse, review, try it"], ["j k", "next and previous image"], ["+ − 0", "zoom in, out, fit"],
  ["arrows", "move the image, once it has the focus"], ["m", "show the next: truth, prediction, both, errors, image"],
  ["[ ]", "move the swipe"], ["/", "search by name"], ["a", "review: accept, the annotation is wrong"],
  ["r", "review: reject, the annotation is right"], ["u", "review: undo the decision"],
  ["Space", "review: next unreviewed"], ["?", "this list"],
];

async function start() {
  const session = await json("/api/session");
  by("data").textContent = session.data;
  const stage = new Stage(session);
  const rooms = { browse: new Browse(session, stage), review: new Review(session, stage), try: new Attempt(session, stage) };
  let room = "";
  const enter = async (name) => {
    if (name === room) return;
    if (rooms[room]?.leave) rooms[room].leave();
    room = name;
    document.body.dataset.room = name;
    for (const button of document.querySelectorAll("nav button")) {
      button.setAttribute("aria-current", button.dataset.room === name ? "page" : "false");
    }
    history.replaceState(null, "", `#${name}`);
    await rooms[name].enter();
  };
  document.querySelectorAll("nav button").forEach((button) => button.addEventListener("click", () => enter(button.dataset.room)));
  for (const [keys, what] of KEYS) {
    const row = element("tr", {}, element("th", { scope: "row" }, keys), element("td", {}, what));
    by("help-keys").append(row);
  }
  by("help-button").addEventListener("click", () => by("help").showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || by("help").open) return;
    const typing = event.target.closest("input:not([type=range]), select, textarea");
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing) return;
    const plain = {
      1: () => enter("browse"), 2: () => enter("review"), 3: () => enter("try"), "?": () => by("help").showModal(),
      "+": () => stage.viewer.zoom(1.3), "=": () => stage.viewer.zoom(1.3), "-": () => stage.viewer.zoom(1 / 1.3),
      0: () => stage.viewer.fit(), m: () => stage.nextMode(),
      "[": () => stage.viewer.setSwipe(stage.viewer.swipe - 0.05), "]": () => stage.viewer.setSwipe(stage.viewer.swipe + 0.05),
    }[event.key];
    const button = event.target.closest("button, summary, a");
    if (plain) plain();
    else if (button && (event.key === " " || event.key === "Enter")) return;
    else if (!rooms[room].key(event.key)) return;
    event.preventDefault();
  });
  await watch(session, stage, rooms);
  await enter({ "#review": "review", "#try": "try" }[location.hash] || "browse");
  document.body.dataset.ready = "true";
}

// Asks for the state of the sources until all are ready, and shows it.
async function watch(session, stage, rooms) {
  const known = new Set();
  const once = async () => {
    const states = await json("/api/state");
    const begun = states.filter((one) => one.state === "waiting" || one.state === "working");
    by("progress").textContent = begun.length
      ? `Evaluating ${begun.map((one) => one.name).join(", ")} …`
      : states.filter((one) => one.state === "failed").map((one) => `${one.name}: ${one.message}`).join("  ·  ");
    for (const one of states) {
      if (one.state !== "ready" || known.has(one.id)) continue;
      known.add(one.id);
      const numbers = await json(`/api/numbers/${one.id}`);
      stage.numbers.set(one.id, { ...one, ...numbers, place: new Map(numbers.images.map((image, k) => [image, k])) });
      for (const room of Object.values(rooms)) room.ready(one.id);
      await stage.refresh();
    }
    if (begun.length) setTimeout(() => once().catch(failed), 700);
  };
  await once();
}

function failed(error) {
  by("progress").textContent = `${error.message}; is phalanx view still running?`;
}

start().catch(failed);
