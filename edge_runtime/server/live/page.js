"use strict";

const LONGEST = 120;  // points of a line: two minutes
const AGAIN_MS = 5000;
const PATIENCE_MS = 5000;  // without a snapshot, of which one comes each second
const LEVELS = ["p50", "p90", "p99"];
const REASONS = { REJECTED: "rejected", CANCELED: "canceled", BACKEND: "failed: backend", OTHER: "failed: other" };
const UNKNOWN = "–";
const cards = new Map();
const find = (id) => document.getElementById(id);
// Made once for each number of digits: making one takes far longer than its use.
const formats = [0, 1, 2, 3].map((digits) =>
  new Intl.NumberFormat(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits }));
const number = (value, digits = 0) => formats[digits].format(value);
const rate = (value) => (value === null ? UNKNOWN : number(value, value < 100 ? 1 : 0));
const milliseconds = (value) => number(value, value < 1 ? 3 : value < 10 ? 2 : value < 100 ? 1 : 0);
const mebibytes = (nbytes) => `${number(nbytes / 2 ** 20)} MiB`;
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

  keep(titles) {
    const kept = new Set(titles);
    for (const [title, cells] of this.rows) {
      if (kept.has(title)) continue;
      cells[0].parentNode.remove();
      this.rows.delete(title);
    }
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
    parts.ladder.hidden = model.ladder === null;
    if (model.ladder !== null) this.showLadder(model.ladder);
    setText(parts.rate, rate(short.requests_per_s));
    setText(parts.inferences, rate(short.inferences_per_s));
    setText(parts.waiting, number(model.waiting));
    setText(parts.memory, model.memory_nbytes === null ? "not known" : mebibytes(model.memory_nbytes));
    setText(parts.memory_how, model.memory_nbytes === null || model.memory_is_measured ? "" : ", estimated");
    parts.remark.hidden = !model.remark;
    setText(parts.remark, model.remark);
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

  showLadder({ rungs, rung, name, why, since_s, switches }) {
    const { ladder } = this.parts, for_ = duration(Math.floor(since_s));
    const steps = `${number(switches)} switch${switches === 1 ? "" : "es"}; ladder: ${rungs.map((each) => each.name).join(" → ")}`;
    setText(ladder, rung
      ? `Degraded: ${name} answers, for ${for_}. ${why} (${steps})`
      : `Not degraded${why && `, for ${for_}: ${why}`} (${steps})`);
    ladder.classList.toggle("bad", rung > 0);
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

const watts = (mw) => `${number(mw / 1000, 2)} W`;
const degrees = (value) => `${number(value, 1)} °C`;
const percent = (value) => `${number(value)} %`;
const POWER_KINDS = {
  "input-rail": ", input rail", "sum-of-rails": ", sum of rails", gpu: ", GPU board", package: ", CPU package",
};

// Points of the last minutes in a picture of their own range; where a value isn't known is a gap.
function drawn(values, ago) {
  const known = values.filter((value) => value !== null);
  const [least, most] = [Math.min(...known), Math.max(...known)], span = Math.max(ago[0], 1);
  let isDown = false;
  const path = values.map((value, index) => {
    const verb = value === null ? "" : isDown ? "L" : "M";
    isDown = value !== null;
    const across = 119 * (1 - ago[index] / span), down = 25 - (22 * (value - least)) / (most - least || 1);
    return verb && `${verb}${across.toFixed(1)},${down.toFixed(1)}${verb === "M" ? "h0" : ""}`;
  }).join("");
  return { path, least, most, isKnown: known.length > 0 };
}

function showLine(name, values, ago, text) {
  const { path, least, most, isKnown } = drawn(values, ago);
  find(`${name}_line`).firstElementChild.setAttribute("d", path);
  setText(find(`${name}_range`), isKnown ? `, ${text(least)} to ${text(most)} in ${duration(Math.round(ago[0]))}` : "");
}

function showHistory({ ago_s: ago, power_mw, hottest_c, is_throttled }) {
  find("charts").hidden = ago.length < 2;
  if (ago.length < 2) return;
  showLine("power", power_mw, ago, (value) => number(value / 1000, 1));
  showLine("heat", hottest_c, ago, (value) => number(value, 1));
  const across = (index) => (119 * (1 - ago[index] / Math.max(ago[0], 1))).toFixed(1);
  const spans = is_throttled.map((is, index) =>
    is ? `M${across(index)},30H${across(Math.min(index + 1, ago.length - 1))}` : "");
  find("heat_line").lastElementChild.setAttribute("d", spans.join(""));
}

function throttleText(board) {
  if (board.throttles === null) return ["Throttling: not known", ""];
  if (board.throttles.length) {
    const causes = board.throttles.map(({ cause, where, detail }) => `${cause}${where && ` (${where})`}: ${detail}`);
    return [`Throttled. ${causes.join("; ")}`, "bad"];
  }
  if (!board.throttle_causes_known.length) return ["Throttling: this source doesn't tell", ""];
  const events = Object.entries(board.throttle_events).filter(([, count]) => count);
  const before = events.length ? `; events so far: ${events.map(([name, count]) => `${name} ${number(count)}`).join(", ")}` : "";
  return [`Not throttled, as far as ${board.throttle_causes_known.join(", ")} tell${before}`, "good"];
}

function load(value, mhz) {
  const texts = [value === null ? "" : percent(value), mhz.length ? `${number(Math.max(...mhz))} MHz` : ""];
  return texts.filter((text) => text).join(", ") || "not measured";
}

const clocksOf = (board, part) =>
  Object.entries(board.clocks_mhz).filter(([name]) => name.startsWith(part)).map(([, mhz]) => mhz);
const tables = { rails: null, zones: null };

function showTable(name, entries) {
  tables[name] ??= new Rows(find(name));
  tables[name].keep(entries.map(([title]) => title));
  for (const [title, text] of entries) tables[name].show(title, [text]);
  find(name).parentNode.hidden = !entries.length;
}

function showBoard(board) {
  const has = board.source !== null;
  const tried = board.verdicts.map(([name, why]) => `${name}: ${why}`).join("; ");
  setText(find("module"), board.module);
  setText(find("source"), has ? `Source: ${board.source}` : `No source of power, heat and clocks${tried && ` (${tried})`}`);
  find("replayed").hidden = board.replay_of === null;
  const madeUp = board.made_up === null ? "" : `; made up: ${board.made_up}`;
  setText(find("replayed"), `REPLAYED from ${board.replay_of}: these numbers are not of this machine${madeUp}`);
  find("alarm").hidden = board.alarm === null;
  setText(find("alarm"), `No fresh sample of the board: ${board.alarm}`);
  find("board").classList.toggle("stale", board.alarm !== null);
  const [text, kind] = throttleText(board);
  find("throttle").hidden = !has;
  setText(find("throttle"), text);
  find("throttle").classList.toggle("bad", kind === "bad");
  find("throttle").classList.toggle("good", kind === "good");
  showFigures(board);
  showTable("rails", Object.entries(board.rails_mw).map(([name, mw]) => [name, watts(mw)]));
  showTable("zones", Object.entries(board.zones_c).map(([name, value]) => [name, value === null ? "off" : degrees(value)]));
  showHistory(board.history);
}

function showFigures(board) {
  setText(find("power"), measured(board.power_mw, watts));
  setText(find("power_how"), POWER_KINDS[board.power_how] ?? "");
  setText(find("temperature"), measured(board.temperature_c, degrees));
  setText(find("hottest"), board.hottest === null ? "" : `: ${board.hottest}`);
  const slope = board.slope_c_per_s;
  const rising = slope === null ? "" : `, ${slope < 0 ? "−" : "+"}${number(Math.abs(slope), 2)} °C/s`;
  const soon = board.trip_in_s === null || board.trip_in_s > 600 ? "" : `, reached in ${number(board.trip_in_s, 0)} s if so on`;
  setText(find("headroom"), board.headroom_c === null ? "not known" : degrees(board.headroom_c) + rising + soon);
  setText(find("headroom_zone"), board.headroom_zone === null ? "" : ` of ${board.headroom_zone}`);
  setText(find("gpu"), load(board.gpu_load_pct, clocksOf(board, "gpu")));
  setText(find("cpu"), load(board.cpu_load_pct, clocksOf(board, "cpu")));
  setText(find("ram"), measured(board.ram, ({ used_mb, total_mb }) =>
    `${number(used_mb / 1024, 1)} of ${number(total_mb / 1024, 1)} GiB`));
  setText(find("age"), board.age_s === null ? "none" : `${number(board.age_s, 1)} s ago`);
}

function setState(text, isGood) {
  setText(find("state"), text);
  find("state").className = isGood ? "good" : "bad";
}

function showMemory(memory) {
  find("models_memory").hidden = memory === null;
  if (memory === null) return;
  const budget = memory.budget_nbytes === null ? "" : ` of ${mebibytes(memory.budget_nbytes)}`;
  setText(find("needed"), mebibytes(memory.needed_nbytes) + budget);
}

function show(snapshot) {
  const { server, board, models } = snapshot;
  setText(find("version"), server.version);
  setText(find("uptime"), duration(server.uptime_s));
  setText(find("mode"), board.power_mode ?? "not known");
  showBoard(board);
  const onCpu = models.filter((model) => model.device === "cpu").map((model) => model.name);
  find("fallback").hidden = !onCpu.length;
  setText(find("fallback"), `Runs on ONNX Runtime CPU, not on a GPU: ${onCpu.join(", ")}`);
  find("problem").hidden = !server.problem;
  setText(find("problem"), server.problem);
  showMemory(server.memory);
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
