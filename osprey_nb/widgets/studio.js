// The studio in the browser: the canvas, and beside it what the model says.
//
// Python owns the answers (`_panel`); this file only shows them. Every word of a model is set as text.

import { element, regionStyle } from "./dom.js";
import { download, openButton } from "./extras.js";
import { Store } from "./store.js";
import { Clicks } from "./clicks.js";
import { followPicture, mountCanvas } from "./canvas.js";

const REGION = /<?\bregion ?([1-9])\b>?/gi;

/** Text with every <region1> shown as a coloured chip. Nothing in it is read as HTML. */
function withRegions(text, colours) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(REGION)) {
    nodes.push(text.slice(end, match.index), element("span", {
      class: "osprey-mention", style: `--region:${colours[match[1] - 1]}`, text: `region ${match[1]}`,
    }));
    end = match.index + match[0].length;
  }
  return [...nodes, text.slice(end)];
}

/** Replace the text of a node only when it changed, so that a selection survives. */
function write(node, text, busy, colours) {
  if (node.dataset.text !== text) {
    node.dataset.text = text;
    node.replaceChildren(...withRegions(text, colours));
  }
  node.classList.toggle("osprey-writing", busy);
  node.hidden = !text && !busy;
}

/** The card of one region: chip, short description, the detailed one, errors. */
class Card {
  constructor(region, store, colours, send) {
    this.colours = colours;
    const testid = (name) => ({ "data-testid": `answer-${region}-${name}` });
    this.short = element("p", { class: "osprey-short", ...testid("short") });
    this.detailed = element("p", { class: "osprey-detailed", ...testid("detailed") });
    this.error = element("div", { class: "osprey-error", role: "alert", ...testid("error") });
    this.more = element("button", {
      type: "button", class: "osprey-button osprey-quiet", title: "Ask for a detailed description", onclick: () => send("detail", { region }),
      ...testid("detail"),
    });
    this.retry = element("button", {
      type: "button", class: "osprey-button osprey-quiet", text: "Try again", onclick: () => send("describe", { region, detail: this.failed }), ...testid("retry"),
    });
    const chip = element("button", {
      type: "button", class: "osprey-chip osprey-filled", style: regionStyle(colours[region - 1]), text: String(region),
      title: `Select region ${region}`, "aria-label": `Select region ${region}`, onclick: () => store.select(region),
    });
    this.name = element("p", { class: "osprey-named", ...testid("name") });
    this.node = element("article", {
      class: "osprey-card", style: regionStyle(colours[region - 1]), "aria-label": `Region ${region}`, ...testid("card"),
    }, chip, element("div", { class: "osprey-said" }, this.name, this.short, this.detailed, this.error,
      element("div", { class: "osprey-actions" }, this.more, this.retry)));
  }

  update({ short, detailed, busy, error, failed }) {
    this.failed = failed;
    write(this.short, short, busy.includes("short"), this.colours);
    write(this.detailed, detailed, busy.includes("detailed"), this.colours);
    this.node.dataset.state = error ? "failed" : busy.length ? "writing" : "done";
    this.node.setAttribute("aria-busy", String(busy.length > 0));
    this.error.textContent = error;
    this.error.hidden = !error;
    this.retry.hidden = !error;
    this.more.hidden = Boolean(error || detailed || busy.includes("short"));
    this.more.disabled = busy.length > 0;
    this.more.textContent = busy.length ? "Looking closer …" : "Describe in detail";
  }
}

/** A question and its answer; `ended` says that the regions changed after it. */
class Bubbles {
  constructor(number, colours) {
    this.colours = colours;
    const bubble = (name) => element("div", { class: `osprey-turn osprey-${name}`, "data-testid": `turn-${number}-${name}` });
    [this.question, this.answer, this.error, this.note] = ["question", "answer", "failed", "note"].map(bubble);
    this.note.textContent = "The regions changed: a new conversation begins.";
    this.node = element("div", { class: "osprey-exchange" }, this.question, this.answer, this.error, this.note);
  }

  update({ question, answer, busy, error }, ended) {
    write(this.question, question, false, this.colours);
    write(this.answer, answer, busy, this.colours);
    this.error.textContent = error;
    this.error.hidden = !error;
    this.note.hidden = !ended;
    this.node.dataset.state = error ? "failed" : busy ? "writing" : "done";
    this.node.setAttribute("aria-busy", String(busy)); // read out when it is whole, not word by word
  }
}

/** Questions to begin with, about the regions that are drawn: at most three. */
function readyQuestions(regions) {
  const [one, other] = regions.slice(-2).map((number) => `<region${number}>`);
  if (!one) return ["What do you see in this picture?", "Where is this?"];
  if (!other) return [`Where is ${one}?`, `What is the pattern of ${one}?`, "What do you see in this picture?"];
  return [`Where is ${other}?`, `Which is larger, ${one} or ${other}?`, `What are ${one} and ${other}?`];
}

