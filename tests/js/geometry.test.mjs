// Run with: node --test tests/js
import assert from "node:assert/strict";
import { test } from "node:test";

import {
  History, boxSpans, brushSpans, clampView, countLabels, decodeRuns, encodeRuns, fitDisplay, holeSpans, paint,
  polygonSpans, regionBox, zoomAt,
} from "../../osprey_nb/widgets/geometry.mjs";

const draw = (width, height, spans, value = 1, labels = new Uint8Array(width * height)) => {
  paint(labels, width, spans, value);
  return labels;
};
const picture = (labels, width) => Array.from({ length: labels.length / width }, (_, y) =>
  Array.from(labels.subarray(y * width, (y + 1) * width), (v) => (v ? String(v) : ".")).join(""));

/** A small seeded generator, so that a failure can be repeated. */
function generator(seed) {
  let state = seed;
  return (limit) => {
    state = (state * 1664525 + 1013904223) >>> 0;
    return (state / 2 ** 32) * limit;
  };
}

test("a brush stroke holds exactly the pixels whose centre is within its radius", () => {
  const random = generator(7);
  for (let round = 0; round < 60; round++) {
    const [w, h] = [40, 30];
    const a = [random(60) - 10, random(50) - 10];
    const b = round % 5 ? [random(60) - 10, random(50) - 10] : a; // also a single click, and outside the image
    const radius = 1 + random(9);
    const labels = draw(w, h, brushSpans(a, b, radius, w, h));
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        const [px, py] = [x + 0.5 - a[0], y + 0.5 - a[1]];
        const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
        const along = Math.min(1, Math.max(0, (px * dx + py * dy) / (dx * dx + dy * dy || 1)));
        const distance = Math.hypot(px - along * dx, py - along * dy);
        if (Math.abs(distance - radius) < 1e-9) continue;
        assert.equal(labels[y * w + x], distance < radius ? 1 : 0, `round ${round}, pixel ${x},${y}`);
      }
    }
  }
});

test("a one-pixel brush paints the pixel under the pointer, and a line of it has no gap", () => {
  assert.deepEqual(picture(draw(4, 3, brushSpans([2.05, 1.95], [2.05, 1.95], 0.5, 4, 3)), 4), ["....", "..1.", "...."]);
  const line = draw(12, 5, brushSpans([0.5, 0.5], [11.5, 4.5], 1, 12, 5));
  for (let x = 0; x < 12; x++) assert.ok([0, 1, 2, 3, 4].some((y) => line[y * 12 + x]), `column ${x}`);
});

test("boxes take pixels by their centre, whatever corner comes first, and stay in the image", () => {
  const expected = [".....", ".11..", ".11.."];
  assert.deepEqual(picture(draw(5, 3, boxSpans([1, 1], [3.4, 9], 5, 3)), 5), expected);
  assert.deepEqual(picture(draw(5, 3, boxSpans([3.4, 9], [1, 1], 5, 3)), 5), expected);
});

test("polygons that share edges tile the image: no overlap, no gap", () => {
  const random = generator(3);
  for (let round = 0; round < 30; round++) {
    const [w, h] = [31, 23];
    const centre = [random(w), random(h)];
    const rim = [[0, 0], [random(w), 0], [w, 0], [w, random(h)], [w, h], [random(w), h], [0, h], [0, random(h)]];
    const hits = new Uint8Array(w * h);
    rim.forEach((corner, i) => {
      for (const [y, from, to] of polygonSpans([centre, corner, rim[(i + 1) % rim.length]], w, h)) {
        for (let x = from; x < to; x++) hits[y * w + x]++;
      }
    });
    assert.ok(hits.every((n) => n === 1), `round ${round}`);
  }
});

test("a lasso that crosses itself has no hole, and two points are no polygon", () => {
  const star = [0, 2, 4, 1, 3].map((i) => [10 + 9 * Math.sin(i * 1.2566), 10 - 9 * Math.cos(i * 1.2566)]);
  const labels = draw(20, 20, polygonSpans(star, 20, 20));
  assert.equal(labels[10 * 20 + 10], 1, "the middle of a star is inside");
  assert.equal(polygonSpans([[1, 1], [5, 5]], 20, 20).length, 0);
});

test("cutting touches one region only", () => {
  const labels = draw(6, 1, [[0, 0, 6]], 1);
  paint(labels, 6, [[0, 3, 6]], 2);
  const box = paint(labels, 6, [[0, 1, 5]], 0, 1);
  assert.deepEqual(picture(labels, 6), ["1..222"]);
  assert.deepEqual(box, { x0: 1, y0: 0, x1: 5, y1: 1 });
});

