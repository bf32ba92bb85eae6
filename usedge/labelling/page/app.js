// What a person decides, sent to usedge label one decision at a time and in order.

import { Plot } from "./plot.js";

const $ = (id) => document.getElementById(id);
const GROUPS = [["Doubtful", ["apart", "one", "unsure"]], ["Neither finds an echo", ["none"]],
  ["In consensus", ["agree"]]];
const KIND = { apart: "apart", one: "one alone", unsure: "unsure", none: "no echo?", agree: "agreed" };
const LABEL = {
  kept: ["✓", "in the file"], consensus: ["✓", "consensus"], accepted: ["✓", "accepted"], moved: ["↔", "moved"],
  no_echo: ["∅", "no echo"], skipped: ["–", "skipped"],
};
const ONSETS = ["kept", "consensus", "accepted", "moved"];
const DOUBTFUL = GROUPS[0][1];

const state = { proposals: [], decisions: {}, counts: {}, can_undo: false, place: 0, from: null, ended: false };
const ascans = new Map();
const plot = new Plot($("plot"), $("overview"), () => tell());
let queue = Promise.resolve();

const here = () => state.proposals[state.place];
const decision = (row) => state.decisions[row] ?? null;
const doubtful = (proposal) => DOUBTFUL.includes(proposal.kind);
const us = (time) => (time === null ? "none" : `${time.toFixed(3)} µs`);

// ---- the server

