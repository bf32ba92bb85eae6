// The live page: takes the newest state from /events and draws it, once for each picture of the screen at most.

import { drawAscan, drawHistory, drawLatency } from "./draw.js";

const $ = (id) => document.getElementById(id);
const LINK = { up: "link up", silent: "no A-scans", waiting: "waiting for A-scans", closed: "run has ended" };
const REASON = {
  no_echo: ["No echo", "The gate holds no echo that stands out."],
  low_confidence: ["Not sure", "The confidence is under the operating point."],
  saturated: ["Saturated", "The A-scan is clipped: lower the gain."],
  out_of_distribution: ["Not an A-scan like those known", "The model has never seen such an A-scan."],
  disagreement: ["Disagreement", "A matched filter finds the first echo elsewhere."],
};
const RULE = {
  constant: "Every sample is the same: is the receiver connected?",
  envelope: "The front end sends an envelope, not RF.",
  short: "The gate is under ten periods long.",
  flat: "The noise nearly reaches the peak: interference, or no transducer.",
  tone: "One frequency fills the gate: look for interference.",
  later: "A matched filter finds the first echo much later.",
  earlier: "A matched filter finds an echo much earlier.",
};
const COUNTERS = {
  received: "received", classified: "with a time of flight", abstained: "without an answer", dropped: "dropped",
  seq_gaps: "lost on the wire", crc_errors: "corrupted", resyncs: "resyncs", reconnects: "reconnects",
  duplicated: "second copies", deadline_misses: "later than one period",
};
const SPANS = [60, 120, 240];
const LOSSES = ["dropped", "seq_gaps", "crc_errors", "resyncs", "reconnects", "deadline_misses"];

let state = null;
let history = { bins: 600, gates: {} };
let chosen = null;
let whole = true;
let paused = false;
let ended = false;
let drawing = false;
const shown = new Set();
let events = null;

// ---- what comes in

function connect() {
  if (events || ended || document.hidden) return;
  events = new EventSource("events");
  events.addEventListener("history", (event) => {
    history = JSON.parse(event.data);
  });
  events.addEventListener("state", (event) => {
    trouble(null);
    take(JSON.parse(event.data));
  });
  events.addEventListener("end", () => {
    ended = true;
    leave();
    link("closed");
  });
  events.onerror = () => {
    trouble("usedge run does not answer. What is shown here is old; it is asked again every few seconds.");
    link(null);
    // A browser gives up for good on an answer such as 403 or 503.
    if (events && events.readyState === EventSource.CLOSED) {
      leave();
      setTimeout(connect, 3000);
    }
  };
}

function leave() {
  if (events) events.close();
  events = null;
}

function take(next) {
  for (const gate of next.gates) merge(gate.name, gate.bins);
  if (paused) return;
  state = next;
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    show();
  });
}

function merge(name, bins) {
  if (!bins.length) return;
  const kept = (history.gates[name] ?? []).filter((bin) => bin[0] < bins[0][0]);
  history.gates[name] = [...kept, ...bins].slice(-history.bins);
}

// ---- what is shown

function show() {
  if (!state) return;
  link(ended ? "closed" : state.link);
  $("port").textContent = state.port;
  const gate = state.gates.find((each) => each.name === chosen) ?? state.gates[0];
  showGates(gate);
  if (gate) {
    showReading(gate.reading);
    showAscan(gate);
    showList("abstentions", Object.entries(gate.abstentions).map(([name, n]) => [REASON[name]?.[0] ?? name, n]));
    if (!Object.keys(gate.abstentions).length) showList("abstentions", [["every A-scan has an answer", ""]]);
    showHistory(history.gates[gate.name] ?? []);
  }
  drawLatency($("latency"), state.latency);
  const { p50_us: p50, p99_us: p99, max_us: max } = state.latency;
  $("percentiles").textContent = p50 === undefined ? "" : `p50 ${ms(p50)} · p99 ${ms(p99)} · max ${ms(max)}`;
  const counted = Object.entries(COUNTERS).filter(([key]) => key in state.counters);
  showList("counters", counted.map(([key, words]) => [words, state.counters[key], LOSSES.includes(key)]));
  $("prf").textContent = state.prf_hz ? `${+state.prf_hz.toPrecision(4)} a second` : "";
  $("facts").textContent = Object.entries(state.facts).map(([key, value]) => `${key} ${value}`).join(" · ");
}

function link(name) {
  $("link").dataset.state = name ?? "";
  $("link").textContent = LINK[name] ?? "not connected";
}

function trouble(words) {
  $("trouble").hidden = !words;
  if (words) $("trouble").textContent = words;
}

