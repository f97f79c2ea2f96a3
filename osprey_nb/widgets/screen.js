// What is seen of a canvas: the picture, the regions over it, the guides under the pointer; zoom and pan.

import { svg } from "./dom.js";
import { clampView, fitDisplay, joinBoxes, zoomAt } from "./geometry.mjs";
import { bytesOf } from "./store.js";

/** The label map as colour: filled at an opacity, with a crisp line along each region's edge. */
class Overlay {
  constructor(store, canvas, colours) {
    this.store = store;
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.inks = colours.map((hex) => { // 0xBBGGRR, as ImageData lies in memory
      const rgb = parseInt(hex.slice(1), 16);
      return ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16);
    });
  }

  /** Which image column and row lies under each device pixel. */
  look(view) {
    const { width, height } = this.store;
    const lookUp = (count, start, extent, limit) => Int32Array.from(
      { length: count },
      (_, i) => Math.min(limit - 1, Math.floor(start + ((i + 0.5) / count) * extent)),
    );
    this.view = view;
    this.columns = lookUp(this.canvas.width, view.x, width / view.zoom, width);
    this.rows = lookUp(this.canvas.height, view.y, height / view.zoom, height);
  }

  draw(box, opacity, edge) {
    const { width, height } = this.store;
    const labels = this.store.shown ?? this.store.labels;
    const { canvas, view, columns, rows } = this;
    const sx = (canvas.width * view.zoom) / width;
    const sy = (canvas.height * view.zoom) / height;
    const x0 = Math.max(0, Math.floor((box.x0 - view.x) * sx) - edge - 1);
    const y0 = Math.max(0, Math.floor((box.y0 - view.y) * sy) - edge - 1);
    const x1 = Math.min(canvas.width, Math.ceil((box.x1 - view.x) * sx) + edge + 1);
    const y1 = Math.min(canvas.height, Math.ceil((box.y1 - view.y) * sy) + edge + 1);
    if (x1 <= x0 || y1 <= y0) return;
    const data = this.context.createImageData(x1 - x0, y1 - y0);
    const out = new Uint32Array(data.data.buffer);
    const alpha = Math.round(opacity * 255) << 24;
    const line = 255 << 24;
    for (let y = y0, at = 0; y < y1; y++) {
      const row = rows[y] * width;
      const above = rows[Math.max(0, y - edge)] * width;
      const below = rows[Math.min(canvas.height - 1, y + edge)] * width;
      for (let x = x0; x < x1; x++, at++) {
        const label = labels[row + columns[x]];
        if (!label) continue;
        const inside = labels[above + columns[x]] === label && labels[below + columns[x]] === label
          && labels[row + columns[Math.max(0, x - edge)]] === label
          && labels[row + columns[Math.min(canvas.width - 1, x + edge)]] === label;
        out[at] = this.inks[label - 1] | (inside ? alpha : line);
      }
    }
    this.context.putImageData(data, x0, y0);
  }
}

/** The stage of one view. Points are in image pixels everywhere; only this class knows the screen's. */
export class Screen {
  constructor(model, store, stage, onFrame) {
    this.model = model;
    this.store = store;
    this.stage = stage;
    stage.style.aspectRatio = `${store.width} / ${store.height}`; // holds its place where it is not yet laid out
    stage.style.width = `min(100%, ${(model.get("height") * store.width) / store.height}px)`;
    this.onFrame = onFrame;
    this.opacity = model.get("opacity");
    this.view = { zoom: 1, x: 0, y: 0 };
    this.width = 0; // CSS pixels, known with the first layout
    this.dirty = null;
    this.frame = 0;
    const layer = (name) => {
      const canvas = document.createElement("canvas");
      canvas.className = `osprey-layer osprey-${name}`;
      return canvas;
    };
    this.picture = layer("picture");
    this.canvas = layer("overlay");
    this.guides = svg("svg", { class: "osprey-layer osprey-guides", "aria-hidden": "true" });
    stage.append(this.picture, this.canvas, this.guides);
    this.overlay = new Overlay(store, this.canvas, model.get("_colours"));
    const url = URL.createObjectURL(new Blob([bytesOf(model.get("_image"))], { type: model.get("_image_type") }));
    const image = new Image();
    image.onload = () => {
      this.image = image;
      URL.revokeObjectURL(url);
      this.redraw();
      stage.dataset.ready = "true";
    };
    image.src = url;
  }

  get ratio() { return window.devicePixelRatio || 1; }

