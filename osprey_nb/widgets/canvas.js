// The drawing canvas in the browser: a plain ES module for anywidget, no build step.
//
// `mountCanvas` builds one view: toolbar, stage, region bar, status line.
// A stroke touches the label map and the overlay only. When it ends, the map goes to Python, once.

import { candidateBar, Clicks } from "./clicks.js";
import { element, icon, regionStyle } from "./dom.js";
import { helpCard, openButton, saveJson, savePng } from "./extras.js";
import { boxSpans, brushSpans, holeSpans, polygonSpans, zoomAt } from "./geometry.mjs";
import { Screen } from "./screen.js";
import { Store } from "./store.js";

const ROOM_FOR_TOOLS = 600; // a narrow picture keeps its toolbar on one line
const ARROWS = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };
const TOOLS = [
  ["brush", "Brush", "B", "Drag to paint"],
  ["erase", "Eraser", "E", "Drag to erase"],
  ["box", "Box (rectangle)", "R", "Drag from corner to corner"],
  ["polygon", "Polygon and lasso", "P", "Click corners, or drag a lasso; Enter or the first corner closes, Esc cancels"],
  ["point", "Click for the segmenter", "S", "Click on a thing, or drag a box around it; Shift and click: not this"],
];

/**
 * One view of the canvas inside `host`, as wide as `room` less `inset` CSS pixels allows. Returns a function that
 * takes it down.
 */
