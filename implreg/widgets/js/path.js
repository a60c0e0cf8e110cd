import { announcer, button, numbers, select, slider } from "./controls.js";
import { html, oncePerFrame } from "./dom.js";
import { fixed, number } from "./format.js";
import { bridgeBand, measure, ofOutput, pieceAt } from "./measures.js";
import { randomNetwork } from "./network.js";
import { unpack } from "./numbers.js";
import { Panel, followWidth, layerColour, roundRange } from "./panel.js";
import { Plane } from "./plane.js";
import { expected } from "./theory.js";
import { trace } from "./tracer.js";

const WIDTHS = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const DEPTHS = [1, 2, 3, 4, 5, 6];
const SCALES = [0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.4, 2, 3, 5, 10];
const POSITIONS = Array.from({ length: 1001 }, (_, k) => k / 1000);
const UNIT = Math.SQRT2; // norm of a sample with two entries, see the book's preprocessing
const MEASURES = ["switches", "gradient gap deviation", "gradient deflection", "mid-path deflection", "fluctuation"];
const START = ["width", "depth", "scale", "seed", "points", "position", "output", "pair", "choice"];

/**
 * The path explorer: outputs, slopes and gradient gaps along the path between two points.
 *
 * The network is a random one drawn here; or one given by Python (`given`), if it is fully
 * connected; or Python traces it and sends the trace (`traced`).
 */
export function render({ model, el }) {
  const state = Object.fromEntries(START.map((name) => [name, model.get(name)]));
  const source = new Source(model);
  const change = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const scrub = (position) => change({ position });

  const plane = new Plane((points) => change({ points }));
  const panels = {
    outputs: new Panel({ label: "output \u03c6(t) and its chord", scrub }),
    slopes: new Panel({ label: "slope d\u03c6/dt, bridge band", scrub }),
    gaps: new Panel({ label: "gradient gaps", xlabel: "position t on the path", scrub }),
  };
  const position = slider({
    label: "position t", values: POSITIONS.map((share) => share * source.segments()),
    value: model.get("position"), text: (t) => `t = ${fixed(t, 3)}`, change: scrub,
  });
  const controls = source.controls(change);
  const table = numbers(MEASURES, ["here", "expected"]);
  const sentence = announcer();
  const legend = html("div", { class: "legend" });
  const restart = button("Start again", () => change(state));
  const charts = html("div", { class: "charts" }, ...Object.values(panels).map((panel) => panel.element), position.element);
  const left = html(
    "div", { class: "side" }, ...(source.hasPlane() ? [plane.element, legend] : [legend]),
    ...controls.map((control) => control.element), restart,
  );
  const root = html("div", { class: "implreg-explorer path" }, left, charts, table.element, ...sentence.elements);

  let shown; // of which network and output the plane is drawn
  const draw = () => {
    const output = Math.min(model.get("output"), source.outputs() - 1);
    const points = model.get("points");
    const full = source.trace(points);
    const path = ofOutput(full, output);
    const t = Math.min(Math.max(model.get("position"), 0), path.segments);
    const layers = source.layers();
    plane.movable = source.isLive();
    if (source.hasPlane()) {
      plane.draw(points, path, layers, t);
      const now = `${source.key()} ${output}`;
      if (now !== shown) source.network ? plane.show(source.network, source.unit, output) : plane.clear();
      shown = now;
    }
    const found = drawPath(panels, path, layers, t);
    const theory = source.expected(points);
    const single = path.segments === 1;
    table.set(0, [
      number(found.switches), number(found.gapDeviation), number(found.deflection),
      single ? number(found.midPath) : "\u2014", single ? number(found.fluctuation) : "\u2014",
    ]);
    table.show(1, theory !== null);
    if (theory) {
      table.set(1, [number(theory.switches), number(theory.gapDeviation), number(theory.deflection), "\u2014", "\u2014"]);
    }
    position.set(t);
    for (const control of controls) control.set(model.get(control.name));
    drawLegend(legend, layers);
    sentence.say(sentenceAt(path, t, output, source.outputs()));
  };
  const redraw = oncePerFrame(draw);
  for (const name of [...START, "given", "traced"]) model.on(`change:${name}`, redraw);
  draw();
  el.append(root);
  const stop = followWidth(charts, Object.values(panels), draw);
  return () => {
    stop();
    for (const name of [...START, "given", "traced"]) model.off(`change:${name}`, redraw);
  };
}