test("holes are the unlabelled pixels that a region encloses", () => {
  const rows = [
    "1111111.",
    "1..1.21.", // two holes; the second holds another region's pixel, which stays
    "1111111.",
    "11.11111", // a bay: open to the border of the region's box
  ];
  const labels = Uint8Array.from(rows.join(""), (c) => (c === "." ? 0 : Number(c)));
  paint(labels, 8, holeSpans(labels, 8, 4, 1), 1);
  assert.deepEqual(picture(labels, 8), ["1111111.", "1111121.", "1111111.", "11.11111"]);
  assert.deepEqual(holeSpans(labels, 8, 4, 5), []);
});

test("runs describe a label map exactly, and come back the same", () => {
  const random = generator(11);
  for (let round = 0; round < 40; round++) {
    const labels = new Uint8Array(500).subarray(round % 5).subarray(0, 1 + Math.floor(random(400))); // begins anywhere in memory
    for (let i = 0, value = 0; i < labels.length; i++) {
      if (random(1) < (round % 2 ? 0.2 : 0.03)) value = Math.floor(random(10));
      labels[i] = value;
    }
    const runs = encodeRuns(labels);
    assert.deepEqual(decodeRuns(runs, labels.length), labels);
    for (let i = 2; i < runs.length; i += 2) assert.notEqual(runs[i], runs[i - 2], "a run is as long as can be");
  }
  assert.deepEqual([...encodeRuns(Uint8Array.of(0, 0, 3, 3, 3, 0))], [0, 2, 3, 3, 0, 1]);
});

test("runs that do not fit are refused", () => {
  assert.throws(() => decodeRuns([0, 5], 6), /5 pixels, the image has 6/);
  assert.throws(() => decodeRuns([0, 7], 6), /7 pixels, the image has 6/);
  assert.throws(() => decodeRuns([0, 6, 1], 6), /the image has 6/);
  assert.throws(() => decodeRuns([10, 6], 6), /label 10/);
});

test("undo and redo walk through any strokes and come back to the same pixels", () => {
  const random = generator(5);
  const [w, h] = [24, 18];
  const history = new History();
  const labels = new Uint8Array(w * h);
  const states = [labels.slice()];
  while (states.length < 20) {
    const before = labels.slice();
    paint(labels, w, brushSpans([random(w), random(h)], [random(w), random(h)], 1 + random(5), w, h), Math.floor(random(4)));
    if (history.record(before, labels, w)) states.push(labels.slice());
    else assert.deepEqual(labels, before);
  }
  for (let i = states.length - 2; i >= 0; i--) {
    assert.ok(history.undo(labels, w));
    assert.deepEqual(labels, states[i]);
  }
  assert.equal(history.undo(labels, w), null);
  for (let i = 1; i < 8; i++) {
    history.redo(labels, w);
    assert.deepEqual(labels, states[i]);
  }
  const before = labels.slice();
  labels.fill(4);
  history.record(before, labels, w);
  assert.equal(history.redo(labels, w), null, "a new stroke ends the redo");
});

test("undo remembers a bounded number of strokes", () => {
  const history = new History(3);
  const labels = new Uint8Array(4);
  for (let value = 1; value < 9; value++) {
    const before = labels.slice();
    labels.fill(value);
    history.record(before, labels, 2);
  }
  while (history.undo(labels, 2));
  assert.deepEqual([...labels], [5, 5, 5, 5]);
});

test("boxes and counts of regions", () => {
  const labels = Uint8Array.from([0, 0, 2, 0, 2, 2, 1, 0, 0]);
  assert.deepEqual(regionBox(labels, 3, 3, 2), { x0: 1, y0: 0, x1: 3, y1: 2 });
  assert.equal(regionBox(labels, 3, 3, 7), null);
  assert.deepEqual(countLabels(encodeRuns(labels)).slice(0, 4), [5, 1, 3, 0]);
});

test("zooming keeps the point under the mouse and never leaves the image", () => {
  const view = zoomAt({ zoom: 2, x: 30, y: 20 }, 1.5, 0.25, 0.5, 200, 100);
  assert.ok(Math.abs(30 + (0.25 * 200) / 2 - (view.x + (0.25 * 200) / view.zoom)) < 1e-9);
  assert.deepEqual(zoomAt({ zoom: 1, x: 0, y: 0 }, 0.1, 1, 1, 200, 100), { zoom: 1, x: 0, y: 0 });
  assert.deepEqual(clampView({ zoom: 4, x: 999, y: -5 }, 200, 100), { zoom: 4, x: 150, y: 0 });
});

test("the display keeps the image's shape, portrait or landscape, within its room", () => {
  assert.deepEqual(fitDisplay(600, 400, 1200, 600), { width: 600, height: 300 });
  assert.deepEqual(fitDisplay(600, 400, 300, 900), { width: 133, height: 400 });
  assert.deepEqual(fitDisplay(600, 400, 64, 64), { width: 400, height: 400 });
});
