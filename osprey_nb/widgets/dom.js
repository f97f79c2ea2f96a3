// Small helpers to build elements. Text is always set as text, never parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = { // our own line drawings on a 20×20 grid
  brush: "M17 3 8.6 11.2M8.6 11.2c-2.4-.6-4 .8-4.3 2.9-.1 1-.6 1.7-1.6 2 2.6 1.5 7.7 1 7.6-2.6 0-1-.7-1.9-1.7-2.3Z",
  erase: "m11.5 4 4.8 4.8-7 7H6.2L3 12.6 11.5 4ZM7.4 8.2l4.7 4.7M9.5 16.6H17",
  box: "M4 5h12v10H4Z",
  polygon: "M4 8.4 11 3.6l5.4 5-2.2 7.6-8.6-1.4Z",
  point: "M10 2.8v3.4M10 13.8v3.4M2.8 10h3.4M13.8 10h3.4M10 7.6a2.4 2.4 0 1 0 0 4.8 2.4 2.4 0 0 0 0-4.8Z",
  invert: "M10 3.2a6.8 6.8 0 1 0 0 13.6V3.2ZM10 3.2a6.8 6.8 0 0 1 0 13.6",
  help: "M7.3 7.4c.2-1.6 1.3-2.6 2.8-2.6 1.6 0 2.8 1 2.8 2.5 0 2.2-2.8 2.4-2.8 4.5M10.1 15v.2",
  add: "M10 4.5v11M4.5 10h11",
  cut: "M4.5 10h11",
  undo: "M7.5 4.5 4 8l3.5 3.5M4.4 8h7.2a4.2 4.2 0 0 1 0 8.4H8",
  redo: "M12.5 4.5 16 8l-3.5 3.5M15.6 8H8.4a4.2 4.2 0 0 0 0 8.4H12",
  fill: "M10 3.2c3 3.7 4.6 6 4.6 8.2a4.6 4.6 0 0 1-9.2 0C5.4 9.2 7 6.9 10 3.2ZM7.8 11.6c.1 1.3.9 2.2 2.2 2.4",
  clear: "M4.5 6h11M8 6V4h4v2M6 6l.7 10.2h6.6L14 6M8.7 8.8v4.6M11.3 8.8v4.6",
};

/** An element with properties and children. */
export function element(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

export function svg(tag, props, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function icon(name) {
  return svg("svg", { viewBox: "0 0 20 20", class: "osprey-icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** CSS variables of a region's colour, and of the ink that is readable on it. */
export function regionStyle(hex) {
  const rgb = parseInt(hex.slice(1), 16);
  const light = 0.299 * (rgb >> 16) + 0.587 * ((rgb >> 8) & 255) + 0.114 * (rgb & 255) > 153;
  return `--region:${hex};--on-region:${light ? "#1c2430" : "#ffffff"}`;
}