function showGates(gate) {
  const names = state.gates.map((each) => each.name);
  $("gates").hidden = names.length < 2;
  if ($("gates").dataset.names !== names.join()) {
    $("gates").dataset.names = names.join();
    $("gates").replaceChildren(...names.map((name) => {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", textContent: name, onclick: () => { chosen = name; show(); } });
      button.setAttribute("role", "tab");
      return button;
    }));
  }
  for (const button of $("gates").children) button.setAttribute("aria-selected", button.textContent === gate?.name);
}

// No more of the past than there is of it, in a few steps.
function showHistory(bins) {
  const have = bins.length ? state.now - bins[0][0] + 1 : 0;
  const count = Math.min(SPANS.find((span) => span >= have) ?? history.bins, history.bins);
  drawHistory($("history"), bins, state.now, count, state.bin_s);
  $("span").textContent = minutes(count * state.bin_s);
}

function showReading(reading) {
  const abstains = reading.abstain !== null;
  $("tof").classList.toggle("none", abstains);
  if (abstains) $("tof").textContent = REASON[reading.abstain]?.[0] ?? reading.abstain;
  else $("tof").replaceChildren(reading.tof_us.toFixed(3), small(" µs"));
  $("why").textContent = RULE[reading.reason] ?? REASON[reading.abstain]?.[1] ?? "";
  $("number").textContent = `#${reading.seq}`;
  const rows = [["confidence", reading.confidence.toFixed(2)], ["SNR", `${reading.snr_db.toFixed(1)} dB`],
    ["latency", ms(reading.latency_us)]];
  if (comes(reading, "distance_sd_mm")) rows.unshift(["± (1 σ)", fixed(reading.distance_sd_mm, "mm")]);
  if (comes(reading, "distance_mm")) rows.unshift(["distance", fixed(reading.distance_mm, "mm")]);
  if (comes(reading, "smoothed_us")) rows.unshift([reading.smooth, fixed(reading.smoothed_us, "µs")]);
  if ("dtof_ns" in reading) rows.push(["dToF", reading.dtof_ns === null ? reading.dtof_abstain : `${reading.dtof_ns.toFixed(2)} ns`]);
  showList("reading", rows);
}

function showAscan(gate) {
  const cut = gate.trace !== null;
  $("view").hidden = !cut;
  $("view").textContent = whole ? "Gate alone" : "Whole";
  const marks = state.gates.map((each) => ({ ...each, tof_us: each.reading.tof_us, chosen: each === gate }));
  if (whole || !cut) drawAscan($("ascan"), state.whole, marks);
  else drawAscan($("ascan"), gate.trace, marks.filter((each) => each.chosen));
}

// Rows of [words, value, whether more than 0 of it is worth a look], changed in place.
function showList(id, rows) {
  const list = $(id);
  while (list.children.length > 2 * rows.length) list.lastChild.remove();
  rows.forEach(([words, value, loss], i) => {
    const [term, said] = [cell(list, 2 * i, "dt"), cell(list, 2 * i + 1, "dd")];
    const text = typeof value === "number" ? value.toLocaleString("en").replaceAll(",", "\u202f") : value;
    if (term.textContent !== words) term.textContent = words;
    if (said.textContent !== text) said.textContent = text;
    said.classList.toggle("nonzero", Boolean(loss && value));
  });
}

function cell(list, i, kind) {
  return list.children[i] ?? list.appendChild(document.createElement(kind));
}

// Whether this run has such a value at all: then its place is kept where one reading has none.
function comes(reading, key) {
  if (reading[key] != null) shown.add(key);
  return shown.has(key);
}

const fixed = (value, unit) => (value == null ? "–" : `${value.toFixed(3)} ${unit}`);

function small(words) {
  const element = document.createElement("small");
  element.textContent = words;
  return element;
}

function ms(us) {
  if (us < 1000) return `${Math.round(us)} µs`;
  return us < 1e6 ? `${+(us / 1000).toPrecision(3)} ms` : `${+(us / 1e6).toPrecision(3)} s`;
}

const minutes = (seconds) => (seconds < 120 ? `last ${Math.round(seconds)} s` : `last ${+(seconds / 60).toFixed(1)} min`);

// ---- what a person does

$("view").onclick = () => {
  whole = !whole;
  show();
};
$("pause").onclick = () => {
  paused = !paused;
  $("pause").textContent = paused ? "Go on" : "Pause";
  $("pause").setAttribute("aria-pressed", paused);
};
// A page that nobody sees asks for nothing.
document.addEventListener("visibilitychange", () => (document.hidden ? leave() : connect()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
for (const id of ["ascan", "history", "latency"]) new ResizeObserver(show).observe($(id));
connect();
