"use strict";

const LONGEST = 120;  // points of a line: two minutes
const cards = new Map();
const find = (id) => document.getElementById(id);
const number = (value, digits) =>
  value.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function duration(seconds) {
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24, minutes = Math.floor(seconds / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

function milliseconds(value, n) {
  if (value === null) return n ? "too few" : "–";
  return `${number(value, value < 10 ? 2 : value < 100 ? 1 : 0)} ms`;
}

function failures(failed) {
  const found = Object.entries(failed).filter(([, count]) => count);
  return found.length ? found.map(([reason, count]) => `${reason.toLowerCase()} ${number(count, 0)}`).join(", ") : "0";
}

function draw(svg, values) {
  const most = Math.max(...values.map((value) => value ?? 0), 1e-9);
  const start = LONGEST - values.length;
  const points = values.map((value, index) => `${start + index},${(31 - 29 * (value ?? 0) / most).toFixed(1)}`);
  svg.firstElementChild.setAttribute("points", points.join(" "));
}

class Card {
  constructor() {
    this.node = find("model").content.firstElementChild.cloneNode(true);
    this.parts = {};
    for (const node of this.node.querySelectorAll("[data-is]")) this.parts[node.dataset.is] = node;
    this.rates = [];
    this.p50s = [];
  }

  show(model) {
    const { parts } = this, { latency } = model;
    setText(parts.name, model.name);
    setText(parts.version, `version ${model.version}`);
    setText(parts.plan, `${model.precision} on ${model.backend} (${model.device})`);
    setText(parts.rate, model.requests_per_s === null ? "–" : number(model.requests_per_s, 1));
    setText(parts.waiting, number(model.waiting, 0));
    for (const level of ["p50", "p90", "p99"]) setText(parts[level], milliseconds(latency[`${level}_ms`], latency.n));
    setText(parts.succeeded, number(model.succeeded, 0));
    setText(parts.failed, failures(model.failed));
    this.add(this.rates, model.requests_per_s, parts.rates);
    this.add(this.p50s, latency.p50_ms, parts.p50s);
  }

  add(values, value, svg) {
    values.push(value);
    if (values.length > LONGEST) values.shift();
    draw(svg, values);
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
    if (!served.has(key)) {
      card.node.remove();
      cards.delete(key);
    }
  }
}

function setState(text, isGood) {
  setText(find("state"), text);
  find("state").className = isGood ? "good" : "bad";
}

function show(snapshot) {
  const { server, board, models } = snapshot;
  setText(find("version"), server.version);
  setText(find("uptime"), duration(server.uptime_s));
  setText(find("temperature"), board.temperature_c === null ? "not measured" : `${number(board.temperature_c, 1)} °C`);
  setText(find("power"), board.power_mw === null ? "not measured" : `${number(board.power_mw / 1000, 2)} W`);
  setText(find("window"), String(snapshot.window_s));
  const onCpu = models.filter((model) => model.device === "cpu");
  find("fallback").hidden = !onCpu.length;
  setText(find("fallback"), `On the CPU, by ONNX Runtime, not on a GPU: ${onCpu.map((model) => model.name).join(", ")}`);
  showModels(models);
  document.body.classList.remove("lost");
  setState(server.ready ? "ready" : "not ready", server.ready);
}

const events = new EventSource("live/events");
events.onmessage = (event) => show(JSON.parse(event.data));
events.onerror = () => {
  document.body.classList.add("lost");
  setState(events.readyState === EventSource.CLOSED ? "no connection: reload the page" : "no connection: trying again", false);
};
