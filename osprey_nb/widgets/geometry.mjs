// Pure geometry of the canvas: no DOM, no model, tested by `node --test tests/js`.
//
// A label map is a Uint8Array of H×W entries, row by row: 0 is nothing, 1 … 9 is a region. A pixel belongs to
// a shape when its *centre* (x + 0.5, y + 0.5) lies in it. So a shape has no soft edge, and two polygons that
// share an edge neither overlap nor leave a gap.
//
// A raster is a list of spans [y, from, to): the pixels of one row. Every shape becomes spans first; then one
// function, `paint`, writes labels.

export const MAX_REGIONS = 9;

/** Spans of a thick line with round ends: all pixels within `radius` of the segment a → b. */
export function brushSpans(a, b, radius, width, height) {
  let [x0, y0] = a;
  let [x1, y1] = b;
  if (radius < 1) { // a one-pixel brush must hit the very pixel under the pointer
    [x0, y0, x1, y1] = [x0, y0, x1, y1].map((v) => Math.floor(v) + 0.5);
    radius = 0.5;
  }
  const length = Math.hypot(x1 - x0, y1 - y0);
  const nx = length ? (-(y1 - y0) / length) * radius : 0;
  const ny = length ? ((x1 - x0) / length) * radius : 0;
  const corners = [[x0 + nx, y0 + ny], [x1 + nx, y1 + ny], [x1 - nx, y1 - ny], [x0 - nx, y0 - ny]];
  const spans = [];
  const first = Math.max(0, Math.ceil(Math.min(y0, y1) - radius - 0.5));
  const last = Math.min(height - 1, Math.floor(Math.max(y0, y1) + radius - 0.5));
  for (let y = first; y <= last; y++) {
    const yc = y + 0.5; // the shape is convex: one span a row, the hull of its two discs and its rectangle
    let low = Infinity;
    let high = -Infinity;
    for (const [cx, cy] of [[x0, y0], [x1, y1]]) {
      const rest = radius * radius - (yc - cy) * (yc - cy);
      if (rest < 0) continue;
      low = Math.min(low, cx - Math.sqrt(rest));
      high = Math.max(high, cx + Math.sqrt(rest));
    }
    for (let i = 0; length && i < 4; i++) {
      const [px, py] = corners[i];
      const [qx, qy] = corners[(i + 1) % 4];
      if (py <= yc === qy <= yc) continue;
      const x = px + ((yc - py) / (qy - py)) * (qx - px);
      low = Math.min(low, x);
      high = Math.max(high, x);
    }
    const from = Math.max(0, Math.ceil(low - 0.5));
    const to = Math.min(width, Math.floor(high - 0.5) + 1);
    if (from < to) spans.push([y, from, to]);
  }
  return spans;
}

/** Spans inside a polygon [[x, y], …]. Non-zero winding: a lasso that crosses itself has no holes. */
export function polygonSpans(points, width, height) {
  if (points.length < 3) return [];
  const ys = points.map((p) => p[1]);
  const first = Math.max(0, Math.ceil(Math.min(...ys) - 0.5));
  const last = Math.min(height - 1, Math.floor(Math.max(...ys) - 0.5));
  const spans = [];
  for (let y = first; y <= last; y++) {
    const yc = y + 0.5;
    const crossings = [];
    for (let i = 0; i < points.length; i++) {
      const [px, py] = points[i];
      const [qx, qy] = points[(i + 1) % points.length];
      if (py <= yc === qy <= yc) continue; // half-open: a vertex on the line counts once
      crossings.push([px + ((yc - py) / (qy - py)) * (qx - px), py < qy ? 1 : -1]);
    }
    crossings.sort((s, t) => s[0] - t[0]);
    let winding = 0;
    for (let i = 0; i + 1 < crossings.length; i++) {
      winding += crossings[i][1];
      if (winding === 0) continue;
      const from = Math.max(0, Math.ceil(crossings[i][0] - 0.5));
      const to = Math.min(width, Math.ceil(crossings[i + 1][0] - 0.5));
      if (from < to) spans.push([y, from, to]);
    }
  }
  return spans;
}

/** Spans of the box with two opposite corners a and b. */
export function boxSpans(a, b, width, height) {
  return polygonSpans([[a[0], a[1]], [b[0], a[1]], [b[0], b[1]], [a[0], b[1]]], width, height);
}

