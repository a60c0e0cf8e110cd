import { html, newId, svg } from "./dom.js";
import { number } from "./format.js";

const MARGIN = { left: 54, right: 10, top: 8, bottom: 22 };
const STEPS = 6; // colours of ordered groups, see figures/display.py

/** The colour of a layer, counted from 0, as a style: the same as in the book's figures. */
export function layerColour(layer, layers) {
  const step = layers > 1 ? Math.round((layer * (STEPS - 1)) / (layers - 1)) : 0;
  return `var(--step-${step + 1})`;
}

/** At most about `count` round numbers between `low` and `high`. */
export function ticks(low, high, count) {
  const raw = (high - low) / count;
  if (!(raw > 0) || !Number.isFinite(raw)) return [];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((k) => k >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) {
    found.push(k === 0 ? 0 : Number((k * step).toPrecision(12)));
  }
  return found;
}

/** A range that holds all finite `values`, widened to round numbers so that it seldom changes. */
export function roundRange(values, includeZero = false) {
  let low = includeZero ? 0 : Infinity;
  let high = includeZero ? 0 : -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [-1, 1];
  const size = Math.max(Math.abs(low), Math.abs(high));
  if (high - low <= 1e-9 * size || high === low) {
    low -= size / 2 || 1;
    high += size / 2 || 1;
  }
  const [a, b] = ticks(0, (high - low) * 1.02, 4);
  const step = b - a;
  if (!(step > 0)) return [low, high];
  // Products are rounded, and what is to be shown must not lie outside by the last digit.
  return [
    Math.min(low, Math.floor(low / step) * step),
    Math.max(high, Math.ceil(high / step) * step),
  ];
}

/** Ticks of an axis that holds logarithms to base 10, at 1, 2 and 5 times powers of 10. */
export function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(low); power <= high; power++) {
    for (const digit of high - low > 2.5 ? [1] : [1, 2, 5]) {
      const at = power + Math.log10(digit);
      if (at >= low - 1e-9 && at <= high + 1e-9) found.push([at, number(digit * 10 ** power)]);
    }
  }
  return found;
}

/**
 * A chart: an SVG with a vertical axis, named lines and areas that are drawn anew in place, and a
 * mark at one position. A finger or mouse on it calls `scrub` with the position under it.
 */
export class Panel {
  constructor({ label, height = 130, xlabel = "", xticks = null, yticks = null, scrub = null }) {
    const plain = (count) => (low, high) => ticks(low, high, count()).map((tick) => [tick, number(tick)]);
    this.xticks = xticks ?? plain(() => Math.min(5, (this.inner.right - this.inner.left) / 70));
    this.yticks = yticks ?? plain(() => 4);
    this.height = height + (xlabel ? 16 : 0);
    this.label = label;
    this.xlabel = xlabel;
    this.clip = newId();
    this.rect = svg("rect");
    this.grid = svg("g", { class: "grid" });
    this.drawn = svg("g", { "clip-path": `url(#${this.clip})` });
    this.mark = svg("path", { class: "mark" });
    this.dot = svg("circle", { class: "dot", r: 4, style: "display:none" });
    this.svg = svg(
      "svg", { role: "img", height: this.height, class: "panel" },
      svg("clipPath", { id: this.clip }, this.rect), this.grid, this.drawn, this.mark, this.dot,
    );
    this.element = html("div", { class: "chart" }, html("div", { class: "title" }, label), this.svg);
    this.paths = new Map();
    this.resize(360);
    if (scrub) this.#scrubWith(scrub);
  }

  /** Draw for another width in pixels from now on. */
  resize(width) {
    this.width = Math.max(width, 160);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.inner = {
      left: MARGIN.left, right: this.width - MARGIN.right,
      top: MARGIN.top, bottom: this.height - MARGIN.bottom - (this.xlabel ? 16 : 0),
    };
    const { left, right, top, bottom } = this.inner;
    for (const [name, value] of Object.entries({ x: left, y: top - 4, width: right - left, height: bottom - top + 8 })) {
      this.rect.setAttribute(name, value);
    }
  }

  /** Set both axes and say in words what the chart shows. */
  frame(x, y, description) {
    const { left, right, top, bottom } = this.inner;
    this.x = (value) => left + ((right - left) * (value - x[0])) / (x[1] - x[0]);
    this.y = (value) => bottom - (bottom - top) * ((value - y[0]) / (y[1] - y[0]));
    this.domain = x;
    this.svg.setAttribute("aria-label", `${this.label}: ${description}`);
    const parts = [];
    for (const [tick, words] of this.yticks(...y)) {
      const at = this.y(tick).toFixed(1);
      parts.push(svg("path", { d: `M${left} ${at}H${right}` }));
      parts.push(svg("text", { x: left - 6, y: at, dy: "0.35em", "text-anchor": "end" }, words));
    }
    for (const [tick, words] of this.xticks(...x)) {
      const at = this.x(tick).toFixed(1);
      parts.push(svg("path", { d: `M${at} ${bottom}v4`, class: "tick" }));
      parts.push(svg("text", { x: at, y: bottom + 16, "text-anchor": "middle" }, words));
    }
    if (this.xlabel) {
      const place = { x: (left + right) / 2, y: this.height - 3, "text-anchor": "middle" };
      parts.push(svg("text", place, this.xlabel));
    }
    this.grid.replaceChildren(...parts);
  }