  /** Fit the stage into `available` CSS pixels. */
  layout(available) {
    const size = fitDisplay(available, this.model.get("height"), this.store.width, this.store.height);
    this.width = size.width; // asked of the page, it would be 0 while the stage is out of sight
    this.stage.style.width = `${size.width}px`;
    this.stage.style.height = `${size.height}px`;
    for (const canvas of [this.picture, this.canvas]) { // which makes them blank
      canvas.width = Math.round(size.width * this.ratio);
      canvas.height = Math.round(size.height * this.ratio);
    }
    this.guides.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
    this.redraw();
    this.paint();
    return size;
  }

  redraw() {
    const { width, height } = this.store;
    const { zoom, x, y } = this.view;
    this.overlay.look(this.view);
    if (this.image) {
      const sx = this.image.naturalWidth / width; // the picture may be a smaller proxy of the image
      const sy = this.image.naturalHeight / height;
      const context = this.picture.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(this.image, x * sx, y * sy, (width / zoom) * sx, (height / zoom) * sy,
        0, 0, this.picture.width, this.picture.height);
    }
    this.schedule({ x0: 0, y0: 0, x1: width, y1: height });
  }

  /** Repaint a box of the regions with the next frame. */
  schedule(box) {
    this.dirty = joinBoxes(this.dirty, box);
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.paint();
      this.onFrame();
    });
  }

  paint() {
    if (!this.dirty || !this.overlay.columns) return;
    this.overlay.draw(this.dirty, this.opacity, Math.max(1, Math.round(1.5 * this.ratio)));
    this.dirty = null;
  }

  setOpacity(opacity) {
    this.opacity = opacity;
    this.redraw();
  }

  show(view) {
    this.view = clampView(view, this.store.width, this.store.height);
    this.redraw();
  }

  whole() { this.show({ zoom: 1, x: 0, y: 0 }); }

  /** Zoom around a pointer event, or around the middle. */
  zoom(factor, event = null) {
    const rect = this.stage.getBoundingClientRect();
    const u = event ? (event.clientX - rect.left) / rect.width : 0.5;
    const v = event ? (event.clientY - rect.top) / rect.height : 0.5;
    this.show(zoomAt(this.view, factor, u, v, this.store.width, this.store.height));
  }

  /** CSS pixels per image pixel. */
  scale() { return (this.width / this.store.width) * this.view.zoom; }

  point(event) {
    const rect = this.stage.getBoundingClientRect();
    const { zoom, x, y } = this.view;
    return [
      x + ((event.clientX - rect.left) / rect.width) * (this.store.width / zoom),
      y + ((event.clientY - rect.top) / rect.height) * (this.store.height / zoom),
    ];
  }

  near(a, b, cssPixels) { return Math.hypot(a[0] - b[0], a[1] - b[1]) * this.scale() <= cssPixels; }

  /** The open box or polygon, or the ring of the brush (`size` in image pixels). */
  guide(draft, pointer, size, clicks = null) {
    const scale = this.scale();
    const onScreen = ([x, y]) => [(x - this.view.x) * scale, (y - this.view.y) * scale];
    const shapes = [];
    if (draft?.a) {
      const [[ax, ay], [bx, by]] = [onScreen(draft.a), onScreen(draft.b)];
      shapes.push(svg("rect", { x: Math.min(ax, bx), y: Math.min(ay, by), width: Math.abs(bx - ax), height: Math.abs(by - ay) }));
    } else if (draft?.points) {
      const points = [...draft.points, ...(pointer && !draft.dragging ? [pointer] : [])].map(onScreen);
      shapes.push(svg("polyline", { points: points.map((p) => p.join(",")).join(" ") }));
      shapes.push(svg("circle", { cx: points[0][0], cy: points[0][1], r: 5, class: "osprey-vertex" }));
    } else if (pointer && size) {
      const [cx, cy] = onScreen(pointer);
      shapes.push(svg("circle", { cx, cy, r: Math.max(2, (size / 2) * scale) }));
    }
    if (clicks?.box) {
      const [[ax, ay], [bx, by]] = [onScreen(clicks.box.slice(0, 2)), onScreen(clicks.box.slice(2))];
      shapes.push(svg("rect", { x: ax, y: ay, width: bx - ax, height: by - ay, class: "osprey-prompt" }));
    }
    clicks?.points.forEach((point, i) => {
      const [cx, cy] = onScreen(point);
      const inside = clicks.labels[i] === 1;
      shapes.push(svg("g", { class: inside ? "osprey-inside" : "osprey-outside" },
        svg("circle", { cx, cy, r: 8 }),
        svg("path", { d: `M${cx - 4} ${cy}h8${inside ? `M${cx} ${cy - 4}v8` : ""}` })));
    });
    this.guides.replaceChildren(...shapes);
  }
}