/** Spans of the holes of a region: unlabelled pixels that cannot reach the border without crossing it. */
export function holeSpans(labels, width, height, region) {
  const box = regionBox(labels, width, height, region);
  if (!box) return [];
  const w = box.x1 - box.x0;
  const h = box.y1 - box.y0;
  const seen = new Uint8Array(w * h); // what is reached from the border of the region's box
  const stack = [];
  const visit = (x, y) => {
    const at = y * w + x;
    if (seen[at] || labels[(y + box.y0) * width + x + box.x0] === region) return;
    seen[at] = 1;
    stack.push(at);
  };
  for (let x = 0; x < w; x++) { visit(x, 0); visit(x, h - 1); }
  for (let y = 0; y < h; y++) { visit(0, y); visit(w - 1, y); }
  while (stack.length) {
    const at = stack.pop();
    const x = at % w;
    const y = (at - x) / w;
    if (x > 0) visit(x - 1, y);
    if (x + 1 < w) visit(x + 1, y);
    if (y > 0) visit(x, y - 1);
    if (y + 1 < h) visit(x, y + 1);
  }
  const spans = [];
  for (let y = 0; y < h; y++) {
    let from = -1;
    for (let x = 0; x <= w; x++) {
      const hole = x < w && !seen[y * w + x] && labels[(y + box.y0) * width + x + box.x0] === 0;
      if (hole && from < 0) from = x;
      if (!hole && from >= 0) { spans.push([y + box.y0, from + box.x0, x + box.x0]); from = -1; }
    }
  }
  return spans;
}

/** COCO's form of a label map: one annotation a region, its mask as run lengths down the columns, bare pixels first. */
export function cocoOf(labels, width, height, names) {
  const annotations = [];
  const categories = [];
  for (let region = 1; region <= MAX_REGIONS; region++) {
    const box = regionBox(labels, width, height, region);
    if (!box) continue;
    const counts = [];
    let inside = false;
    let run = 0;
    let area = 0;
    for (let x = 0; x < width; x++) {
      for (let y = 0; y < height; y++) {
        const now = labels[y * width + x] === region;
        if (now !== inside) { counts.push(run); run = 0; inside = now; }
        run++;
        area += now;
      }
    }
    counts.push(run);
    const name = names[region - 1] || `region ${region}`;
    let category = categories.findIndex((each) => each.name === name) + 1;
    if (!category) category = categories.push({ id: categories.length + 1, name });
    annotations.push({
      id: region, image_id: 1, category_id: category, name, iscrowd: 0, area,
      segmentation: { size: [height, width], counts }, bbox: [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0],
    });
  }
  return { images: [{ id: 1, file_name: "", width, height }], categories, annotations };
}

/** Write `value` into the spans; with `only`, touch no pixel of another label. Returns the box, or null. */
export function paint(labels, width, spans, value, only = null) {
  let box = null;
  for (const [y, from, to] of spans) {
    if (only === null) labels.fill(value, y * width + from, y * width + to);
    else for (let i = y * width + from; i < y * width + to; i++) if (labels[i] === only) labels[i] = value;
    box = joinBoxes(box, { x0: from, y0: y, x1: to, y1: y + 1 });
  }
  return box;
}

/** The smallest box {x0, y0, x1, y1} (x1, y1 exclusive) around two boxes; null is the empty box. */
export function joinBoxes(a, b) {
  if (!a || !b) return a || b;
  return {
    x0: Math.min(a.x0, b.x0), y0: Math.min(a.y0, b.y0),
    x1: Math.max(a.x1, b.x1), y1: Math.max(a.y1, b.y1),
  };
}

/** The box around one region of a label map, or null. */
export function regionBox(labels, width, height, region) {
  let box = null;
  for (let y = 0; y < height; y++) {
    const row = labels.subarray(y * width, (y + 1) * width);
    const from = row.indexOf(region);
    if (from >= 0) box = joinBoxes(box, { x0: from, y0: y, x1: row.lastIndexOf(region) + 1, y1: y + 1 });
  }
  return box;
}

/** Pixels per label of a run-length encoded map: an array of 10 counts. */
export function countLabels(runs) {
  const counts = new Array(MAX_REGIONS + 1).fill(0);
  for (let i = 0; i < runs.length; i += 2) counts[runs[i]] += runs[i + 1];
  return counts;
}