async function ask(path, body) {
  const request = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, request);
  } catch {
    throw new Error("usedge label does not answer. Every decision up to here is kept: start the same command again.");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

// Actions run one after the other, so that fast keys fall on the A-scans that they were meant for.
function act(action) {
  queue = queue.then(async () => {
    if (state.ended) return;
    try {
      await action();
      $("trouble").hidden = true;
    } catch (error) {
      $("trouble").textContent = error.message;
      $("trouble").hidden = false;
    }
  });
}

function take(answer) {
  for (const key of ["decisions", "counts", "can_undo"]) state[key] = answer[key];
}

async function ascan(row) {
  if (!ascans.has(row)) ascans.set(row, await ask(`api/ascan/${row}`));
  // A gate may have 16,384 samples, and there may be 500 of them.
  if (ascans.size > 40) ascans.delete(ascans.keys().next().value);
  return ascans.get(row);
}

// ---- decisions

async function decide(label, time = null) {
  const { row } = here();
  const answer = await ask("api/decide", { row, label, tof_us: time });
  take(answer);
  say(`A-scan ${row}: ${LABEL[decision(row)[0]][1]}.`);
  await go(nextUndecided());
}

const accept = () => (plot.marks.yours === null ? decide("no_echo") : decide("onset", plot.marks.yours));

async function undo() {
  const answer = await ask("api/undo", {});
  take(answer);
  if (!answer.rows.length) return;
  const undone = answer.rows.length === 1 ? `A-scan ${answer.rows[0]}` : `${answer.rows.length} A-scans`;
  say(`Undone: ${undone}.`);
  await go(state.proposals.findIndex((each) => each.row === answer.rows[0]));
}

async function acceptConsensus() {
  const answer = await ask("api/consensus", {});
  take(answer);
  say(`${answer.rows.length} onsets accepted by consensus.`);
  await go(decision(here().row) ? nextUndecided() : state.place);
}

async function finish() {
  const answer = await ask("api/finish", {});
  take(answer);
  state.ended = true;
  $("ending").close();
  $("done-text").textContent = `${answer.counts.written} labelled A-scans are in ${answer.out}.`;
  $("done-next").textContent = `usedge evaluate ${answer.out}\nusedge finetune --data ${answer.out}`;
  refresh();
  $("done").showModal();
}

function confirmFinish() {
  const { written, left, skipped } = state.counts;
  const out = [left ? `${left} undecided` : "", skipped ? `${skipped} skipped` : ""].filter(Boolean).join(" and ");
  $("ending-text").textContent = written
    ? `${written} labelled A-scans will be written to ${state.out}.` + (out ? ` The ${out} are left out.` : "")
    : "No A-scan has a label yet: there is nothing to write.";
  $("write").disabled = !written;
  $("ending").showModal();
}

// ---- moving about

function nextUndecided() {
  const n = state.proposals.length;
  for (let i = 1; i <= n; i++) {
    const place = (state.place + i) % n;
    if (!decision(state.proposals[place].row)) return place;
  }
  return Math.min(state.place + 1, n - 1);
}

async function go(place) {
  state.place = Math.min(Math.max(place, 0), state.proposals.length - 1);
  const proposal = here();
  const [label, time] = decision(proposal.row) ?? [null, proposal.tof_us];
  const marks = {
    model: proposal.model.tof_us, classical: proposal.classical.tof_us, yours: time ?? null,
  };
  if (label === "skipped") marks.yours = proposal.tof_us;
  state.from = marks.yours;
  plot.show(await ascan(proposal.row), marks, { model: "model", classical: state.method, yours: "yours" },
    proposal.period_us);
  refresh();
  const next = state.proposals[nextUndecided()];
  if (next) ascan(next.row).catch(() => {});
}

function nudge(samples) {
  const { sample_us: step } = plot.ascan;
  const from = plot.marks.yours ?? (plot.view[0] + plot.view[1]) / 2;
  plot.move(plot.marks.yours === null ? from : from + samples * step);
}

function takePick(name) {
  if (here()[name].tof_us !== null) plot.move(here()[name].tof_us);
}

// ---- what is shown

function refresh() {
  tell();
  list();
  const { counts } = state;
  const onsets = ONSETS.reduce((sum, label) => sum + counts[label], 0);
  const parts = [["onset", onsets], ["no_echo", counts.no_echo], ["skipped", counts.skipped]];
  $("bar").replaceChildren(...parts.map(([name, n]) => {
    const part = Object.assign(document.createElement("i"), { className: name });
    part.style.width = `${(100 * n) / counts.rows}%`;
    return part;
  }));
  const decided = counts.rows - counts.left;
  $("bar").ariaValueMax = counts.rows;
  $("bar").ariaValueNow = decided;
  $("tally").textContent = `${decided} of ${counts.rows} decided: ${onsets} onset${onsets === 1 ? "" : "s"}, ${counts.no_echo} no echo,`
    + ` ${counts.skipped} skipped · ${counts.left} left, ${counts.doubtful_left} doubtful`;
  $("consensus").textContent = `Accept consensus (${counts.consensus_left})`;
  $("consensus").disabled = !counts.consensus_left;
  $("undo").disabled = !state.can_undo;
  $("finish").classList.toggle("ready", !counts.left);
}

// The A-scan at hand in words: heading, lines, buttons and the slider's value.
function tell() {
  const proposal = here();
  const made = decision(proposal.row);
  $("name").textContent = `A-scan ${proposal.row}`;
  $("why").textContent = proposal.why;
  const words = made ? LABEL[made[0]].join(" ") : doubtful(proposal) ? "doubtful" : "undecided";
  $("state").className = `chip ${look(proposal)}`;
  const { yours } = plot.marks;
  $("state").textContent = yours === state.from ? words : `${words}, line moved`;
  $("legend").replaceChildren(
    entry("model", "model", proposal.model.tof_us, `confidence ${proposal.model.confidence.toFixed(2)}`),
    entry("classical", state.method, proposal.classical.tof_us, `SNR ${proposal.snr_db.toFixed(0)} dB`),
    entry("yours", "yours", yours, yours === null ? "" : offset(proposal, yours)));
  $("accept-text").textContent = yours === null ? "Accept: no echo" : "Accept onset";
  const [low, high] = plot.ascan ? plot.whole : [0, 1];
  Object.assign($("slider"), {
    ariaValueMin: low.toFixed(3), ariaValueMax: high.toFixed(3), ariaValueNow: (yours ?? low).toFixed(3),
    ariaValueText: yours === null ? "no onset" : us(yours),
  });
}

function offset(proposal, yours) {
  const from = proposal.tof_us;
  if (from === null || from === yours) return from === null ? "" : "as proposed";
  const periods = (yours - from) / proposal.period_us;
  return `${periods < 0 ? "−" : "+"}${Math.abs(periods).toFixed(2)} periods`;
}

function entry(name, words, time, note) {
  const item = Object.assign(document.createElement("li"), { className: name });
  const small = Object.assign(document.createElement("small"), { textContent: note });
  item.append(document.createElement("i"), `${words} ${us(time)} `, small);
  return item;
}

function look(proposal) {
  const made = decision(proposal.row);
  if (made) return ONSETS.includes(made[0]) ? "is-onset" : "";
  return doubtful(proposal) ? "is-doubtful" : "";
}

const items = new Map();

function list() {
  if (!items.size) buildList();
  for (const [place, proposal] of state.proposals.entries()) {
    const [button, glyph, small] = items.get(proposal.row);
    const made = decision(proposal.row);
    button.className = look(proposal);
    glyph.textContent = made ? LABEL[made[0]][0] : doubtful(proposal) ? "?" : "·";
    small.textContent = made ? LABEL[made[0]][1] : KIND[proposal.kind];
    if (place === state.place) {
      button.ariaCurrent = "true";
      button.scrollIntoView({ block: "nearest" });
    } else button.removeAttribute("aria-current");
  }
}

function buildList() {
  for (const [title, kinds] of GROUPS) {
    const members = [...state.proposals.entries()].filter(([, each]) => kinds.includes(each.kind));
    if (!members.length) continue;
    const heading = Object.assign(document.createElement("h3"), { textContent: `${title} (${members.length})` });
    $("list").append(heading, ...members.map(([place, proposal]) => listed(place, proposal)));
  }
}

function listed(place, proposal) {
  const [button, glyph, name, small] = ["button", "span", "span", "small"].map((tag) => document.createElement(tag));
  Object.assign(button, { type: "button", tabIndex: -1 });
  glyph.className = "glyph";
  name.textContent = `A-scan ${proposal.row}`;
  button.append(glyph, name, small);
  button.addEventListener("click", () => { act(() => go(place)); $("slider").focus({ preventScroll: true }); });
  items.set(proposal.row, [button, glyph, small]);
  return button;
}

function say(words) {
  $("said").textContent = words;
}

// ---- keys and buttons

const KEYS = {
  Enter: accept, n: () => decide("no_echo"), s: () => decide("skipped"), z: undo, a: acceptConsensus,
  j: () => go(state.place + 1), k: () => go(state.place - 1), f: confirmFinish, "?": () => $("keys").showModal(),
  "+": () => plot.zoom(1.6), "=": () => plot.zoom(1.6), "-": () => plot.zoom(1 / 1.6),
  0: () => plot.look(...plot.whole), 1: () => takePick("model"), 2: () => takePick("classical"),
  ArrowUp: () => plot.amplify(1.5), ArrowDown: () => plot.amplify(1 / 1.5),
};

function period() {
  return Math.max(1, Math.round(here().period_us / plot.ascan.sample_us));
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const onButton = event.target.closest?.("button");
  if (onButton && (event.key === "Enter" || event.key === " ")) return;
  const sideways = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const action = sideways ? () => nudge(sideways * (event.shiftKey ? period() : 1))
    : KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  act(action);
});

const BUTTONS = {
  accept, undo, consensus: acceptConsensus, "no-echo": KEYS.n, skip: KEYS.s, previous: KEYS.k, next: KEYS.j,
  "zoom-in": KEYS["+"], "zoom-out": KEYS["-"],
};
for (const [id, action] of Object.entries(BUTTONS)) {
  $(id).addEventListener("click", () => { act(action); $("slider").focus({ preventScroll: true }); });
}
$("finish").addEventListener("click", confirmFinish);
$("help").addEventListener("click", KEYS["?"]);
$("write").addEventListener("click", () => act(finish));
$("stay").addEventListener("click", () => $("ending").close());

act(async () => {
  const session = await ask("api/session");
  take(session);
  Object.assign(state, { proposals: session.proposals, method: session.method, out: session.out });
  document.title = `${session.file} – usedge label`;
  $("file").textContent = $("file").title = session.file;
  for (const each of document.querySelectorAll(".method")) each.textContent = session.method;
  const first = state.proposals.findIndex((each) => !decision(each.row));
  await go(Math.max(first, 0));
  $("slider").focus({ preventScroll: true });
});
