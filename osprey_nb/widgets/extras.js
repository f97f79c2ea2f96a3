// What stands around the drawing: the card of keys, and files out of the browser and into it.

import { element } from "./dom.js";
import { cocoOf } from "./geometry.mjs";

const KEYS = [
  ["B  E", "brush, eraser"], ["R  P", "box; polygon and lasso (Enter closes)"],
  ["S", "clicks for the segmenter; drag a box. With Shift or the right button: not this. Enter takes"],
  ["1 … 9", "choose the region"], ["[  ]", "smaller, larger brush"], ["X", "shapes add, or cut"],
  ["F  I", "fill the holes of the region; invert it"], ["Del", "clear the region"],
  ["Ctrl Z", "undo; with Shift: redo"], ["+  −  0", "zoom in, out, whole picture (also Ctrl and wheel)"],
  ["Space", "hold and drag to move the picture (also the middle button)"],
  ["Two fingers", "zoom and move; after a pen has drawn, one finger moves too"],
  ["Arrows", "move the point; Enter draws at it, Shift goes further"], ["Esc", "give up what is open"], ["?", "this card"],
];

/** The card of keys: `toggle()` shows and hides it. */
export function helpCard(done) {
  const close = element("button", {
    type: "button", class: "osprey-button osprey-text", text: "Close", "data-testid": "help-close", onclick: () => card.toggle(false),
  });
  const rows = KEYS.flatMap(([keys, words]) => [
    element("dt", {}, ...keys.split("  ").map((key) => element("kbd", { text: key }))), element("dd", { text: words })]);
  const node = element("div", { class: "osprey-help", role: "dialog", "aria-label": "Keys", "data-testid": "help" },
    element("div", { class: "osprey-head" }, element("div", { class: "osprey-help-title", text: "Keys" }), element("span", { class: "osprey-end" }, close)),
    element("dl", {}, ...rows));
  node.hidden = true;
  const card = {
    node,
    get open() { return !node.hidden; },
    toggle(open = node.hidden) {
      node.hidden = !open;
      if (open) close.focus({ preventScroll: true });
      else done();
    },
  };
  return card;
}

export function download(name, parts, type) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  const link = element("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

/** Save what is drawn from the browser alone: this works when the kernel is gone. */
export function saveJson(store) {
  download("regions.json", [JSON.stringify(cocoOf(store.labels, store.width, store.height, store.names))], "application/json");
}

/** The label map as PNG: grey values 0 to 9, opaque, so that no browser changes them. */
export function savePng(store) {
  const canvas = element("canvas", { width: store.width, height: store.height });
  const context = canvas.getContext("2d");
  const data = context.createImageData(store.width, store.height);
  new Uint32Array(data.data.buffer).set(Uint32Array.from(store.labels, (label) => 0xff000000 | (label * 0x010101)));
  context.putImageData(data, 0, 0);
  canvas.toBlob((blob) => download("regions.png", [blob], "image/png"), "image/png");
}

/** A button that lets a file be chosen, and sends its bytes to Python. */
export function openButton(model, label, kind, accept, most = 64) {
  const input = element("input", {
    type: "file", accept, hidden: true, "aria-label": label, "data-testid": `file-${kind}`, onchange: async () => {
      const [file] = input.files;
      input.value = "";
      if (!file) return;
      if (file.size > most * 1e6) model.set("_notice", `${file.name} has ${Math.round(file.size / 1e6)} MB; ${most} are taken at most.`);
      else model.send({ kind, name: file.name }, undefined, [await file.arrayBuffer()]);
    },
  });
  const button = element("button", {
    type: "button", class: "osprey-button osprey-text", text: label, "data-testid": `open-${kind}`, onclick: () => input.click(),
  });
  return [input, button];
}