export function mountCanvas(model, store, clicks, host, room, inset) {
  const { width, height } = store;
  const colours = model.get("_colours");
  const largest = Math.max(2, Math.round(Math.max(width, height) / 3));
  const usual = Math.max(1, Math.round(Math.max(width, height) / 22));
  const sizes = { brush: usual, erase: usual }; // each tool keeps its own
  let tool = "brush";
  let cutting = false;
  let draft = null; // an open box or polygon: {a, b} or {points, dragging}
  let last = null; // the last point of a brush stroke
  let pan = null;
  let pressed = null; // where the tool for clicks went down, before it is known whether it is a click or a box
  let pointer = null; // where the mouse is, or where the arrow keys put the point, in image pixels
  let held = null; // the finger, pen or mouse button that draws; a palm beside it does nothing
  let spaceDown = false;
  const fingers = new Map(); // where fingers touch
  let pinch = null; // two of them
  let penSeen = false;

  // ---- the elements
  const button = (name, label, key, action, extra = {}) => element("button", {
    type: "button", class: "osprey-button", title: key ? `${label}  (${key})` : label, "aria-label": label,
    "data-testid": `tool-${name}`, onclick: () => { action(); focus(); }, ...extra,
  }, icon(name));
  const toolButtons = Object.fromEntries(TOOLS.map(([name, label, key]) => [name, button(name, label, key, () => setTool(name))]));
  const addButton = button("add", "Shapes add to the region", "X", () => setCutting(false));
  const cutButton = button("cut", "Shapes cut from the regions", "X", () => setCutting(true));
  const undoButton = button("undo", "Undo", "Ctrl+Z", () => undo());
  const redoButton = button("redo", "Redo", "Ctrl+Shift+Z", () => store.step("redo"));
  const fillButton = button("fill", "Fill the holes of this region", "F", () => fillHoles());
  const clearButton = button("clear", "Clear this region", "Del", () => store.stroke(store.all(), 0, store.region));
  const shapeGroup = element("span", { class: "osprey-group" }, addButton, cutButton);
  const invertButton = button("invert", "Invert this region", "I", () => store.invert(store.region));
  const help = helpCard(() => focus());
  const helpButton = button("help", "Keys", "?", () => help.toggle());
  const candidates = candidateBar(clicks, () => focus());
  const clearAll = element("button", {
    type: "button", class: "osprey-button osprey-text", text: "Clear all", title: "Clear all regions (can be undone)",
    "data-testid": "tool-clear-all", onclick: () => { store.stroke(store.all(), 0); focus(); },
  });
  const sizeInput = element("input", {
    type: "range", min: 1, max: largest, step: 1, "data-testid": "size", "aria-label": "Brush size in image pixels",
    oninput: () => setSize(Number(sizeInput.value)),
  });
  const sizeText = element("output", {});
  const sizeField = element("label", { class: "osprey-field", title: "Size in image pixels  ([ and ])" }, "Size", sizeInput, sizeText);
  const opacityInput = element("input", {
    type: "range", min: 0, max: 100, step: 1, value: Math.round(model.get("opacity") * 100), "data-testid": "opacity",
    "aria-label": "Opacity of the regions", oninput: () => { model.set("opacity", opacityInput.value / 100); model.save_changes(); },
  });
  const zoomText = element("button", {
    type: "button", class: "osprey-button osprey-text", title: "Show the whole image  (0)", "data-testid": "zoom", onclick: () => screen.whole(),
  });
  const zoomButton = (text, label, factor) => element("button", {
    type: "button", class: "osprey-button osprey-text", text, title: label, "aria-label": label,
    onclick: () => screen.zoom(factor),
  });
  const chips = Array.from({ length: store.regions }, (_, i) => element("button", {
    type: "button", class: "osprey-chip", style: regionStyle(colours[i]), text: String(i + 1),
    "data-testid": `region-${i + 1}`, onclick: () => store.select(i + 1),
  }));
  const nameInput = element("input", {
    type: "text", class: "osprey-box osprey-name", maxlength: 60, "data-testid": "name", placeholder: "name it",
    onchange: () => store.rename(store.region, nameInput.value.trim()), onkeydown: (event) => {
      event.stopPropagation(); // letters are text here, no shortcuts
      if (event.key === "Enter") focus();
    },
  });
  const textButton = (name, text, title, act) => element("button", {
    type: "button", class: "osprey-button osprey-text", text, title, "data-testid": name, onclick: act,
  });
  const stage = element("div", {
    class: "osprey-stage", "data-testid": "stage", role: "application", tabindex: 0,
    "aria-label": `Drawing area, ${width} by ${height} pixels. Arrows move the point, Enter draws at it. `
      + "B brush, E eraser, R box, P polygon, S clicks, 1 to 9 regions, ? all keys.",
  });
  const title = element("div", { class: "osprey-title" });
  const hint = element("span", { class: "osprey-hint" });
  const saved = element("span", { class: "osprey-saved", role: "status", "data-testid": "status" });
  const notice = element("div", { class: "osprey-notice", role: "alert", "data-testid": "notice" });
  const root = element("div", { class: "osprey-canvas", "data-lm-suppress-shortcuts": "true" },
    element("div", { class: "osprey-head" }, title, hint, element("span", { class: "osprey-end" }, helpButton)),
    help.node,
    element("div", { class: "osprey-bar", role: "toolbar", "aria-label": "Drawing tools" },
      element("span", { class: "osprey-group" }, ...Object.values(toolButtons)),
      shapeGroup, sizeField,
      element("span", { class: "osprey-group osprey-end" }, undoButton, redoButton, fillButton, invertButton, clearButton)),
    stage,
    candidates.node,
    element("div", { class: "osprey-bar osprey-below" },
      element("span", { class: "osprey-group osprey-legend", role: "group", "aria-label": "Regions" }, ...chips),
      nameInput,
      element("span", { class: "osprey-group osprey-end" }, clearAll)),
    notice,
    element("div", { class: "osprey-bar osprey-foot" },
      element("label", { class: "osprey-field", title: "Opacity of the regions" }, "Opacity", opacityInput),
      element("span", { class: "osprey-group" },
        zoomButton("−", "Zoom out  (−)", 1 / 1.5), zoomText, zoomButton("+", "Zoom in  (+, or Ctrl and wheel)", 1.5)),
      element("span", { class: "osprey-group" },
        ...openButton(model, "Open", "open", ".json,.png"),
        textButton("save-json", "Save JSON", "Save the regions as COCO JSON, also when the kernel is gone", () => saveJson(store)),
        textButton("save-png", "PNG", "Save the label map as PNG, also when the kernel is gone", () => savePng(store))),
      element("span", { class: "osprey-group osprey-end" }, saved)));
  host.append(root);
  const screen = new Screen(model, store, stage, refresh);

  function layout() {
    const available = room.clientWidth - inset;
    if (available <= 0) return; // in a hidden tab; the observer calls again
    const size = screen.layout(available);
    root.style.width = `${Math.max(size.width, Math.min(available, ROOM_FOR_TOOLS))}px`;
  }

  function refresh() {
    for (const [name, node] of Object.entries(toolButtons)) node.setAttribute("aria-pressed", String(name === tool));
    const shaped = tool === "box" || tool === "polygon";
    addButton.setAttribute("aria-pressed", String(shaped && !cutting));
    cutButton.setAttribute("aria-pressed", String(shaped && cutting));
    shapeGroup.hidden = !shaped; // each tool has its own settings in this place
    sizeField.hidden = !sizes[tool];
    toolButtons.point.hidden = !model.get("_clicks");
    sizeInput.value = sizes[tool] ?? sizeInput.value;
    sizeText.textContent = `${sizeInput.value} px`;
    undoButton.disabled = !store.history.done.length && !draft?.points && !clicks.open;
    redoButton.disabled = !store.history.undone.length;
    clearButton.disabled = fillButton.disabled = !store.counts[store.region];
    clearAll.disabled = store.counts.slice(1).every((count) => !count);
    zoomText.textContent = `${Math.round(screen.view.zoom * 100)} %`;
    chips.forEach((chip, i) => {
      const count = store.counts[i + 1];
      const name = store.names[i] ? ` “${store.names[i]}”` : "";
      const label = `Region ${i + 1}${name}: ${count ? `${count.toLocaleString("en")} pixels` : "empty"}  (key ${i + 1})`;
      chip.classList.toggle("osprey-filled", count > 0);
      chip.setAttribute("aria-pressed", String(store.region === i + 1));
      chip.setAttribute("aria-label", label);
      chip.title = label;
    });
    const words = TOOLS.find(([name]) => name === tool)[3];
    hint.textContent = shaped ? `${words}${cutting ? " · cuts" : ` · region ${store.region}`}`
      : tool === "brush" ? `${words} region ${store.region}` : words;
    const waiting = model.get("_saved") < store.seq;
    say(saved, store.unanswered ? "Python does not answer. Save keeps the drawing."
      : waiting ? "Sending to Python …" : store.seq ? "Saved in Python" : "Ready");
    saved.dataset.seq = store.seq;
    saved.dataset.state = store.unanswered ? "lost" : waiting ? "sending" : "saved";
    if (document.activeElement !== nameInput) nameInput.value = store.names[store.region - 1];
    nameInput.setAttribute("aria-label", `Name of region ${store.region}`);
    nameInput.title = `Name of region ${store.region}; its place in a prompt is <region${store.region}>`;
    candidates.refresh();
    say(title, model.get("title"));
    say(notice, model.get("_notice"));
    notice.hidden = !notice.textContent;
    stage.dataset.tool = pan || spaceDown ? "pan" : tool;
    stage.style.setProperty("--region", colours[store.region - 1]);
    drawGuides();
  }

  /** The keyboard goes to the stage: a button that is disabled by its own click would lose it. */
  function focus() { stage.focus({ preventScroll: true }); }

  /** Text for screen readers, written only when it changed, or it would be read out with every frame. */
  function say(node, text) { if (node.textContent !== text) node.textContent = text; }

  function drawGuides() { screen.guide(draft, pointer, sizes[tool], clicks); }

  // ---- what the person can do
  function setTool(name) {
    if (name === "point" && !model.get("_clicks")) return;
    if (name !== tool) closeDraft(); // an open polygon is kept, not wiped
    if (name !== "point" && tool === "point" && clicks.open) clicks.cancel();
    tool = name;
    refresh();
  }

  function setCutting(value) { cutting = value; refresh(); }
  function setSize(value) { if (sizes[tool]) sizes[tool] = Math.min(largest, Math.max(1, value)); refresh(); }
  function fillHoles() { store.stroke(holeSpans(store.labels, width, height, store.region), store.region); }

  function fill(spans) {
    store.stroke(spans, cutting ? 0 : store.region);
  }

  function closeDraft() {
    const closing = draft;
    draft = null;
    if (tool === "point") {
      if (closing) clicks.setBox(closing.a, closing.b);
    } else if (closing?.points?.length >= 3) fill(polygonSpans(closing.points, width, height));
    else if (closing?.a) fill(boxSpans(closing.a, closing.b, width, height));
    refresh();
  }

  function undo() {
    if (draft?.points) { // take back the last corner first
      draft.points.pop();
      if (!draft.points.length) draft = null;
      refresh();
    } else if (clicks.points.length || clicks.box) clicks.back();
    else store.step("undo");
  }

  function stamp(to) {
    store.paint(brushSpans(last, to, sizes[tool] / 2, width, height), tool === "erase" ? 0 : store.region);
    last = to;
  }

  function onDown(event) {
    if (event.pointerType === "pen") penSeen = true;
    if (event.pointerType === "touch") {
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (fingers.size === 2 && (held === null || fingers.has(held))) { startPinch(event); return; }
    }
    if (!event.isPrimary || held !== null || pinch) return;
    const rest = penSeen && event.pointerType === "touch"; // who has a pen moves the picture with a finger
    const panning = event.button === 1 || (event.button === 0 && (spaceDown || rest));
    const not = tool === "point" && (event.button === 2 || event.shiftKey);
    if (event.button !== 0 && !panning && !not) return; // a right click opens the menu and draws nothing
    event.preventDefault();
    focus(); // or the notebook gets the keys
    stage.setPointerCapture(event.pointerId);
    held = event.pointerId;
    if (panning) pan = { x: event.clientX, y: event.clientY, view: screen.view };
    else press(screen.point(event), not ? 0 : 1);
    refresh();
  }

  /** The tool touches the picture at a point; `label` is 0 for a click that says "not this". */
  function press(point, label = 1) {
    pointer = point;
    if (tool === "point") pressed = { at: point, label };
    else if (tool === "box") draft = { a: point, b: point };
    else if (tool === "polygon") {
      if (draft && draft.points.length >= 3 && screen.near(point, draft.points[0], 9)) { closeDraft(); return; }
      draft ??= { points: [] };
      draft.points.push(point);
      draft.from = { at: point, alone: draft.points.length === 1 };
    } else {
      store.begin();
      last = point;
      stamp(point);
    }
  }

  function onMove(event) {
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pinch) { movePinch(); return; }
    if (held === null ? !event.isPrimary : event.pointerId !== held) return;
    pointer = screen.point(event);
    if (pan) {
      const [dx, dy] = [event.clientX - pan.x, event.clientY - pan.y].map((d) => d / screen.scale());
      screen.show({ zoom: pan.view.zoom, x: pan.view.x - dx, y: pan.view.y - dy });
    } else if (draft?.a) draft.b = pointer;
    else if (pressed) {
      if (pressed.label && !screen.near(pointer, pressed.at, 6)) draft = { a: pressed.at, b: pointer }; // a drag is a box
    } else if (draft?.from && (draft.dragging || !screen.near(pointer, draft.from.at, 5))) {
      draft.dragging = true; // a drag draws a lasso
      draft.points.push(pointer);
    } else if (last) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const each of events.length ? events : [event]) stamp(screen.point(each));
    }
    drawGuides();
  }

  function onUp(event) {
    fingers.delete(event.pointerId);
    if (pinch) { // the finger that stays draws nothing
      if (!fingers.size) pinch = null;
      return;
    }
    if (event.pointerId !== held) return;
    held = null;
    if (pan) pan = null;
    else release();
    refresh();
  }

  /** Two fingers zoom and move; what the first of them began is taken back. */
  function startPinch(event) {
    if (last) store.cancel();
    if (draft?.from?.alone || draft?.a) draft = null;
    [last, pan, held, pressed, pointer] = [null, null, null, null, null];
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
    pinch = { ...spread(), view: screen.view };
    refresh();
  }

  function movePinch() {
    if (fingers.size < 2) return;
    const { middle, distance } = spread();
    const rect = stage.getBoundingClientRect();
    const [u, v] = [(pinch.middle[0] - rect.left) / rect.width, (pinch.middle[1] - rect.top) / rect.height];
    const view = zoomAt(pinch.view, distance / pinch.distance, u, v, width, height);
    const scale = (rect.width / width) * view.zoom;
    const [dx, dy] = middle.map((at, i) => (at - pinch.middle[i]) / scale);
    screen.show({ zoom: view.zoom, x: view.x - dx, y: view.y - dy });
    refresh();
  }

  /** The middle of the first two fingers, and how far they are apart, in CSS pixels. */
  function spread() {
    const [[ax, ay], [bx, by]] = [...fingers.values()];
    return { middle: [(ax + bx) / 2, (ay + by) / 2], distance: Math.max(1, Math.hypot(ax - bx, ay - by)) };
  }

  /** The tool leaves the picture. */
  function release() {
    const click = pressed;
    pressed = null;
    if (last) { last = null; store.end(); }
    else if (draft?.a) closeDraft();
    else if (click) clicks.add(click.at, click.label);
    else if (draft) {
      const lasso = draft.dragging && draft.from?.alone;
      draft.dragging = false;
      draft.from = null;
      if (lasso) closeDraft();
    }
  }

  /** Drawing by keyboard: the arrows move the point (with Shift further), Enter draws at it; a box takes two corners. */
  function steer(key, far) {
    const [dx, dy] = ARROWS[key];
    const stride = (far ? 0.1 : 0.01) * Math.max(width, height);
    const [x, y] = pointer ?? [width / 2, height / 2];
    pointer = [Math.min(width, Math.max(0, x + dx * stride)), Math.min(height, Math.max(0, y + dy * stride))];
    if (draft?.a) draft.b = pointer;
  }

  function enter() {
    if (tool === "point" && clicks.items.length) clicks.take();
    else if (draft?.a || (draft?.points && screen.near(pointer, draft.points.at(-1), 2))) closeDraft();
    else {
      press(pointer ?? [width / 2, height / 2]);
      if (tool !== "box") release();
    }
  }

  function escape() {
    if (help.open) help.toggle(false);
    else if (last) { last = null; store.cancel(); } else if (draft || pressed) draft = pressed = null;
    else if (clicks.open || clicks.error) clicks.cancel();
    else return false;
    refresh();
    return true;
  }

  function onKey(event) {
    const control = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    const named = TOOLS.find((row) => row[2].toLowerCase() === key);
    let handled = true;
    if (control && key === "z") event.shiftKey ? store.step("redo") : undo();
    else if (control && key === "y") store.step("redo");
    else if (control || event.altKey) handled = false;
    else if (named) setTool(named[0]);
    else if (key === "x") setCutting(!cutting);
    else if (key === "f") fillHoles();
    else if (key === "i") store.invert(store.region);
    else if (event.key === "?") help.toggle();
    else if (key === "[" || key === "]") {
      const step = Math.max(1, Math.round((sizes[tool] ?? 0) * 0.15));
      setSize((sizes[tool] ?? 0) + (key === "]" ? step : -step));
    } else if (/^[1-9]$/.test(key)) store.select(Number(key));
    else if (key === "delete" || key === "backspace") draft?.points ? undo() : clearButton.click();
    else if (key in ARROWS && event.target === stage && held === null) { steer(key, event.shiftKey); refresh(); }
    else if (key === "enter" && event.target === stage && held === null) { enter(); refresh(); }
    else if (key === "+" || key === "=") screen.zoom(1.5);
    else if (key === "-") screen.zoom(1 / 1.5);
    else if (key === "0") screen.whole();
    else if (key === " " && event.target === stage) { spaceDown = true; refresh(); }
    else if (key === "escape") handled = escape();
    else handled = false;
    if (!handled) return;
    event.preventDefault();
    event.stopPropagation();
  }

  stage.addEventListener("pointerdown", onDown);
  stage.addEventListener("pointermove", onMove);
  stage.addEventListener("pointerup", onUp);
  stage.addEventListener("pointercancel", onUp);
  stage.addEventListener("contextmenu", (event) => { if (tool === "point") event.preventDefault(); });
  stage.addEventListener("pointerleave", () => { if (held === null && !draft) { pointer = null; drawGuides(); } });
  stage.addEventListener("dblclick", () => { if (draft?.points) closeDraft(); });
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the plain wheel scrolls the notebook
    event.preventDefault();
    screen.zoom(Math.exp(-event.deltaY / 300), event);
  }, { passive: false });
  root.addEventListener("keydown", onKey);
  root.addEventListener("keyup", (event) => { if (event.key === " ") { spaceDown = false; refresh(); } });
  root.addEventListener("focusout", () => { spaceDown = false; });

  // ---- life
  const onStore = (box) => screen.schedule(box);
  store.listeners.add(onStore);
  const observer = new ResizeObserver(layout);
  observer.observe(room);
  let ratio = null; // a window that moves to a sharper screen
  const onRatio = () => { layout(); watchRatio(); };
  const watchRatio = () => {
    ratio = matchMedia(`(resolution: ${screen.ratio}dppx)`);
    ratio.addEventListener("change", onRatio, { once: true });
  };
  watchRatio();
  const onOpacity = () => {
    opacityInput.value = Math.round(model.get("opacity") * 100);
    screen.setOpacity(model.get("opacity"));
  };
  const changes = { "change:opacity": onOpacity, "change:height": layout, "change:title": refresh };
  for (const [name, act] of Object.entries(changes)) model.on(name, act);
  layout();
  refresh();

  return () => {
    store.listeners.delete(onStore);
    for (const [name, act] of Object.entries(changes)) model.off(name, act);
    ratio.removeEventListener("change", onRatio);
    observer.disconnect();
    cancelAnimationFrame(screen.frame);
    root.remove();
  };
}

/** A view that is built anew when the picture changes: `build` mounts it and returns what takes it down. */
export function followPicture(model, build) {
  let unmount = build();
  const again = () => { unmount(); unmount = build(); };
  model.on("change:_generation", again);
  return () => { model.off("change:_generation", again); unmount(); };
}

/** anywidget calls this once per widget, then `render` once per view: the views share one store. */
export default () => {
  let store = null;
  let clicks = null;
  return {
    initialize({ model }) { store = new Store(model); clicks = new Clicks(model, store); },
    render({ model, el }) {
      const frame = element("div", { class: "osprey-frame" });
      const outer = element("div", { class: "osprey" }, frame);
      el.append(outer);
      return followPicture(model, () => mountCanvas(model, store, clicks, frame, outer, 38));
    },
  };
};
