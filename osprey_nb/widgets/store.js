// The truth of a canvas: label map, history, active region. One per widget, shared by all of its views.

import { MAX_REGIONS, History, countLabels, decodeRuns, encodeRuns, paint } from "./geometry.mjs";

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
    [this.height, this.width] = model.get("_size");
    this.labels = new Uint8Array(this.width * this.height);
    this.history = new History();
    this.region = 1;
    this.listeners = new Set();
    this.before = null; // the map as it was when the running stroke began
    this.adopt();
    this.history = new History();
    model.on("change:_drawing", () => this.adopt());
    for (const name of ["_saved", "_notice"]) model.on(`change:${name}`, () => this.tell(null));
  }

  get regions() { return Math.min(MAX_REGIONS, this.model.get("_colours").length); }

  /** Take over what Python set. A stroke that is running goes on, on the new map. */
  adopt() {
    const drawing = this.model.get("_drawing");
    if (drawing === this.sent) return;
    const old = this.before ?? this.labels;
    const bytes = bytesOf(drawing.runs).slice(); // a copy: the view may not be aligned to 4 bytes
    this.labels = decodeRuns(new Uint32Array(bytes.buffer), this.width * this.height);
    this.history.record(old, this.labels, this.width);
    if (this.before) this.before = this.labels.slice();
    this.seq = drawing.seq;
    this.counts = countLabels(this.labels);
    this.tell({ x0: 0, y0: 0, x1: this.width, y1: this.height });
  }

  tell(dirty) { for (const listener of this.listeners) listener(dirty); }

  select(region) {
    this.region = Math.min(this.regions, Math.max(1, region));
    this.tell(null);
  }

  begin() { this.before = this.labels.slice(); }

  paint(spans, value, only = null) {
    const box = paint(this.labels, this.width, spans, value, only);
    if (box) this.tell(box);
  }

  /** End of a stroke: one step in the history, one message to Python. */
  end() {
    if (!this.before) return;
    const changed = this.history.record(this.before, this.labels, this.width);
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

  all() { return Array.from({ length: this.height }, (_, y) => [y, 0, this.width]); }

  step(direction) {
    if (this.before) return;
    const box = this.history[direction](this.labels, this.width);
    if (!box) return;
    this.tell(box);
    this.send();
  }

  send() {
    const runs = new Uint8Array(encodeRuns(this.labels).buffer);
    this.seq += 1;
    this.counts = countLabels(this.labels);
    this.sent = { seq: this.seq, runs: this.model.get("_base64") ? toBase64(runs) : new DataView(runs.buffer) };
    this.model.set("_drawing", this.sent);
    this.model.save_changes();
    this.tell(null);
  }
}