/** Where outputs come from: a network drawn here, one given by Python, or a trace made by Python. */
class Source {
  constructor(model) {
    this.model = model;
    this.network = null;
    this.unit = UNIT;
    this.cache = { key: null, network: null };
    this.unpacked = { from: null, trace: null };
  }

  #given() {
    const given = this.model.get("given");
    return given?.networks?.length ? given : null;
  }

  #traced() {
    const traced = this.model.get("traced");
    return traced?.t ? traced : null;
  }

  /** Whether points can be moved: not where a trace is fixed and nobody is there to make another. */
  isLive() {
    return !this.#traced() || (!this.model.isPage && this.segments() === 1);
  }

  hasPlane() {
    return this.segments() === 1;
  }

  segments() {
    return this.#traced()?.segments ?? 1;
  }

  /** What distinguishes the network from others. */
  key() {
    const get = (...names) => names.map((name) => this.model.get(name)).join(" ");
    if (this.#traced()) return `traced ${get("choice", "pair")}`;
    return this.#given() ? `given ${get("choice", "pair")}` : get("width", "depth", "scale", "seed");
  }

  trace(points) {
    const traced = this.#traced();
    if (traced) {
      this.network = null;
      if (this.unpacked.from !== traced) {
        const arrays = ["t", "layer", "unit", "gaps", "starts", "slopes", "values", "ends"];
        const trace = Object.fromEntries(arrays.map((name) => [name, unpack(traced[name])]));
        this.unpacked = { from: traced, trace: { ...trace, outputs: traced.outputs, segments: traced.segments } };
      }
      return this.unpacked.trace;
    }
    const key = this.key();
    if (this.cache.key !== key) this.cache = { key, network: this.#build() };
    this.network = this.cache.network;
    this.unit = this.#given()?.unit ?? UNIT;
    const [start, end] = points.map((point) => point.map((x) => x * this.unit));
    return trace(this.network, start, end);
  }

  #build() {
    const given = this.#given();
    if (!given) {
      const [width, depth, scale, seed] = ["width", "depth", "scale", "seed"].map((name) => this.model.get(name));
      return randomNetwork({ inputs: 2, width, depth, scale, seed });
    }
    const { layers, planes } = given.networks[this.model.get("choice")];
    const dense = (layer) => ({ ...layer, weights: unpack(layer.weights), biases: unpack(layer.biases) });
    return [planes[this.model.get("pair")], ...layers].map(dense);
  }

  outputs() {
    return this.#traced()?.outputs ?? this.#given()?.outputs ?? 1;
  }

  layers() {
    const given = this.#given();
    if (this.#traced()) return this.#traced().layers;
    return given ? given.networks[0].layers.length : this.model.get("depth");
  }

  /** Expectations, where the network is random. */
  expected(points) {
    if (this.#traced() || this.#given()) return null;
    const [width, depth, scale] = ["width", "depth", "scale"].map((name) => this.model.get(name));
    return expected({ start: points[0], end: points[1], width, depth, scale });
  }

  /** The controls that this source has. */
  controls(change) {
    const named = (name, control) => ({ ...control, name });
    const slide = (name, label, values, text) =>
      named(name, slider({ label, values, value: this.model.get(name), text, change: (value) => change({ [name]: value }) }));
    const choose = (name, label, options, more = () => ({})) =>
      named(name, select({ label, options, value: this.model.get(name), change: (value) => change({ [name]: value, ...more(value) }) }));
    const known = this.#given() ?? this.#traced();
    if (known) {
      const controls = [];
      if (known.names.length > 1) controls.push(choose("choice", "network", known.names));
      if (known.pairs.length > 1) {
        controls.push(choose("pair", "pair", known.pairs, (pair) => (known.points ? { points: known.points[pair] } : {})));
      }
      const outputs = Array.from({ length: this.outputs() }, (_, k) => `output ${k}`);
      if (outputs.length > 1) controls.push(choose("output", "output", outputs));
      return controls;
    }
    const another = button("Another network", () => change({ seed: (this.model.get("seed") + 1) % 2 ** 31 }));
    return [
      slide("width", "width", WIDTHS, (n) => `${n} unit${n === 1 ? "" : "s"}`),
      slide("depth", "depth", DEPTHS, (n) => `${n} hidden layer${n === 1 ? "" : "s"}`),
      slide("scale", "initialisation scale", SCALES, (x) => `${number(x)} \u00d7 He`),
      { name: "seed", element: html("div", { class: "control" }, another), set: () => {} },
    ];
  }
}

/** Draw all three charts; return the measures. */
function drawPath({ outputs, slopes, gaps }, path, layers, t) {
  const { starts, segments } = path;
  const x = [0, segments];
  const found = measure(path);
  const piece = pieceAt(path, t);
  const value = path.values[piece] + (t - starts[piece]) * path.slopes[piece];
  const single = segments === 1;

  const knots = [...starts, segments];
  const values = [...path.values, path.end];
  outputs.frame(x, roundRange(values), `from ${number(values[0])} to ${number(path.end)}`
    + (single ? `, at most ${number(found.fluctuation)} from its chord` : ""));
  outputs.set("chord", single ? outputs.line([0, 1], [values[0], path.end]) : "");
  outputs.set("curve", outputs.line(knots, values));
  outputs.markAt(t, value);

  const band = single ? bridgeBand(path) : null;
  const low = band ? band.middle.map((m, k) => m - band.half[k]) : [];
  const high = band ? band.middle.map((m, k) => m + band.half[k]) : [];
  slopes.frame(x, roundRange([...path.slopes, ...low, ...high]),
    `between ${number(Math.min(...path.slopes))} and ${number(Math.max(...path.slopes))} on ${path.slopes.length} pieces`);
  slopes.set("band", band ? slopes.band(starts, low, high, segments) : "");
  slopes.set("curve", slopes.steps(starts, path.slopes, segments));
  slopes.set("bar", single && found.switches ? middleBar(slopes, path) : "");
  slopes.markAt(t, path.slopes[piece]);

  gaps.frame(x, roundRange(path.gaps, true), found.switches
    ? `${number(found.switches)} of them, gradient gap deviation ${number(found.gapDeviation)}` : "none, no unit switches");
  gaps.set("zero", gaps.line(x, [0, 0]));
  for (const sign of [-1, 1]) {
    gaps.set(`deviation${sign}`, found.switches ? gaps.line(x, [sign * found.gapDeviation, sign * found.gapDeviation]) : "");
  }
  const kept = [];
  for (let layer = 0; layer < layers; layer++) {
    const here = [...path.t.keys()].filter((i) => path.layer[i] === layer);
    const name = `layer${layer}`;
    kept.push(name);
    const d = gaps.stems(here.map((i) => path.t[i]), here.map((i) => path.gaps[i]));
    gaps.set(name, d, `stroke:${layerColour(layer, layers)}`);
  }
  gaps.keep("layer", kept);
  gaps.markAt(t);
  return found;
}

/** From the mean of the end slopes to the slope after half of the switches. */
function middleBar(panel, path) {
  const half = path.gaps.length >> 1;
  const at = (path.starts[half] + (path.starts[half + 1] ?? path.segments)) / 2;
  const mean = (path.slopes[0] + path.slopes[path.gaps.length]) / 2;
  return panel.line([at, at], [mean, path.slopes[half]]);
}

function drawLegend(legend, layers) {
  if (legend.children.length === layers) return;
  legend.replaceChildren(...Array.from({ length: layers }, (_, layer) => {
    const sample = html("span", { class: "sample", style: `background:${layerColour(layer, layers)}` });
    return html("span", {}, sample, `layer ${layer + 1}`);
  }));
}

/** What happens at t, in words. */
function sentenceAt(path, t, output, outputs) {
  const piece = pieceAt(path, t);
  const slope = path.slopes[piece];
  const value = path.values[piece] + (t - path.starts[piece]) * slope;
  const name = outputs > 1 ? `Output ${output}` : "The output";
  const pieces = path.slopes.length;
  const words = `t = ${fixed(t, 3)}: piece ${number(piece + 1)} of ${number(pieces)}. ${name} is ${number(value)}, its slope ${number(slope)}.`;
  if (piece + 1 === pieces) return `${words} No unit switches after it.`;
  const next = path.starts[piece + 1];
  // On a polyline a piece may also end at a corner, where no unit switches.
  const i = path.segments === 1 ? piece : path.t.indexOf(next);
  if (i < 0) return `${words} It ends at ${fixed(next, 4)}, a corner of the path, where no unit switches.`;
  return `${words} It ends at ${fixed(next, 4)}, where unit ${path.unit[i]} of layer ${path.layer[i] + 1} switches: gap ${number(path.gaps[i])}.`;
}
