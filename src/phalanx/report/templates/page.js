"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const say = (text) => { $("status").textContent = text; };

  // tables: a click on a heading sorts, numbers that are missing come last
  for (const button of document.querySelectorAll("button.sort")) {
    button.addEventListener("click", () => {
      const heading = button.closest("th"), table = heading.closest("table"), body = table.tBodies[0];
      const column = heading.cellIndex, numeric = heading.classList.contains("number");
      const before = heading.getAttribute("aria-sort");
      const up = before ? before === "descending" : !numeric;
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => {
        const cell = row.cells[column];
        if (!numeric) return cell.textContent;
        return cell.dataset.sort === "" ? NaN : Number(cell.dataset.sort);
      };
      const rows = [...body.rows].map((row) => [value(row), row]);
      rows.sort(([a], [b]) => {
        if (!numeric) return (up ? 1 : -1) * a.localeCompare(b, "en", { numeric: true });
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return (up ? 1 : -1) * (a - b);
      });
      body.append(...rows.map(([, row]) => row));
      say(`sorted by ${button.textContent}, ${up ? "ascending" : "descending"}`);
    });
  }
  for (const input of document.querySelectorAll("input[data-table]")) {
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase(), name = input.dataset.table;
      let shown = 0;
      const rows = $(`table-${name}`).tBodies[0].rows;
      for (const row of rows) {
        row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
        shown += !row.hidden;
      }
      document.querySelector(`[data-count="${name}"]`).textContent =
        wanted ? `${shown} of ${rows.length} rows` : `${rows.length} rows`;
    });
  }

  // galleries
  for (const gallery of document.querySelectorAll(".gallery")) {
    const form = gallery.querySelector("form"), list = gallery.querySelector(".tiles");
    if (!form) continue;
    const items = [...list.children].map((node) => ({
      node, name: node.dataset.name, value: node.dataset.value === "" ? NaN : Number(node.dataset.value),
      classes: new Set(JSON.parse(node.dataset.classes)), wrong: new Set(JSON.parse(node.dataset.wrong)),
      attributes: JSON.parse(node.dataset.attributes),
    }));
    const selects = [...form.querySelectorAll("select[data-filter]")];
    const apply = () => {
      const text = form.elements.text.value.trim().toLowerCase();
      const label = form.elements.class ? form.elements.class.value : "";
      const wrong = form.elements.wrong ? form.elements.wrong.checked : false;
      let shown = 0;
      for (const one of items) {
        const classes = wrong ? one.wrong : one.classes;
        one.node.hidden = !(
          (!text || one.name.toLowerCase().includes(text)) &&
          selects.every((select) => !select.value || one.attributes[select.dataset.filter] === select.value) &&
          (label ? classes.has(label) : !wrong || one.wrong.size > 0)
        );
        shown += !one.node.hidden;
      }
      const order = form.elements.order.value, sign = order === "best" ? -1 : 1;
      items.sort((a, b) => {
        if (order === "name") return a.name.localeCompare(b.name, "en", { numeric: true });
        if (Number.isNaN(a.value) || Number.isNaN(b.value)) return Number.isNaN(a.value) - Number.isNaN(b.value);
        return sign * (a.value - b.value);
      });
      list.append(...items.map((one) => one.node));
      form.elements.count.textContent =
        shown === items.length ? `${shown} images` : `${shown} of ${items.length} images`;
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply(); // a browser may have kept what was chosen before
  }

  // the viewer
  const viewer = $("viewer"), stage = $("viewer-stage"), picture = $("viewer-image");
  let group = [], place = 0, zoom = 1, x = 0, y = 0;
  const twin = (name) => // the picture is in the page once, at the first of its tiles
    [...document.querySelectorAll(".tile[data-full]")].find((one) => one.dataset.name === name);
  const source = (button) => {
    const holder = "elsewhere" in button.dataset ? twin(button.dataset.name) : button;
    return holder?.dataset.full || button.querySelector("img").src;
  };
  const draw = () => {
    const wide = (picture.clientWidth * (zoom - 1)) / 2, high = (picture.clientHeight * (zoom - 1)) / 2;
    x = Math.min(wide, Math.max(-wide, x));
    y = Math.min(high, Math.max(-high, y));
    picture.style.transform = `translate(${x}px, ${y}px) scale(${zoom})`;
    $("viewer-zoom").textContent = `${Math.round(100 * zoom)}%`;
  };
  const magnify = (factor) => {
    const next = Math.min(12, Math.max(1, zoom * factor));
    x *= next / zoom;
    y *= next / zoom;
    zoom = next;
    draw();
  };
  const show = () => {
    const button = group[place];
    zoom = 1; x = 0; y = 0;
    picture.src = source(button);
    picture.alt = button.dataset.about || button.dataset.name;
    $("viewer-title").textContent = button.dataset.name;
    $("viewer-about").textContent = button.dataset.about;
    draw();
  };
  const open = (button) => {
    const around = button.closest(".tiles") || button.closest("section");
    group = [...around.querySelectorAll("button.tile:not(:disabled), button.enlarge")].filter(
      (one) => !one.closest("[hidden]"));
    if (!group.includes(button)) group = [button];
    place = group.indexOf(button);
    viewer.showModal();
    show();
    stage.focus();
  };
  const step = (by) => { place = (place + by + group.length) % group.length; show(); };
  const move = (right, down) => { x -= 60 * right; y -= 60 * down; draw(); };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.matches(".tile, .enlarge")) open(button);
    if (button.matches("[data-open]")) {
      const found = [...document.querySelectorAll(".tile:not(:disabled)")].find(
        (one) => one.dataset.name === button.dataset.open);
      if (found) open(found);
      else say("the page has no picture of it");
    }
  });
  const acts = {
    previous: () => step(-1), next: () => step(1), in: () => magnify(1.5), out: () => magnify(1 / 1.5),
    fit: () => { zoom = 1; x = 0; y = 0; draw(); }, close: () => viewer.close(),
  };
  viewer.querySelector(".viewer-buttons").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) acts[button.dataset.act]();
  });
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => group[place] && group[place].focus());
  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const zoomed = zoom > 1.001;
    const keys = {
      "+": acts.in, "=": acts.in, "-": acts.out, "0": acts.fit,
      ArrowLeft: () => (zoomed ? move(-1, 0) : step(-1)), ArrowRight: () => (zoomed ? move(1, 0) : step(1)),
      ArrowUp: () => move(0, -1), ArrowDown: () => move(0, 1),
      PageUp: () => step(-1), PageDown: () => step(1), n: () => step(1), p: () => step(-1),
    };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    magnify(event.deltaY < 0 ? 1.2 : 1 / 1.2);
  }, { passive: false });
  let drag = null;
  stage.addEventListener("pointerdown", (event) => {
    drag = [event.clientX - x, event.clientY - y];
    stage.setPointerCapture(event.pointerId);
    event.preventDefault();
    stage.focus();
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    x = event.clientX - drag[0];
    y = event.clientY - drag[1];
    draw();
  });
  stage.addEventListener("pointerup", () => { drag = null; });
  stage.addEventListener("pointercancel", () => { drag = null; });
  stage.addEventListener("dblclick", () => (zoom > 1.001 ? acts.fit() : magnify(3)));
})();
