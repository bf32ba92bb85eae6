// A-scan, history and histogram on their canvases. Times are µs; those of an A-scan are after the main bang.

import { context, line, tick } from "./canvas.js";

const BOTTOM = 20;
const LEFT = 52;

function palette() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

function begin(canvas) {
  const pen = context(canvas);
  pen.font = "12px system-ui, sans-serif";
  pen.lineWidth = 1;
  return { pen, colour: palette(), width: canvas.clientWidth, height: canvas.clientHeight };
}

const digits = (step) => Math.max(0, -Math.floor(Math.log10(step) + 1e-9));

// Base64 of little-endian int16.
export function samples(trace) {
  const bytes = Uint8Array.from(atob(trace.data), (letter) => letter.charCodeAt(0));
  return new Int16Array(bytes.buffer);
}

// `gates`: [{ start_us, end_us, tof_us, chosen }].
export function drawAscan(canvas, trace, gates) {
  const { pen, colour, width, height } = begin(canvas);
  const floor = height - BOTTOM;
  const span = trace.end_us - trace.t0_us;
  const x = (time) => ((time - trace.t0_us) / span) * width;
  const step = tick(span / Math.max(3, width / 90));
  for (const gate of gates) {
    if (gate.start_us <= trace.t0_us && gate.end_us >= trace.end_us) continue;
    pen.fillStyle = colour("gate");
    pen.fillRect(x(gate.start_us), 0, x(gate.end_us) - x(gate.start_us), floor);
    pen.strokeStyle = colour("gate-edge");
    pen.lineWidth = gate.chosen ? 2 : 1;
    for (const edge of [gate.start_us, gate.end_us]) line(pen, x(edge), 0, x(edge), floor);
  }
  pen.lineWidth = 1;
  pen.textAlign = "center";
  for (let at = Math.ceil(trace.t0_us / step) * step; at <= trace.end_us; at += step) {
    pen.strokeStyle = colour("grid");
    line(pen, Math.round(x(at)) + 0.5, 0, Math.round(x(at)) + 0.5, floor);
    pen.fillStyle = colour("dim");
    if (x(at) > 14 && x(at) < width - 34) pen.fillText(at.toFixed(digits(step)), x(at), height - 5);
  }
  pen.textAlign = "right";
  pen.fillText("µs", width - 2, height - 5);
  drawTrace(pen, colour, trace, width, floor);
  for (const gate of gates) if (gate.tof_us !== null) drawTof(pen, colour, x(gate.tof_us), gate, width, floor);
}

function drawTrace(pen, colour, trace, width, floor) {
  const values = samples(trace);
  const peak = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1) * 1.08;
  const per = trace.pairs ? 2 : 1;
  const columns = values.length / per;
  const y = (value) => floor / 2 - (value / peak) * (floor / 2);
  pen.strokeStyle = colour("rf");
  pen.lineWidth = 1.2;
  pen.beginPath();
  for (let i = 0; i < values.length; i++) pen.lineTo(((Math.floor(i / per) + 0.5) / columns) * width, y(values[i]));
  pen.stroke();
  const words = `±${Math.round(peak / 1.08)}`;
  pen.fillStyle = colour("card");
  pen.fillRect(0, 0, pen.measureText(words).width + 8, 17);
  pen.fillStyle = colour("dim");
  pen.textAlign = "left";
  pen.fillText(words, 4, 13);
}

function drawTof(pen, colour, x, gate, width, floor) {
  pen.strokeStyle = pen.fillStyle = colour("tof");
  pen.lineWidth = gate.chosen ? 2 : 1;
  line(pen, x, 18, x, floor);
  if (!gate.chosen) return;
  const words = `${gate.tof_us.toFixed(3)} µs`;
  const half = pen.measureText(words).width / 2 + 3;
  pen.textAlign = "center";
  pen.fillText(words, Math.min(Math.max(x, half + 44), width - half), 13);
}

