// A static page for the widgets: a small model object with the methods that anywidget gives to `render`.
// `window.sent` holds what would go to Python. Python's answer "saved" comes at once, unless `silent`.
window.mount = async ({ esm, css, state, bytes, silent }) => {
  const toView = (text) => state._base64 ? text : new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  state._image = toView(bytes.image);
  state._drawing = { seq: state._drawing.seq, runs: toView(bytes.runs) };
  const listeners = {};
  window.sent = [];
  let lastSaved = state._drawing;
  window.messages = [];
  const model = {
    get: (name) => state[name],
    set(name, value) {
      if (state[name] === value) return;
      state[name] = value;
      for (const listener of listeners[`change:${name}`] ?? []) listener();
    },
    on: (event, listener) => (listeners[event] ??= []).push(listener),
    off(event, listener) { listeners[event] = (listeners[event] ?? []).filter((other) => other !== listener); },
    send(content, _callbacks, buffers) {
      window.messages.push(content);
      window.files = buffers;
    },
    save_changes() {
      if (state._drawing === lastSaved) return;
      lastSaved = state._drawing;
      const { seq, runs } = state._drawing;
      const text = () => btoa(String.fromCharCode(...new Uint8Array(runs.buffer, runs.byteOffset, runs.byteLength)));
      window.sent.push({ seq, runs: state._base64 ? runs : text() });
      if (!silent) model.set("_saved", seq);
    },
  };
  window.model = model;
  window.fromPython = (name, value) => {
    if (name === "_drawing") value = { seq: value.seq, runs: toView(value.runs) };
    if (name === "_candidates") value = { ...value, items: value.items.map((item) => ({ ...item, runs: toView(item.runs) })) };
    if (name === "_image") value = toView(value);
    model.set(name, value);
  };
  window.custom = (content, buffers) => { for (const listener of listeners["msg:custom"] ?? []) listener(content, buffers); };
  window.another = (change) => { // several traits in one message: all are set before anybody hears of it
    change._image = toView(change._image);
    change._drawing = { seq: change._drawing.seq, runs: toView(change._drawing.runs) };
    lastSaved = change._drawing;
    const changed = Object.keys(change).filter((name) => state[name] !== change[name]);
    Object.assign(state, change);
    for (const name of changed) for (const listener of [...(listeners[`change:${name}`] ?? [])]) listener();
  };
  const style = document.createElement("style");
  style.textContent = css;
  document.head.append(style);
  const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
  window.widget = (await import(url)).default();
  widget.initialize({ model });
  window.view = () => {
    const el = document.createElement("div");
    document.body.append(el);
    window.closeView = widget.render({ model, el }); // of the newest view
  };
  window.view();
  window.listening = () => Object.values(listeners).flat().length;
};