/** The bar above the picture: other pictures, everything at once, the session in files, earlier pictures. */
function mountBar(model, host) {
  const send = (kind, content = {}) => model.send({ kind, ...content });
  const button = (name, text, title, act) => element("button", {
    type: "button", class: "osprey-button osprey-quiet", text, title, "data-testid": name, onclick: act,
  });
  const choice = (name, label, act) => element("select", {
    class: "osprey-box osprey-select", "data-testid": name, "aria-label": label, onchange: () => {
      if (choices[name].value) act(Number(choices[name].value));
      choices[name].value = "";
    },
  });
  const choices = {
    sample: choice("sample", "Open a drawing", (number) => send("sample", { number })),
    history: choice("history", "Go back to an earlier picture", (number) => send("reopen", { number })),
  };
  const option = (value, text) => element("option", { value, text });
  choices.sample.append(option("", "Drawings"), ...model.get("_samples").map((number, i) => option(number, `Drawing ${i + 1}`)));
  const path = element("input", {
    type: "text", class: "osprey-box osprey-path", placeholder: "or a path, then Enter", "data-testid": "path", "aria-label": "Path of a picture",
    onkeydown: (event) => {
      event.stopPropagation();
      if (event.key === "Enter" && path.value.trim()) send("path", { path: path.value });
    },
  });
  const forms = [["json", "JSON", "all of it"], ["png", "PNG", "the picture with what was said"], ["py", "Python", "code that asks the same"]];
  const bar = element("div", { class: "osprey-bar osprey-top", role: "toolbar", "aria-label": "Pictures and sessions" },
    choices.sample, ...openButton(model, "Upload", "picture", "image/*"), path, choices.history,
    element("span", { class: "osprey-group osprey-end" },
      button("everything", "Describe everything", "Let SAM find all there is, and describe it", () => send("everything")),
      element("span", { class: "osprey-soft", text: "Export" }),
      ...forms.map(([form, text, title]) => button(`export-${form}`, text, `Export the session: ${title}`, () => send("export", { form })))));
  host.append(bar);
  const past = () => {
    const titles = model.get("_history");
    choices.history.hidden = !titles.length;
    choices.history.replaceChildren(option("", "Earlier"), ...titles.map((title, i) => option(i, title)));
  };
  const file = (content, buffers) => { if (content?.kind === "file") download(content.name, buffers, content.type); };
  model.on("change:_history", past);
  model.on("msg:custom", file);
  past();
  return () => { model.off("change:_history", past); model.off("msg:custom", file); };
}

