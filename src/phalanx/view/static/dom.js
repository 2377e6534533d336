// Elements from text: names come from users' files, so nothing here reads HTML.

export const by = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

// A name that may break after its marks.
export const breakable = (text) => element("span", {}, ...text.split(/(?<=[_.,/ -])/).flatMap((part) => [part, element("wbr")]));

export const option = (value, text) => element("option", { value }, text);

export function swatch(colour) {
  const made = element("span", { class: "swatch" });
  made.style.background = colour;
  return made;
}

export const shown = (value, decimals = 4) =>
  value === null || value === undefined ? "–" : Number.isInteger(value) ? String(value) : value.toFixed(decimals);
