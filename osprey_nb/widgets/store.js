// The truth of a canvas: label map, history, active region. One per widget, shared by all of its views.

import { MAX_REGIONS, History, countLabels, decodeRuns, encodeRuns, joinBoxes, paint } from "./geometry.mjs";

const PATIENCE = 4000; // milliseconds after which Python is said not to answer

/** Bytes of a synced value: a DataView, or base64 text for front ends that break binary buffers. */
export function bytesOf(value) {
  if (typeof value === "string") return Uint8Array.from(atob(value), (c) => c.charCodeAt(0));
  return new Uint8Array(value.buffer ?? value, value.byteOffset ?? 0, value.byteLength);
}

function toBase64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

export class Store {
  constructor(model) {
    this.model = model;
    this.listeners = new Set();
    this.reset();
    model.on("change:_generation", () => this.reset());
    model.on("change:_drawing", () => this.adopt());
    model.on("change:_names", () => { this.names = [...model.get("_names")]; this.tell(null); });
    for (const name of ["_saved", "_notice", "_clicks"]) model.on(`change:${name}`, () => this.tell(null));
  }

  /** Another picture: nothing is drawn on it, and there is nothing to undo. */
  reset() {
    [this.height, this.width] = this.model.get("_size");
    this.generation = this.model.get("_generation");
    this.labels = new Uint8Array(this.width * this.height);
    this.shown = null; // the map with a candidate on it, while one is looked at
    this.history = new History();
    this.region = 1;
    this.names = [...this.model.get("_names")];
    this.before = null; // the map as it was when the running stroke began
    this.sent = null;
    this.adopt();
    this.history = new History();
  }

  get regions() { return Math.min(MAX_REGIONS, this.model.get("_colours").length); }

  /** Take over what Python set. A stroke that is running goes on, on the new map. */
  adopt() {
    const drawing = this.model.get("_drawing");
    if (drawing === this.sent || this.generation !== this.model.get("_generation")) return;
    const old = this.before ?? this.labels;
    const runs = new Uint32Array(bytesOf(drawing.runs).slice().buffer); // a copy: the view may not be aligned to 4 bytes
    this.labels = decodeRuns(runs, this.width * this.height);
    this.history.record(old, this.labels, this.width);
    if (this.before) this.begin(); // its steps so far are in the history with what Python set
    this.seq = drawing.seq;
    this.counts = countLabels(runs);
    this.tell({ x0: 0, y0: 0, x1: this.width, y1: this.height });
  }

  tell(dirty) { for (const listener of this.listeners) listener(dirty); }

  select(region) {
    this.region = Math.min(this.regions, Math.max(1, region));
    this.tell(null);
  }

  begin() {
    this.before = this.labels.slice();
    this.touched = null; // the box of all that the stroke has painted: only there is looked for changes
  }

  paint(spans, value, only = null) {
    const box = paint(this.labels, this.width, spans, value, only);
    if (!box) return;
    this.touched = joinBoxes(this.touched, box);
    this.tell(box);
  }

  /** End of a stroke: one step in the history, one message to Python. */
  end() {
    if (!this.before) return;
    const changed = this.touched && this.history.record(this.before, this.labels, this.width, this.touched);
    this.before = null;
    if (changed) this.send();
  }

  cancel() {
    if (!this.before) return;
    this.labels = this.before;
    this.before = null;
    this.tell({ x0: 0, y0: 0, x1: this.width, y1: this.height });
  }

  /** A whole stroke at once: a box, a polygon, the holes, a clear. */
  stroke(spans, value, only = null) {
    if (this.before) return; // the hand is still drawing
    this.begin();
    this.paint(spans, value, only);
    this.end();
  }

  /** A stroke that changes the map in a way of its own. */
  edit(change) {
    if (this.before) return;
    this.begin();
    change(this.labels);
    this.touched = { x0: 0, y0: 0, x1: this.width, y1: this.height };
    this.tell(this.touched);
    this.end();
  }

  /** Region and bare pixels change places; other regions stay. */
  invert(region) {
    this.edit((labels) => {
      for (let i = 0; i < labels.length; i++) {
        if (labels[i] === region) labels[i] = 0;
        else if (labels[i] === 0) labels[i] = region;
      }
    });
  }

  /** Show a mask as if it were drawn, or null for what is drawn. */
  preview(mask) {
    if (!mask && !this.shown) { this.tell(null); return; }
    this.shown = mask && this.labels.slice();
    if (mask) for (let i = 0; i < mask.length; i++) if (mask[i]) this.shown[i] = this.region;
    this.tell({ x0: 0, y0: 0, x1: this.width, y1: this.height });
  }

  rename(region, name) {
    this.names[region - 1] = name;
    this.model.send({ kind: "name", region, text: name });
    this.tell(null);
  }

  /** Has Python been silent since the last stroke? Perhaps its kernel is gone. */
  get unanswered() { return this.model.get("_saved") < this.seq && performance.now() - this.sentAt >= PATIENCE; }

  all() { return Array.from({ length: this.height }, (_, y) => [y, 0, this.width]); }

  step(direction) {
    if (this.before) return;
    const box = this.history[direction](this.labels, this.width);
    if (!box) return;
    this.tell(box);
    this.send();
  }

  send() {
    const runs = encodeRuns(this.labels);
    this.seq += 1;
    this.counts = countLabels(runs);
    this.sent = { seq: this.seq, runs: this.model.get("_base64") ? toBase64(new Uint8Array(runs.buffer)) : new DataView(runs.buffer) };
    this.sentAt = performance.now();
    setTimeout(() => this.tell(null), PATIENCE + 50);
    this.model.set("_drawing", this.sent);
    this.model.save_changes();
    this.tell(null);
  }
}