// `bins`: [index, low, newest, high, n, abstained] by rising index, the last `count` before `now` are shown.
export function drawHistory(canvas, bins, now, count, binSeconds) {
  const { pen, colour, width, height } = begin(canvas);
  const floor = height - BOTTOM;
  const shown = bins.filter((bin) => bin[0] > now - count);
  const x = (index) => LEFT + ((index - now + count - 0.5) / count) * (width - LEFT);
  drawMinutes(pen, colour, width, height, count * binSeconds);
  const answered = shown.filter((bin) => bin[2] !== null);
  pen.fillStyle = colour("none");
  for (const bin of shown) {
    const share = bin[5] / bin[4];
    if (share) pen.fillRect(x(bin[0]) - 0.5, floor - 10 * share, Math.max(1.5, (width - LEFT) / count), 10 * share);
  }
  if (!answered.length) return;
  let [low, high] = [Math.min(...answered.map((bin) => bin[1])), Math.max(...answered.map((bin) => bin[3]))];
  const margin = Math.max(0.12 * (high - low), 1e-4 * Math.abs(high), 0.005);
  [low, high] = [low - margin, high + margin];
  const y = (tof) => (floor - 12) - ((tof - low) / (high - low)) * (floor - 20);
  drawScale(pen, colour, low, high, y, width);
  drawBand(pen, colour, answered, x, y);
}

function drawMinutes(pen, colour, width, height, seconds) {
  const parts = width < 500 ? 3 : 5;
  pen.fillStyle = colour("dim");
  pen.strokeStyle = colour("grid");
  for (let i = 0; i <= parts; i++) {
    const x = LEFT + (i / parts) * (width - LEFT);
    const ago = seconds * (1 - i / parts);
    pen.textAlign = i === parts ? "right" : "center";
    pen.fillText(i === parts ? "now" : ago < 120 ? `−${Math.round(ago)} s` : `−${+(ago / 60).toFixed(1)} min`, x, height - 5);
    line(pen, x, 0, x, height - BOTTOM);
  }
}

function drawScale(pen, colour, low, high, y, width) {
  const step = tick((high - low) / 4);
  pen.textAlign = "right";
  pen.lineWidth = 1;
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) {
    pen.strokeStyle = colour("grid");
    line(pen, LEFT, y(at), width, y(at));
    pen.fillStyle = colour("dim");
    pen.fillText(at.toFixed(digits(step)), LEFT - 6, y(at) + 4);
  }
}

function drawBand(pen, colour, bins, x, y) {
  pen.strokeStyle = colour("band");
  pen.lineWidth = Math.max(2, x(1) - x(0));
  pen.beginPath();
  for (const bin of bins) {
    pen.moveTo(x(bin[0]), y(bin[1]) + 0.5);
    pen.lineTo(x(bin[0]), y(bin[3]) - 0.5);
  }
  pen.stroke();
  pen.strokeStyle = pen.fillStyle = colour("tof");
  pen.lineWidth = 1.6;
  pen.lineJoin = "round";
  pen.beginPath();
  for (const bin of bins) pen.lineTo(x(bin[0]), y(bin[2]));
  pen.stroke();
  const last = bins[bins.length - 1];
  pen.beginPath();
  pen.arc(x(last[0]), y(last[2]), 3, 0, 2 * Math.PI);
  pen.fill();
}

// `latency`: counts in `bars`, of which number `first` stands at 2^(first / octave) µs.
export function drawLatency(canvas, latency) {
  const { pen, colour, width, height } = begin(canvas);
  const floor = height - BOTTOM;
  const { bars, first, octave } = latency;
  if (!bars.length) return;
  const low = first - 2;
  const count = Math.max(bars.length + 4, 4 * octave);
  const x = (bar) => ((bar - low + 0.5) / count) * width;
  const most = Math.max(...bars);
  pen.textAlign = "center";
  const gap = Math.max(1, Math.ceil(((count / octave) * 60) / width));
  const place = (k) => octave * Math.log2(1000 * 2 ** k); // of 2^k ms
  for (let k = -gap * 8; place(k) < low + count; k += gap) {
    const at = x(place(k));
    if (at < 0) continue;
    pen.strokeStyle = colour("grid");
    line(pen, at, 0, at, floor);
    pen.fillStyle = colour("dim");
    if (at > 24 && at < width - 28) pen.fillText(k < 0 ? `${Math.round(1000 * 2 ** k)} µs` : `${2 ** k} ms`, at, height - 5);
  }
  pen.fillStyle = colour("bar");
  bars.forEach((n, i) => {
    const tall = n ? Math.max(1.5, (n / most) * (floor - 6)) : 0;
    pen.fillRect(x(first + i) - (width / count) * 0.42, floor - tall, (width / count) * 0.84, tall);
  });
  pen.strokeStyle = colour("line");
  line(pen, 0, floor + 0.5, width, floor + 0.5);
}
