// The room of all images: filters, order, and figures of the run.

import { by, element, option, shown } from "./dom.js";

const FILTERS = ["filter-name", "filter-patient", "filter-fold", "filter-class", "filter-class-how", "filter-low", "filter-high", "order"];

export class Browse {
  constructor(session, stage) {
    Object.assign(this, { session, stage, at: 0, found: [] });
    const patients = [...new Set(session.images.map((one) => one.patient))].sort();
    const folds = [...new Set(session.images.map((one) => one.fold).filter((fold) => fold !== null))].sort((a, b) => a - b);
    const splits = [...new Set(session.images.map((one) => one.split))];
    by("filter-patient").append(option("", "all"), ...patients.map((name) => option(name, name)));
    by("filter-fold").append(option("", "all"), ...folds.map((fold) => option(`fold ${fold}`, `fold ${fold}`)), ...splits.map((name) => option(name, name)));
    by("filter-class").append(option("", "all"), ...session.classes.map((one, c) => option(String(c), one.name)));
    FILTERS.forEach((id) => by(id).addEventListener("input", () => this.list()));
    by("source-a").addEventListener("change", () => { this.attributes(); this.list(); this.table(); });
    by("filter-clear").addEventListener("click", () => this.clear());
    if (window.matchMedia("(max-width: 700px)").matches) by("filters").open = false;
    this.attributes();
    this.table();
  }

  clear() {
    by("filters").querySelectorAll("input").forEach((input) => { input.value = ""; });
    by("filters").querySelectorAll("select").forEach((select) => { select.selectedIndex = 0; });
    this.list();
  }

  get numbers() { return this.stage.numbers.get(by("source-a").value); }

  ready(id) {
    if (id !== by("source-a").value) return;
    this.attributes();
    this.table();
    if (document.body.dataset.room === "browse") this.list();
  }

  // Filters by what only a scored run knows are there with one.
  attributes() {
    const scored = Boolean(this.numbers && this.numbers.per_image);
    document.querySelectorAll("#filters .by-run").forEach((one) => { one.hidden = !scored; });
    const found = (this.numbers && this.numbers.attributes) || {};
    by("filter-attributes").replaceChildren(...Object.entries(found).map(([name, values]) => {
      const select = element("select", { "data-attribute": name }, option("", "all"), ...[...new Set(values)].sort().map((text) => option(text, text)));
      select.addEventListener("input", () => this.list());
      return element("label", {}, name, " ", select);
    }));
  }

  enter() {
    this.list();
    return this.open(this.at);
  }

  value(image, place) {
    const { numbers } = this, at = place.get(image.id);
    if (!numbers || !numbers.per_image || at === undefined) return null;
    const c = by("filter-class").value;
    return c === "" ? numbers.per_image[at] : numbers.per_class[at][Number(c)];
  }

  list() {
    const { numbers } = this, open = this.found[this.at];
    const place = new Map((numbers ? numbers.images : []).map((id, k) => [id, k]));
    const name = by("filter-name").value.toLowerCase(), c = by("filter-class").value, how = by("filter-class-how").value;
    const low = by("filter-low").value, high = by("filter-high").value, fold = by("filter-fold").value, patient = by("filter-patient").value;
    const wanted = [...by("filter-attributes").querySelectorAll("select")].filter((select) => select.value);
    this.found = this.session.images.filter((image) => {
      const at = place.get(image.id), value = this.value(image, place);
      if (name && !image.name.toLowerCase().includes(name)) return false;
      if (patient && image.patient !== patient) return false;
      if (fold && fold !== `fold ${image.fold}` && fold !== image.split) return false;
      if (c && (at === undefined || !numbers[how] || !numbers[how][at].includes(Number(c)))) return false;
      if ((low || high) && value === null) return false;
      if ((low && value < Number(low)) || (high && value > Number(high))) return false;
      return wanted.every((select) => at !== undefined && numbers.attributes[select.dataset.attribute][at] === select.value);
    });
    const order = by("order").value;
    if (order !== "name") {
      const key = (image) => { const value = this.value(image, place); return value === null ? Infinity : order === "worst" ? value : -value; };
      this.found.sort((a, b) => key(a) - key(b) || 0);
    }
    by("count").textContent = `${this.found.length} of ${this.session.images.length} images`;
    by("list").replaceChildren(...this.found.map((image, k) => {
      const value = this.value(image, place);
      const button = element("button", { type: "button", "data-id": image.id }, element("span", { class: "what" }, image.name), element("span", { class: "score" }, numbers ? shown(value) : ""));
      button.addEventListener("click", () => this.open(k));
      return element("li", {}, button);
    }));
    this.at = Math.max(0, this.found.indexOf(open));
    this.mark();
  }

  mark() {
    by("list").querySelectorAll("[aria-current]").forEach((one) => one.removeAttribute("aria-current"));
    const button = by("list").children[this.at]?.firstChild;
    if (!button) return;
    button.setAttribute("aria-current", "true");
    if (document.body.dataset.ready) button.scrollIntoView({ block: "nearest" });
  }

  async open(k) {
    if (!this.found[k]) return;
    const way = k < this.at ? -1 : 1;
    this.at = k;
    this.mark();
    const opened = this.stage.open(this.found[k]);
    this.stage.prefetch([k + way, k + 2 * way, k - way, k + 3 * way].map((at) => ({ image: this.found[at] })));
    await opened;
  }

  table() {
    const { numbers } = this;
    by("whole").hidden = !numbers || !numbers.table;
    if (!numbers || !numbers.table) return;
    const spread = numbers.interval ? ` (95% ${shown(numbers.interval[0], numbers.decimals)} to ${shown(numbers.interval[1], numbers.decimals)})` : "";
    const value = element("p", { id: "metric" }, `${numbers.metric} ${shown(numbers.value, numbers.decimals)}${spread}; counts in ${numbers.unit}`);
    const rows = numbers.table.map((row) => element("tr", {}, element("th", { scope: "row" }, row[0]), ...row.slice(1).map((cell) => element("td", {}, shown(cell)))));
    by("whole-table").replaceChildren(value, element("table", {}, element("thead", {}, element("tr", {}, ...numbers.columns.map((name) => element("th", { scope: "col" }, name)))), element("tbody", {}, ...rows)));
  }

  key(key) {
    const step = { j: 1, k: -1, n: 1, p: -1 }[key];
    if (key === "/") by("filter-name").focus();
    else if (step) this.open(this.at + step);
    else return false;
    return true;
  }
}
