// The A-scan of one gate on a canvas: RF, envelope, onsets as lines, and under it the whole gate.
// Times are µs after the main bang throughout.

import { context, dot, line, tick } from "./canvas.js";

const TOP = 58; // room for the names of the lines, one row each
const BOTTOM = 24;
const GRAB = 9; // as close, in px, takes hold of the line
const DASHES = { model: [7, 4], classical: [2, 3], yours: [] };
const ROW = { model: 0, classical: 1, yours: 2 };

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export class Plot {
  constructor(canvas, overview, onMove) {
    this.canvas = canvas;
    this.overview = overview;
    this.onMove = onMove;
    this.ascan = null;
    this.marks = {};
    this.names = {};
    this.gain = 1;
    this.view = [0, 1];
    new ResizeObserver(() => this.draw()).observe(canvas);
    new ResizeObserver(() => this.draw()).observe(overview);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.listen();
  }

  // Show an A-scan: `marks` name → µs or null, `names` name → words, `period` of the centre frequency.
  show(ascan, marks, names, period) {
    Object.assign(this, { ascan, marks, names, period, gain: 1 });
    this.end = ascan.t0_us + ascan.samples.length * ascan.sample_us;
    this.home();
  }

  get whole() {
    return [this.ascan.t0_us, this.end];
  }

  // Around the lines, with some periods on either side; all of the gate where there is none.
  home() {
    const at = Object.values(this.marks).filter((time) => time !== null);
    if (!at.length) return this.look(...this.whole);
    const [low, high] = [Math.min(...at), Math.max(...at)];
    const margin = Math.max(8 * this.period, 0.35 * (high - low), 12 * this.ascan.sample_us);
    return this.look(low - margin, high + margin);
  }

  look(start, stop) {
    const [first, end] = this.whole;
    const width = clamp(stop - start, Math.min(8 * this.ascan.sample_us, end - first), end - first);
    const left = clamp((start + stop - width) / 2, first, end - width);
    this.view = [left, left + width];
    this.draw();
  }

  zoom(factor, around = null) {
    const [start, stop] = this.view;
    const line = this.marks.yours;
    const visible = line !== null && line >= start && line <= stop;
    const at = around ?? (visible ? line : (start + stop) / 2);
    // A line that is off centre comes to the middle with every step.
    const middle = around === null ? at : at + ((start + stop) / 2 - at) / factor;
    const half = (stop - start) / factor / 2;
    this.look(middle - half, middle + half);
  }

  amplify(factor) {
    this.gain = clamp(this.gain * factor, 1, 256);
    this.draw();
  }

  place(time) {
    this.marks.yours = clamp(time, ...this.whole);
    const [start, stop] = this.view;
    const width = stop - start;
    if (this.marks.yours < start || this.marks.yours > stop) {
      this.look(this.marks.yours - width / 2, this.marks.yours + width / 2);
    } else this.draw();
  }

  // ---- pointer

  listen() {
    const { canvas, overview } = this;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.hover(event));
    canvas.addEventListener("wheel", (event) => {
      if (!this.ascan || event.ctrlKey) return;
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, this.time(event.offsetX));
    }, { passive: false });
    const center = (event) => {
      if (!this.ascan || !(event.buttons & 1)) return;
      const [first, end] = this.whole;
      const at = first + (event.offsetX / overview.clientWidth) * (end - first);
      const half = (this.view[1] - this.view[0]) / 2;
      this.look(at - half, at + half);
    };
    overview.addEventListener("pointerdown", (event) => {
      overview.setPointerCapture(event.pointerId);
      center(event);
    });
    overview.addEventListener("pointermove", center);
  }

  near(event) {
    return this.ascan && this.marks.yours !== null && Math.abs(this.x(this.marks.yours) - event.offsetX) < GRAB;
  }

  hover(event) {
    this.canvas.classList.toggle("over-line", this.near(event));
  }

  press(event) {
    if (!this.ascan || event.button !== 0) return;
    const { canvas } = this;
    const held = this.near(event);
    const offset = held ? this.x(this.marks.yours) - event.offsetX : 0;
    const from = { x: event.offsetX, view: [...this.view] };
    let moved = false;
    canvas.setPointerCapture(event.pointerId);
    const drag = (next) => {
      moved ||= Math.abs(next.offsetX - from.x) > 3;
      if (held && moved) this.move(this.time(next.offsetX + offset));
      else if (moved) {
        const shift = ((next.offsetX - from.x) / canvas.clientWidth) * (from.view[1] - from.view[0]);
        this.look(from.view[0] - shift, from.view[1] - shift);
      }
    };
    const release = (next) => {
      canvas.removeEventListener("pointermove", drag);
      canvas.removeEventListener("pointerup", release);
      canvas.removeEventListener("pointercancel", release);
      if (!moved && !held && next.type === "pointerup") this.move(this.time(next.offsetX));
    };
    canvas.addEventListener("pointermove", drag);
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
  }

  move(time) {
    this.place(time);
    this.onMove();
  }

  // ---- drawing

  x(time) {
    return ((time - this.view[0]) / (this.view[1] - this.view[0])) * this.canvas.clientWidth;
  }

  time(x) {
    return this.view[0] + (x / this.canvas.clientWidth) * (this.view[1] - this.view[0]);
  }

  draw() {
    if (!this.ascan || !this.canvas.clientWidth) return;
    const style = getComputedStyle(document.documentElement);
    this.colour = (name) => style.getPropertyValue(`--${name}`).trim();
    this.drawPlot(context(this.canvas));
    this.drawOverview(context(this.overview));
  }

  drawPlot(pen) {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const box = { top: TOP, height: height - TOP - BOTTOM, width };
    this.drawGrid(pen, box);
    const peak = this.peak(this.view) / this.gain;
    pen.save();
    pen.beginPath();
    pen.rect(0, box.top, width, box.height);
    pen.clip();
    this.trace(pen, box, this.view, peak);
    pen.restore();
    pen.fillStyle = this.colour("dim");
    pen.textAlign = "left";
    pen.fillText(`±${peak < 10 ? peak.toFixed(1) : Math.round(peak)}`, 8, box.top + box.height - 8);
    for (const name of ["model", "classical", "yours"]) this.drawMark(pen, box, name);
  }

  drawGrid(pen, box) {
    const [start, stop] = this.view;
    const step = tick((stop - start) / Math.max(2, box.width / 110));
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.lineWidth = 1;
    for (let at = Math.ceil(start / step) * step; at <= stop; at += step) {
      const x = Math.round(this.x(at)) + 0.5;
      pen.strokeStyle = this.colour("grid");
      line(pen, x, box.top, x, box.top + box.height);
      pen.fillStyle = this.colour("dim");
      if (x > 24 && x < box.width - 44) pen.fillText(at.toFixed(digits), x, box.top + box.height + 17);
    }
    pen.textAlign = "right";
    pen.fillText("µs", box.width - 8, box.top + box.height + 17);
    const middle = Math.round(box.top + box.height / 2) + 0.5;
    line(pen, 0, middle, box.width, middle);
    line(pen, 0, box.top + 0.5, box.width, box.top + 0.5);
  }

  drawMark(pen, box, name) {
    const time = this.marks[name] ?? null;
    if (time === null) return;
    const x = this.x(time);
    if (x < -1 || x > box.width + 1) return;
    const yours = name === "yours";
    const y = 8 + 17 * ROW[name];
    pen.strokeStyle = pen.fillStyle = this.colour(name);
    pen.lineWidth = 2;
    pen.setLineDash(DASHES[name]);
    line(pen, x, y + 12, x, box.top + box.height);
    pen.setLineDash([]);
    if (yours) this.drawHandle(pen, x, box.top + box.height);
    pen.font = `${yours ? "600 " : ""}12px system-ui, sans-serif`;
    const words = this.names[name];
    const half = pen.measureText(words).width / 2 + 4;
    const middle = clamp(x, half, box.width - half);
    pen.fillStyle = this.colour("card");
    pen.fillRect(middle - half, y - 3, 2 * half, 15);
    pen.fillStyle = this.colour(name);
    pen.textAlign = "center";
    pen.fillText(words, middle, y + 9);
  }

  drawHandle(pen, x, bottom) {
    pen.beginPath();
    pen.moveTo(x, bottom - 12);
    pen.lineTo(x + 7, bottom);
    pen.lineTo(x - 7, bottom);
    pen.closePath();
    pen.fill();
  }

  drawOverview(pen) {
    const [width, height] = [this.overview.clientWidth, this.overview.clientHeight];
    const box = { top: 2, height: height - 4, width };
    const [first, end] = this.whole;
    const x = (time) => ((time - first) / (end - first)) * width;
    pen.fillStyle = this.colour("soft");
    pen.fillRect(x(this.view[0]), 0, Math.max(3, x(this.view[1]) - x(this.view[0])), height);
    this.trace(pen, box, this.whole, this.peak(this.whole));
    pen.lineWidth = 2;
    for (const name of ["model", "classical", "yours"]) {
      const time = this.marks[name] ?? null;
      if (time === null) continue;
      pen.strokeStyle = this.colour(name);
      line(pen, x(time), 0, x(time), height);
    }
  }

  // Indices of the samples in view, one more on either side.
  range([start, stop]) {
    const { t0_us: t0, sample_us: step, samples } = this.ascan;
    return [Math.max(0, Math.floor((start - t0) / step) - 1),
      Math.min(samples.length - 1, Math.ceil((stop - t0) / step) + 1)];
  }

  peak(view) {
    const [first, last] = this.range(view);
    let peak = 1;
    for (let i = first; i <= last; i++) peak = Math.max(peak, Math.abs(this.ascan.samples[i]));
    return peak * 1.05;
  }

  trace(pen, box, view, peak) {
    const [first, last] = this.range(view);
    const { t0_us: t0, sample_us: step, samples, envelope } = this.ascan;
    const x = (i) => ((t0 + i * step - view[0]) / (view[1] - view[0])) * box.width;
    const y = (value) => box.top + box.height / 2 - (value / peak) * (box.height / 2);
    const dense = (last - first) / box.width;
    pen.fillStyle = this.colour("envelope");
    pen.beginPath();
    const stride = Math.max(1, Math.floor(dense / 2));
    for (let i = first; i <= last; i += stride) pen.lineTo(x(i), y(envelope[i]));
    for (let i = last; i >= first; i -= stride) pen.lineTo(x(i), y(-envelope[i]));
    pen.fill();
    pen.strokeStyle = pen.fillStyle = this.colour("rf");
    pen.lineWidth = dense > 2 ? 1 : 1.4;
    pen.beginPath();
    if (dense > 3) this.columns(pen, first, last, x, y);
    else for (let i = first; i <= last; i++) pen.lineTo(x(i), y(samples[i]));
    pen.stroke();
    if (dense < 1 / 7) {
      for (let i = first; i <= last; i++) dot(pen, x(i), y(samples[i]));
    }
  }

  // Where many samples share a pixel, the least and the largest of each are what is seen.
  columns(pen, first, last, x, y) {
    const { samples } = this.ascan;
    for (let i = first; i <= last;) {
      const column = Math.floor(x(i));
      let [low, high] = [samples[i], samples[i]];
      for (; i <= last && Math.floor(x(i)) === column; i++) {
        low = Math.min(low, samples[i]);
        high = Math.max(high, samples[i]);
      }
      pen.lineTo(column + 0.5, y(high));
      pen.lineTo(column + 0.5, y(low) + 0.5);
    }
  }
}
