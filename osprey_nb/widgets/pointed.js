// A figure with places in it that can be clicked and dragged over. Python is told where, as fractions of the figure's width and
// height from its upper left corner; what is there, only Python knows.
const make = (tag, parent, className) => {
  const element = document.createElement(tag);
  element.className = className;
  parent.append(element);
  return element;
};

function render({ model, el }) {
  const frame = make("div", el, "osprey-pointed");
  const image = make("img", frame, "osprey-pointed-image");
  const places = make("div", frame, "osprey-pointed-places");
  const line = make("div", frame, "osprey-pointed-line");
  image.draggable = false;

  const show = () => {
    const url = URL.createObjectURL(new Blob([model.get("value")], { type: "image/png" }));
    image.onload = image.onerror = () => URL.revokeObjectURL(url);
    image.src = url;
    image.alt = model.get("alt");
  };

  const at = (event) => {
    const box = frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };

  const follow = (place) => {
    let start = null;
    const end = () => { start = null; line.style.display = "none"; };
    place.onpointerdown = (event) => {
      if (event.button) return;
      event.preventDefault();
      place.setPointerCapture(event.pointerId);
      start = [event.clientX, event.clientY, at(event)];
    };
    place.onpointermove = (event) => {
      if (!start) return;
      const [x, y] = [event.clientX - start[0], event.clientY - start[1]];
      const [left, top] = start[2];
      const turn = Math.atan2(y, x);
      Object.assign(line.style, {
        display: Math.hypot(x, y) > 4 ? "block" : "none", width: `${Math.hypot(x, y)}px`,
        left: `${100 * left}%`, top: `${100 * top}%`, transform: `rotate(${turn}rad)`,
      });
    };
    place.onpointerup = (event) => {
      if (!start) return;
      model.set("_pointer", { seq: model.get("_pointer").seq + 1, start: start[2], end: at(event) });
      model.save_changes();
      frame.dataset.state = "busy";
      end();
    };
    place.onpointercancel = end;
  };

  const arrange = () => {
    places.replaceChildren();
    for (const [name, left, top, width, height] of model.get("places")) {
      const place = make("div", places, "osprey-pointed-place");
      place.dataset.testid = `place-${name}`;
      Object.assign(place.style, {
        left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * width}%`, height: `${100 * height}%`,
      });
      follow(place);
    }
  };

  const done = () => { frame.dataset.state = "ready"; };
  const heard = { "change:value": show, "change:places": arrange, "change:_done": done };
  for (const [event, listener] of Object.entries(heard)) model.on(event, listener);
  show();
  arrange();
  done();
  return () => { for (const [event, listener] of Object.entries(heard)) model.off(event, listener); };
}

export default { render };
