// The room of annotations in doubt: a decision by one key, saved before the next one is shown.

import { json, send } from "./ask.js";
import { by, element } from "./dom.js";

const WORDS = { accept: "accepted as wrong", reject: "rejected: right" };
const SIGNS = { accept: "✗", reject: "✓" };

export class Review {
  constructor(session, stage) {
    Object.assign(this, { session, stage, at: 0, doubts: [], verdicts: {}, history: [], decisions: 0 });
    by("accept").addEventListener("click", () => this.decide("accept"));
    by("reject").addEventListener("click", () => this.decide("reject"));
    by("undo").addEventListener("click", () => this.undo());
    by("unreviewed").addEventListener("click", () => this.next());
    by("quarantine").addEventListener("click", () => this.write());
  }

  // A run may bring the first annotations, or the box to look at. The place in the list stays.
  async ready() {
    if (document.body.dataset.room === "review") await (this.doubts.length ? this.open(this.at) : this.enter());
  }

  async enter() {
    this.before ||= this.stage.viewer.shown.flatMap((on, c) => (on ? [c] : []));
    let found, decisions;
    do { // an answer from before a decision would take it back
      await this.saving;
      decisions = this.decisions;
      found = await json("/api/review");
    } while (decisions !== this.decisions);
    if (document.body.dataset.room !== "review") return; // another room was entered meanwhile
    Object.assign(this, { doubts: found.doubts, verdicts: found.verdicts, files: found });
    this.list();
    const first = this.doubts.findIndex((one) => !this.verdicts[one.id]);
    await this.open(Math.max(0, first));
  }

  list() {
    by("doubts").replaceChildren(...this.doubts.map((one, k) => {
      const image = this.stage.images.get(one.image), verdict = this.verdicts[one.id];
      const button = element("button", { type: "button" }, element("span", { class: "what" }, image.name, element("span", { class: "small" }, one.reason)),
        element("span", { class: "score" }, verdict ? `${SIGNS[verdict]} ${verdict}` : ""));
      button.addEventListener("click", () => this.open(k));
      return element("li", {}, button);
    }));
    this.count();
  }

  count() {
    const done = this.doubts.filter((one) => this.verdicts[one.id]).length;
    by("count").textContent = this.doubts.length ? `${done} of ${this.doubts.length} reviewed` : "No annotation is in doubt: name a CSV with suspects=, or wait for the evaluation.";
  }

  async open(k) {
    const one = this.doubts[k];
    for (const id of ["accept", "reject", "undo", "unreviewed"]) by(id).disabled = !one;
    if (!one) return;
    this.at = k;
    by("doubts").querySelectorAll("[aria-current]").forEach((button) => button.removeAttribute("aria-current"));
    const button = by("doubts").children[k].firstChild;
    button.setAttribute("aria-current", "true");
    button.scrollIntoView({ block: "nearest" });
    const verdict = this.verdicts[one.id];
    by("doubt").textContent = `${k + 1} of ${this.doubts.length}: ${one.reason}${verdict ? ` (${WORDS[verdict]})` : ""}`;
    const opened = this.stage.open(this.stage.images.get(one.image), one.cells, this.focus(one));
    this.stage.prefetch([k + 1, k - 1].map((at) => this.doubts[at]).filter(Boolean).map((next) => ({
      image: this.stage.images.get(next.image), focus: this.focus(next),
    })));
    await opened;
  }

  // What to look at: of a list that names classes.
  focus(one) { return this.doubts.some(({ classes }) => classes.length) ? one : null; }

  // The classes as they were before annotations chose them.
  leave() {
    this.stage.legend.show(this.before);
    this.before = null;
  }

  // Whether it is saved. While one decision is, keys decide nothing.
  async save(k, verdict) {
    if (this.saving || !this.doubts[k]) return false;
    this.decisions++;
    this.saving = this.send(k, verdict);
    try {
      return await this.saving;
    } finally {
      this.saving = null;
    }
  }

  async send(k, verdict) {
    const one = this.doubts[k];
    try {
      await send("/api/decide", JSON.stringify({ suspect: one.id, verdict }));
    } catch (error) {
      by("decided").textContent = `Not saved: ${error.message}`;
      return false;
    }
    if (verdict === "undo") delete this.verdicts[one.id];
    else this.verdicts[one.id] = verdict;
    by("doubts").children[k].querySelector(".score").textContent = verdict === "undo" ? "" : `${SIGNS[verdict]} ${verdict}`;
    by("decided").textContent = `Saved in ${this.files.file}: ${verdict}`;
    this.count();
    return true;
  }

  async decide(verdict) {
    const k = this.at;
    if (!(await this.save(k, verdict))) return;
    this.history.push(k);
    await this.next();
  }

  // Of the last decision, or of the one that is open after the page was loaded again.
  async undo() {
    const last = this.history.length - 1, k = last < 0 ? this.at : this.history[last];
    if (!this.doubts[k] || !this.verdicts[this.doubts[k].id] || !(await this.save(k, "undo"))) return;
    this.history.length = Math.max(0, last);
    await this.open(k);
  }

  next() {
    const order = this.doubts.map((_, k) => (this.at + 1 + k) % this.doubts.length);
    const k = order.find((each) => !this.verdicts[this.doubts[each].id]);
    if (k !== undefined) return this.open(k);
    by("decided").textContent = "All are reviewed.";
    return this.open(this.at);
  }

  async write() {
    try {
      const { count, file } = await send("/api/quarantine", "");
      by("decided").textContent = `${count} image(s) in ${file}; train with data.quarantine=${file}`;
    } catch (error) {
      by("decided").textContent = `Not written: ${error.message}`;
    }
  }

  key(key) {
    const call = {
      a: () => this.decide("accept"), r: () => this.decide("reject"), u: () => this.undo(), " ": () => this.next(),
      n: () => this.next(), j: () => this.open(Math.min(this.at + 1, this.doubts.length - 1)),
      k: () => this.open(Math.max(0, this.at - 1)),
    }[key];
    if (call) call();
    return Boolean(call);
  }
}