  /** Draw the path `d` under a name, in place of what had it. */
  set(name, d, style) {
    let path = this.paths.get(name);
    if (!path) {
      path = svg("path", { class: name });
      this.paths.set(name, path);
      this.drawn.append(path);
    }
    path.setAttribute("d", d);
    path.setAttribute("style", style ?? "");
  }

  /** Take away all paths whose names begin with `start` and are not among `kept`. */
  keep(start, kept) {
    for (const [name, path] of this.paths) {
      if (!name.startsWith(start) || kept.includes(name)) continue;
      path.remove();
      this.paths.delete(name);
    }
  }

  line(xs, ys) {
    let d = "";
    for (let i = 0; i < xs.length; i++) d += `${i ? "L" : "M"}${this.#at(xs[i], ys[i])}`;
    return d;
  }

  /** A value for each piece, from its start to the next one's. */
  steps(starts, ys, end) {
    let d = `M${this.#at(starts[0], ys[0])}`;
    for (let i = 1; i < starts.length; i++) d += `H${this.x(starts[i]).toFixed(1)}V${this.#y(ys[i])}`;
    return `${d}H${this.x(end).toFixed(1)}`;
  }

  /** The area between two step functions. */
  band(starts, low, high, end) {
    let back = "";
    for (let i = starts.length - 1; i >= 0; i--) {
      back += `V${this.#y(low[i])}H${this.x(starts[i]).toFixed(1)}`;
    }
    return `${this.steps(starts, high, end)}${back}Z`;
  }

  /** The area between two lines. */
  area(xs, low, high) {
    const back = this.line([...xs].reverse(), [...low].reverse());
    return `${this.line(xs, high)}L${back.slice(1)}Z`;
  }

  /** A round dot at each point. */
  dots(xs, ys) {
    return xs.map((x, i) => `M${this.#at(x, ys[i])}m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0`).join("");
  }

  /** A stem from zero to each value, with a head. */
  stems(xs, ys) {
    let d = "";
    const zero = this.#y(0);
    for (let i = 0; i < xs.length; i++) {
      const x = this.x(xs[i]).toFixed(1);
      d += `M${x} ${zero}V${this.#y(ys[i])}m-1.5 0a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0-3 0`;
    }
    return d;
  }

  /** Mark a position, and the height of a value there; without a value nothing but the line. */
  markAt(x, y) {
    const { top, bottom } = this.inner;
    this.mark.setAttribute("d", `M${this.x(x).toFixed(1)} ${top}V${bottom}`);
    this.dot.style.display = y === undefined || !Number.isFinite(y) ? "none" : "";
    if (Number.isFinite(y)) {
      this.dot.setAttribute("cx", this.x(x).toFixed(1));
      this.dot.setAttribute("cy", this.#y(y));
    }
  }

  #at(x, y) {
    return `${this.x(x).toFixed(1)} ${this.#y(y)}`;
  }

  /** Far outside the chart it does not matter how far; not a number is drawn nowhere near. */
  #y(value) {
    const at = this.y(value);
    return (Number.isFinite(at) ? Math.min(Math.max(at, -1e4), 1e4) : -1e4).toFixed(1);
  }

  #scrubWith(scrub) {
    const move = (event) => {
      const box = this.svg.getBoundingClientRect();
      const { left, right } = this.inner;
      const x = ((event.clientX - box.left) * this.width) / box.width;
      const share = Math.min(Math.max((x - left) / (right - left), 0), 1);
      scrub(this.domain[0] + share * (this.domain[1] - this.domain[0]));
    };
    this.svg.classList.add("scrubs");
    this.svg.addEventListener("pointerdown", (event) => {
      this.svg.setPointerCapture(event.pointerId);
      move(event);
    });
    this.svg.addEventListener("pointermove", (event) => {
      if (event.buttons) move(event);
    });
  }
}

/** Keep panels as wide as `element` is, and draw anew when that changes. */
export function followWidth(element, panels, draw) {
  const observer = new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (!width) return;
    for (const panel of panels) panel.resize(width);
    draw();
  });
  observer.observe(element);
  return () => observer.disconnect();
}