/** Where the milliseconds go, in one line. */
function timesText({ read, first, whole, answers }) {
  const ms = (value) => (value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en"));
  const parts = [];
  if (read != null) parts.push(`Picture read once: ${ms(read)} ms`);
  if (first != null) parts.push(`first word: ${ms(first)} ms`, `${answers > 1 ? `${answers} whole answers` : "whole answer"}: ${ms(whole)} ms`);
  return parts.join(" · ");
}

function mountAnswers(model, store, host) {
  const colours = model.get("_colours");
  const send = (kind, content = {}) => model.send({ kind, ...content });
  const cards = new Map();
  const talks = [];
  const empty = element("div", { class: "osprey-empty", "data-testid": "empty" },
    element("strong", { text: "Draw over something in the picture." }),
    element("span", { text: "When you let go, the model says what is under your mask." }));
  const next = element("p", { class: "osprey-next", text: "Another thing? Press 2 to 9, or a number under the picture, before you draw it." });
  const list = element("div", { class: "osprey-cards", "aria-live": "polite" });
  const times = element("p", { class: "osprey-next osprey-times", "data-testid": "times" });
  const talk = element("div", { class: "osprey-talk", role: "log", "aria-live": "polite", "data-testid": "talk" });
  const forget = element("button", {
    type: "button", class: "osprey-button osprey-quiet", text: "New conversation", "data-testid": "forget", onclick: () => send("forget"),
  });
  const mentions = element("span", { class: "osprey-mentions" });
  const ready = element("span", { class: "osprey-mentions osprey-ready", "aria-label": "Questions to begin with" });
  const question = element("textarea", {
    class: "osprey-box", rows: 1, "data-testid": "question", "aria-label": "Ask about the regions or the picture",
    oninput: () => grow(), onkeydown: (event) => {
      event.stopPropagation(); // letters are text here, no shortcuts
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      ask();
    },
  });
  const askButton = element("button", { type: "button", class: "osprey-button osprey-primary", text: "Ask", "data-testid": "ask", onclick: () => ask() });
  const talkTitle = element("h3", { class: "osprey-heading" }, "Conversation", forget);
  host.append(
    element("h3", { class: "osprey-heading", text: "What the model sees" }), empty, list, next, times, talkTitle, talk,
    element("div", { class: "osprey-ask" }, question, askButton), mentions, ready);
  let known = null;

  function grow() {
    question.style.height = "auto";
    question.style.height = `${Math.min(question.scrollHeight + 2, 140)}px`;
  }

  function insert(region) {
    const before = question.value.slice(0, question.selectionStart);
    const word = `${before && !/\s$/.test(before) ? " " : ""}<region${region}> `;
    question.setRangeText(word, question.selectionStart, question.selectionEnd, "end");
    question.focus();
    grow();
  }

  function ask() {
    const text = question.value.trim();
    if (!text) return;
    send("ask", { text });
    question.value = "";
    grow();
  }

  function refresh() {
    const { regions, talk: turns, since } = model.get("_panel");
    for (const [region, card] of cards) {
      if (regions.some((answer) => answer.region === region)) continue;
      card.node.remove();
      cards.delete(region);
    }
    for (const answer of regions) {
      if (!cards.has(answer.region)) cards.set(answer.region, new Card(answer.region, store, colours, send));
      cards.get(answer.region).update(answer);
    }
    const nodes = regions.map((answer) => cards.get(answer.region).node);
    nodes.forEach((node, i) => { if (list.children[i] !== node) list.insertBefore(node, list.children[i] ?? null); });
    empty.hidden = regions.length > 0;
    next.hidden = regions.length !== 1;

    while (talks.length > turns.length) talks.pop().node.remove();
    turns.forEach((turn, i) => {
      if (!talks[i]) talk.append((talks[i] = new Bubbles(i + 1, colours)).node);
      talks[i].update(turn, since === i + 1);
    });
    if (turns.length) talk.scrollTop = talk.scrollHeight;
    talk.hidden = forget.hidden = !turns.length;

    question.placeholder = regions.length ? `What colour is <region${regions[0].region}>?` : "Ask about the picture, or draw a region first";
    const numbers = regions.map((answer) => answer.region);
    if (String(numbers) !== known) {
      known = String(numbers);
      mentions.replaceChildren(...(numbers.length ? ["Mention"] : []), ...numbers.map((number) => element("button", {
        type: "button", class: "osprey-button osprey-mention", style: regionStyle(colours[number - 1]), text: `region ${number}`,
        title: `Put <region${number}> into the question`, "data-testid": `mention-${number}`, onclick: () => insert(number),
      })));
      ready.replaceChildren(...readyQuestions(numbers).map((text, i) => element("button", {
        type: "button", class: "osprey-button osprey-quiet", "data-testid": `ready-${i + 1}`, onclick: () => send("ask", { text }),
      }, ...withRegions(text, colours))));
    }
    select();
  }

  function select() {
    for (const [region, card] of cards) {
      card.node.classList.toggle("osprey-selected", region === store.region);
      card.name.textContent = store.names[region - 1];
      card.name.hidden = !card.name.textContent;
    }
  }

  const clock = () => { times.textContent = timesText(model.get("_times")); };
  model.on("change:_panel", refresh);
  model.on("change:_times", clock);
  store.listeners.add(select);
  refresh();
  clock();
  return () => {
    model.off("change:_panel", refresh);
    model.off("change:_times", clock);
    store.listeners.delete(select);
  };
}

/** anywidget calls this once per widget, then `render` once per view: the views share one store. */
export default () => {
  let store = null;
  let clicks = null;
  return {
    initialize({ model }) { store = new Store(model); clicks = new Clicks(model, store); },
    render({ model, el }) {
      const left = element("div", { class: "osprey-left" });
      const right = element("section", { class: "osprey-right", "aria-label": "What the model sees" });
      const banner = element("div", { class: "osprey-banner", role: "note", "data-testid": "banner", });
      const warn = () => {
        banner.textContent = model.get("_banner");
        banner.hidden = !banner.textContent;
        banner.classList.toggle("osprey-unlike", model.get("_unlike"));
      };
      for (const name of ["_banner", "_unlike"]) model.on(`change:${name}`, warn);
      warn();
      const top = element("div", { class: "osprey-over" });
      const studio = element("div", { class: "osprey osprey-studio", "data-lm-suppress-shortcuts": "true" },
        element("div", { class: "osprey-panel" }, banner, top, element("div", { class: "osprey-columns" }, left, right)));
      el.append(studio);
      const unmounts = [followPicture(model, () => mountCanvas(model, store, clicks, left, left, 40)), mountAnswers(model, store, right), mountBar(model, top),
        () => { for (const name of ["_banner", "_unlike"]) model.off(`change:${name}`, warn); }];
      return () => unmounts.forEach((unmount) => unmount());
    },
  };
};
