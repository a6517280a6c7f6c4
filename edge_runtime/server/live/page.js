"use strict";

const LONGEST = 120;  // points of a line: two minutes
const AGAIN_MS = 5000;
const PATIENCE_MS = 5000;  // without a snapshot, of which one comes each second
const LEVELS = ["p50", "p90", "p99"];
const REASONS = { REJECTED: "rejected", CANCELED: "canceled", BACKEND: "failed: backend", OTHER: "failed: other" };
const UNKNOWN = "–";
const cards = new Map();
const find = (id) => document.getElementById(id);
const number = (value, digits = 0) =>
  value.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const rate = (value) => (value === null ? UNKNOWN : number(value, value < 100 ? 1 : 0));
const milliseconds = (value) => number(value, value < 1 ? 3 : value < 10 ? 2 : value < 100 ? 1 : 0);
const measured = (value, text) => (value === null ? "not measured" : text(value));

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function duration(seconds) {
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24, minutes = Math.floor(seconds / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

// Rows of a table by their titles; a row's cells stay, only their text changes.
class Rows {
  constructor(body) {
    this.body = body;
    this.rows = new Map();
  }

  show(title, texts) {
    if (!this.rows.has(title)) {
      const row = this.body.insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = title;
      row.append(head);
      this.rows.set(title, texts.map(() => row.insertCell()));
    }
    this.rows.get(title).forEach((cell, index) => {
      setText(cell, texts[index]);
      cell.className = texts[index] === "n too small" ? "small" : "";
    });
  }
}

// The last values of some measures; a value that isn't known leaves a gap.
class Lines {
  constructor(svg, most) {
    this.paths = [...svg.children];
    this.most = most;
    this.values = this.paths.map(() => []);
  }

  add(values, text) {
    this.values.forEach((line, index) => {
      line.push(values[index]);
      if (line.length > LONGEST) line.shift();
    });
    const most = Math.max(0, ...this.values.flat().filter((value) => value !== null));
    setText(this.most, most ? `, up to ${text(most)}` : "");
    this.values.forEach((line, index) => this.paths[index].setAttribute("d", this.drawn(line, most || 1)));
  }

  drawn(line, most) {
    let isDown = false;
    return line.map((value, index) => {
      const verb = value === null ? "" : isDown ? "L" : "M";
      isDown = value !== null;
      const point = `${LONGEST - line.length + index},${(31 - (29 * value) / most).toFixed(1)}`;
      return verb === "M" ? `M${point}h0` : verb && verb + point;
    }).join("");
  }
}

class Card {
  constructor() {
    this.node = find("model").content.firstElementChild.cloneNode(true);
    this.parts = {};
    for (const node of this.node.querySelectorAll("[data-is]")) this.parts[node.dataset.is] = node;
    const { parts } = this;
    this.rates = new Lines(parts.rates, parts.most_rate);
    this.latencies = new Lines(parts.latencies, parts.most_ms);
    this.percentiles = new Rows(parts.percentiles);
    this.outcomes = new Rows(parts.outcomes);
  }

  show(model) {
    const { parts } = this, { total, windows: [short, long] } = model;
    setText(parts.name, model.name);
    setText(parts.version, `version ${model.version}`);
    setText(parts.plan, `${model.precision} on ${model.backend} (${model.device})`);
    setText(parts.state, model.state);
    parts.state.className = model.state === "ready" ? "good" : "bad";
    setText(parts.rate, rate(short.requests_per_s));
    setText(parts.inferences, rate(short.inferences_per_s));
    setText(parts.waiting, number(model.waiting));
    this.rates.add([short.requests_per_s], rate);
    this.latencies.add([short.latency.p50_ms, short.latency.p99_ms], milliseconds);
    this.showPercentiles("10 s", short.latency);
    this.showPercentiles("60 s", long.latency);
    this.showPercentiles("in all", total.latency);
    this.showPercentiles("wait, 60 s", long.wait);
    this.outcomes.show("answered", [number(long.succeeded), number(total.succeeded)]);
    for (const [reason, count] of Object.entries(total.failed)) {
      this.outcomes.show(REASONS[reason] ?? reason, [number(long.failed[reason]), number(count)]);
    }
  }

  showPercentiles(title, found) {
    const texts = LEVELS.map((level) => {
      const value = found[`${level}_ms`];
      if (value !== null) return milliseconds(value);
      return found.n ? "n too small" : UNKNOWN;
    });
    this.percentiles.show(title, [...texts, number(found.n)]);
  }
}

function showModels(models) {
  const served = new Set();
  for (const model of models) {
    const key = `${model.name}/${model.version}`;
    served.add(key);
    if (!cards.has(key)) {
      cards.set(key, new Card());
      find("models").append(cards.get(key).node);
    }
    cards.get(key).show(model);
  }
  for (const [key, card] of cards) {
    if (served.has(key)) continue;
    card.node.remove();
    cards.delete(key);
  }
  find("none").hidden = models.length > 0;
}

function setState(text, isGood) {
  setText(find("state"), text);
  find("state").className = isGood ? "good" : "bad";
}

function show(snapshot) {
  const { server, board, models } = snapshot;
  setText(find("version"), server.version);
  setText(find("uptime"), duration(server.uptime_s));
  setText(find("temperature"), measured(board.temperature_c, (value) => `${number(value, 1)} °C`));
  setText(find("power"), measured(board.power_mw, (value) => `${number(value / 1000, 2)} W`));
  setText(find("mode"), board.power_mode ?? "not known");
  const onCpu = models.filter((model) => model.device === "cpu").map((model) => model.name);
  find("fallback").hidden = !onCpu.length;
  setText(find("fallback"), `Runs on ONNX Runtime CPU, not on a GPU: ${onCpu.join(", ")}`);
  showModels(models);
  document.body.classList.remove("lost");
  find("lost").hidden = true;
  setState(server.ready ? "ready" : "not ready", server.ready);
}

function lose(text) {
  document.body.classList.add("lost");
  find("lost").hidden = false;
  setText(find("lost"), text);
  setState("no connection", false);
}

// A browser connects again by itself unless the server refuses; a page that nobody sees asks for nothing.
let events = null;
let patience = 0;

function wait() {
  clearTimeout(patience);
  patience = setTimeout(lose, PATIENCE_MS, "The server says nothing; what is below is old.");
}

function connect() {
  if (events !== null || document.hidden) return;
  events = new EventSource("live/events");
  events.onmessage = (event) => {
    wait();
    show(JSON.parse(event.data));
  };
  events.onerror = () => {
    clearTimeout(patience);
    if (events.readyState !== EventSource.CLOSED) {
      lose("The connection is lost; what is below is old. Trying again.");
      return;
    }
    lose("The server refuses to be watched, or is gone; what is below is old. Trying again soon.");
    events = null;
    setTimeout(connect, AGAIN_MS);
  };
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden && events !== null) {
    clearTimeout(patience);
    events.close();
    events = null;
  }
  connect();
});
connect();