/** Run-length encoding: Uint32Array [label, length, label, length, …]; the lengths add up to the map's size. */
export function encodeRuns(labels) {
  const runs = [];
  const words = new Uint32Array(labels.byteOffset % 4 ? 0 : labels.buffer, labels.byteOffset, labels.length >> 2);
  for (let i = 0; i < labels.length;) {
    const label = labels[i];
    const four = label * 0x01010101; // the same label four times: most pixels are passed over so
    let end = i + 1;
    for (;;) {
      if (end % 4 === 0) while (words[end / 4] === four) end += 4;
      if (end < labels.length && labels[end] === label) end++;
      else break;
    }
    runs.push(label, end - i);
    i = end;
  }
  return Uint32Array.from(runs);
}

/** The label map of `runs`; throws when they do not describe exactly `size` pixels. */
export function decodeRuns(runs, size) {
  const labels = new Uint8Array(size);
  let at = 0;
  for (let i = 0; i + 1 < runs.length; i += 2) {
    if (runs[i] > MAX_REGIONS) throw new RangeError(`label ${runs[i]} is above ${MAX_REGIONS}`);
    if (at + runs[i + 1] > size) break;
    labels.fill(runs[i], at, at + runs[i + 1]);
    at += runs[i + 1];
  }
  const sum = runs.reduce((total, value, i) => (i % 2 ? total + value : total), 0);
  if (runs.length % 2 || sum !== size) throw new RangeError(`runs describe ${sum} pixels, the image has ${size}`);
  return labels;
}

/** Undo and redo, one entry a stroke. An entry holds the changed box before and after, run-length encoded. */
export class History {
  constructor(limit = 100) {
    this.limit = limit;
    this.undone = [];
    this.done = [];
  }

  /**
   * Remember the step between two label maps that differ at most in the box `within`. Returns false when nothing changed
   * (then there is no step).
   */
  record(before, after, width, within = { y0: 0, y1: after.length / width }) {
    let box = null;
    for (let y = within.y0; y < within.y1; y++) {
      let from = y * width;
      let to = from + width;
      while (from < to && before[from] === after[from]) from++;
      if (from === to) continue;
      while (before[to - 1] === after[to - 1]) to--;
      box = joinBoxes(box, { x0: from - y * width, y0: y, x1: to - y * width, y1: y + 1 });
    }
    if (!box) return false;
    this.done.push({ box, before: crop(before, width, box), after: crop(after, width, box) });
    if (this.done.length > this.limit) this.done.shift();
    this.undone = [];
    return true;
  }

  /** Take back the last step in `labels`. Returns the changed box, or null when there is nothing to undo. */
  undo(labels, width) {
    const step = this.done.pop();
    if (!step) return null;
    this.undone.push(step);
    return paste(labels, width, step.box, step.before);
  }

  /** Do the last undone step again. Returns the changed box, or null. */
  redo(labels, width) {
    const step = this.undone.pop();
    if (!step) return null;
    this.done.push(step);
    return paste(labels, width, step.box, step.after);
  }
}

function crop(labels, width, box) {
  const w = box.x1 - box.x0;
  const out = new Uint8Array(w * (box.y1 - box.y0));
  for (let y = box.y0; y < box.y1; y++) {
    out.set(labels.subarray(y * width + box.x0, y * width + box.x1), (y - box.y0) * w);
  }
  return encodeRuns(out);
}

function paste(labels, width, box, runs) {
  const w = box.x1 - box.x0;
  const part = decodeRuns(runs, w * (box.y1 - box.y0));
  for (let y = box.y0; y < box.y1; y++) {
    labels.set(part.subarray((y - box.y0) * w, (y - box.y0 + 1) * w), y * width + box.x0);
  }
  return box;
}

/** The rectangle of the image that is shown: `zoom` ≥ 1 around a centre, kept inside the image. */
export function clampView(view, width, height) {
  const zoom = Math.min(16, Math.max(1, view.zoom));
  const w = width / zoom;
  const h = height / zoom;
  return {
    zoom,
    x: Math.min(width - w, Math.max(0, view.x)),
    y: Math.min(height - h, Math.max(0, view.y)),
  };
}

/** Zoom by `factor` so that the image point under (u, v), fractions of the canvas, stays where it is. */
export function zoomAt(view, factor, u, v, width, height) {
  const zoom = Math.min(16, Math.max(1, view.zoom * factor));
  const px = view.x + (u * width) / view.zoom;
  const py = view.y + (v * height) / view.zoom;
  return clampView({ zoom, x: px - (u * width) / zoom, y: py - (v * height) / zoom }, width, height);
}

/** The display size in CSS pixels: as wide as there is room, at most `limit` high, the image's own shape. */
export function fitDisplay(available, limit, width, height) {
  const scale = Math.min(available / width, limit / height);
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}
