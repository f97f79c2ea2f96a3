// Clicks and boxes for a segmenter: what was pointed at, and what came of it.
//
// One per widget, shared by its views. Python answers in `_candidates`; an answer to an older question is dropped.
// Nothing is drawn before a candidate is taken: until then it is only shown.

import { element } from "./dom.js";
import { bytesOf } from "./store.js";
import { decodeRuns } from "./geometry.mjs";

export class Clicks {
  constructor(model, store) {
    this.model = model;
    this.store = store;
    this.asked = 0;
    this.clear();
    model.on("change:_candidates", () => this.answered());
  }

  clear() {
    this.points = [];
    this.labels = [];
    this.box = null;
    this.items = [];
    this.error = "";
    this.busy = false;
    this.chosen = -1;
  }

  get open() { return this.points.length > 0 || this.box !== null || this.items.length > 0; }

  add(point, label) {
    this.points.push(point.map((v) => Math.round(v * 10) / 10));
    this.labels.push(label);
    this.ask();
  }

  setBox(a, b) {
    const [x0, y0] = [Math.min(a[0], b[0]), Math.min(a[1], b[1])].map((v) => Math.max(0, Math.floor(v)));
    const [x1, y1] = [[a[0], b[0], this.store.width], [a[1], b[1], this.store.height]].map(
      ([p, q, most]) => Math.min(most, Math.ceil(Math.max(p, q))));
    this.box = [x0, y0, x1, y1];
    this.ask();
  }

  /** Take the last click back. */
  back() {
    if (this.points.length) {
      this.points.pop();
      this.labels.pop();
    } else this.box = null;
    if (this.box || this.labels.includes(1)) this.ask();
    else this.cancel();
  }

  ask() {
    if (!this.box && !this.labels.includes(1)) {
      this.error = "Click first on what belongs to the region.";
      this.store.tell(null);
      return;
    }
    this.asked += 1;
    this.busy = true;
    this.error = "";
    this.model.send({ kind: "segment", id: this.asked, points: [...this.points], labels: [...this.labels], box: this.box });
    this.store.tell(null);
  }

  answered() {
    const { id, items = [], busy = false, error = "" } = this.model.get("_candidates");
    if (id !== this.asked && id !== "everything") return; // stale
    if (id === "everything") { this.clear(); this.asked += 1; }
    const size = this.store.width * this.store.height;
    this.items = items.map(({ runs, ...more }) => {
      const copy = bytesOf(runs).slice(); // aligned to 4 bytes
      return { ...more, mask: decodeRuns(new Uint32Array(copy.buffer), size) };
    });
    this.busy = busy;
    this.error = error;
    const score = (item) => item.score ?? 0;
    this.chosen = id === "everything" ? -1 : this.items.reduce((best, item, i) => (best < 0 || score(item) > score(this.items[best]) ? i : best), -1);
    this.preview(this.chosen);
  }

  /** Show candidate `i` as if it were taken; −1 shows none. */
  preview(i) { this.store.preview(this.items[i]?.mask ?? null); }

  /** Candidate `i` becomes part of the active region: one stroke. */
  take(i = this.chosen) {
    const mask = this.items[i]?.mask;
    if (!mask) return;
    const keep = this.items.some((item) => item.words); // a list of everything stays open
    if (keep) {
      this.store.preview(null);
      const empty = this.store.counts.findIndex((count, region) => region && !count);
      if (this.store.counts[this.store.region] && empty > 0) this.store.select(empty); // each thing a region of its own
    } else this.cancel();
    this.store.edit((labels) => {
      for (let at = 0; at < labels.length; at++) if (mask[at]) labels[at] = this.store.region;
    });
  }

  cancel() {
    if (this.busy) this.model.send({ kind: "forget-candidates" });
    this.asked += 1; // what is still on its way is stale
    this.clear();
    this.store.preview(null);
  }
}

/** The row of candidates below the picture. */
export function candidateBar(clicks, done) {
  const list = element("span", { class: "osprey-group osprey-candidates", role: "group", "aria-label": "What you may mean" });
  const words = element("span", { class: "osprey-hint", role: "status", "data-testid": "candidates-say" });
  const cancel = element("button", {
    type: "button", class: "osprey-button osprey-text", text: "Cancel", title: "Forget the clicks  (Esc)", "data-testid": "candidates-cancel",
    onclick: () => { clicks.cancel(); done(); },
  });
  const node = element("div", { class: "osprey-bar osprey-below", "data-testid": "candidates" }, words, list, element("span", { class: "osprey-group osprey-end" }, cancel));
  let shown = null;
  return {
    node,
    refresh() {
      node.hidden = !clicks.open && !clicks.error && !clicks.busy;
      const text = clicks.error || (clicks.busy ? "Looking …" : clicks.items.length ? "Which one?" : "");
      if (words.textContent !== text) words.textContent = text;
      if (shown !== clicks.items) {
        shown = clicks.items;
        list.replaceChildren(...shown.map((item, i) => element("button", {
          type: "button", class: "osprey-button osprey-candidate", text: item.words ?? `${i + 1} · ${item.text}`, "data-testid": `candidate-${i + 1}`,
          title: item.words ? "Take it as the active region" : `Take candidate ${i + 1}; the segmenter's score is ${item.text}`,
          style: item.depth ? `margin-left:${item.depth * 14}px` : null,
          onpointerenter: () => clicks.preview(i), onfocus: () => clicks.preview(i),
          onpointerleave: () => clicks.preview(clicks.chosen), onblur: () => clicks.preview(clicks.chosen),
          onclick: () => { clicks.take(i); done(); },
        })));
      }
      list.classList.toggle("osprey-tree", shown.some((item) => item.words));
      [...list.children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === clicks.chosen)));
    },
  };
}
