import { announcer, button, checkbox, numbers, select, slider } from "./controls.js";
import { html, oncePerFrame, prefersStill } from "./dom.js";
import { number } from "./format.js";
import { unpack } from "./numbers.js";
import { Panel, followWidth, layerColour, roundRange, ticks } from "./panel.js";

const PAUSE = 400; // milliseconds that an epoch stays while it plays
const STATE = ["epoch", "pair", "output", "normalised", "fixed", "playing"];
const CHARTS = ["gradient gap deviation", "gradient deflection", "fluctuation", "edge margin"];
// Of the table; a page sorts the names in its state.
const MEASURES = ["gradient gap deviation", "gradient deflection", "mid-path deflection", "fluctuation", "edge margin"];

/** The training player: one path and its measures, epoch by epoch, as they were recorded. */
export function render({ model, el }) {
  const record = new Record(model.get("record"));
  const { epochs } = record;
  const first = Object.fromEntries(STATE.map((name) => [name, model.get(name)]));
  const change = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };

  const panels = {
    outputs: new Panel({ label: "output \u03c6(t) and its chord" }),
    slopes: new Panel({ label: "slope d\u03c6/dt" }),
    gaps: new Panel({ label: "gradient gaps", xlabel: "position t on the path" }),
  };
  const xticks = (low, high) => ticks(low, high, 5).filter(Number.isInteger).map((at) => [at, number(at)]);
  const scrub = (wanted) => {
    const nearest = epochs.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));
    change({ epoch: nearest, playing: false });
  };
  const recorded = (name) => name in record.measures[0][0];
  const names = CHARTS.filter(recorded);
  const measures = MEASURES.filter(recorded);
  const charts = [...names, ...(record.losses ? ["training loss"] : [])].map((label) =>
    new Panel({ label, height: 96, xlabel: "epoch", xticks, scrub }));

  const epoch = slider({
    label: "epoch", values: epochs, value: model.get("epoch"), text: number,
    change: (value) => change({ epoch: value, playing: false }),
  });
  const step = () => {
    const at = epochs.indexOf(model.get("epoch"));
    const next = (at + 1) % epochs.length;
    change({ epoch: epochs[next], playing: model.get("playing") && next + 1 < epochs.length });
  };
  // Who has asked for less motion gets one step at a time.
  const play = button("", () => {
    if (prefersStill()) step();
    else change({ playing: !model.get("playing") });
  });
  const again = button("Start again", () => change(first));
  const pair = select({
    label: "pair", options: record.pairs, value: model.get("pair"),
    change: (value) => change({ pair: value }),
  });
  const output = html("div");
  const normalised = checkbox("normalised by the outputs\u2019 growth", (value) => change({ normalised: value }));
  const fixed = checkbox("scales stay fixed", (value) => change({ fixed: value }));
  const table = numbers([...measures, ...(record.losses ? ["training loss"] : [])], ["here", "first epoch"]);
  const legend = html("div", { class: "legend" }, ...Array.from({ length: record.layers }, (_, layer) => {
    const sample = html("span", { class: "sample", style: `background:${layerColour(layer, record.layers)}` });
    return html("span", {}, sample, `layer ${layer + 1}`);
  }));
  const sentence = announcer();
  const left = html(
    "div", { class: "side" }, epoch.element, play, again, ...(record.outputs.length > 1 ? [pair.element] : []), output,
    ...(record.growth ? [normalised.element] : []), fixed.element, table.element,
  );
  const right = html("div", { class: "charts" }, ...Object.values(panels).map((panel) => panel.element), legend);
  const below = html("div", { class: "small" }, ...charts.map((panel) => panel.element));
  const root = html("div", { class: "implreg-explorer training" }, left, right, below, ...sentence.elements);

  let timer = 0;
  let offered = "";
  const draw = () => {
    const at = Math.max(epochs.indexOf(model.get("epoch")), 0);
    const which = model.get("pair");
    const shown = record.outputs[which];
    const c = Math.max(shown.indexOf(model.get("output")), 0);
    const relative = Boolean(model.get("normalised") && record.growth);
    if (offered !== `${which}`) {
      offered = `${which}`;
      output.replaceChildren(select({
        label: "output", options: shown.map((k) => `output ${k}`), value: c,
        change: (value) => change({ output: shown[value] }),
      }).element);
    }
    drawPath(panels, record, { at, which, c, relative, fixed: model.get("fixed") });
    const measured = record.measures[Number(relative)];
    charts.forEach((panel, k) => {
      const loss = k === names.length;
      const series = epochs.map((_, i) => (loss ? record.losses[i] : measured[i][names[k]][which][c]) ?? NaN);
      drawSeries(panel, epochs, series, at);
    });
    const row = (i) => measures.map((name) => number(measured[i][name][which][c] ?? NaN));
    const losses = (i) => (record.losses ? [number(record.losses[i] ?? NaN)] : []);
    table.set(0, [...row(at), ...losses(at)]);
    table.set(1, [...row(0), ...losses(0)]);
    epoch.set(epochs[at]);
    pair.set(which);
    normalised.set(relative);
    fixed.set(model.get("fixed"));
    play.textContent = prefersStill() ? "Next epoch" : model.get("playing") ? "Pause" : "Play";
    const here = measured[at];
    sentence.say(
      `Epoch ${number(epochs[at])}: output ${shown[c]} of pair ${which} has ${number(record.path(at, which).switches)} switches, gradient gap deviation `
      + `${number(here["gradient gap deviation"][which][c] ?? NaN)} and fluctuation ${number(here.fluctuation[which][c] ?? NaN)}`
      + `${relative ? ", relative to how much the outputs have grown" : ""}.`,
    );
    clearTimeout(timer);
    if (model.get("playing")) {
      if (prefersStill()) change({ playing: false });
      else timer = setTimeout(step, PAUSE);
    }
  };
  const redraw = oncePerFrame(draw);
  for (const name of STATE) model.on(`change:${name}`, redraw);
  draw();
  el.append(root);
  const stops = [
    followWidth(right, Object.values(panels), draw),
    ...charts.map((panel) => followWidth(panel.element, [panel], draw)),
  ];
  return () => {
    clearTimeout(timer);
    for (const stop of stops) stop();
    for (const name of STATE) model.off(`change:${name}`, redraw);
  };
}

/** The recorded pieces and measures. */
class Record {
  constructor(record) {
    Object.assign(this, record);
    this.ranges = new Map();
    for (const name of ["starts", "slopes", "layer"]) this[name] = unpack(record[name]);
    // Where the pieces, slopes and switches of each epoch and pair begin.
    let [piece, slope, cut] = [0, 0, 0];
    this.places = record.counts.map((count, k) => {
      const place = { piece, slope, cut };
      piece += count + 1;
      slope += (count + 1) * record.outputs[k % record.outputs.length].length;
      cut += count;
      return place;
    });
  }

  /** The range of values, slopes or gaps of a path, over all epochs. */
  range(of, which, c, relative, zero) {
    const key = [of, which, c, relative].join();
    if (!this.ranges.has(key)) {
      const all = this.epochs.map((_, at) => this.path(at, which, c, relative)[of]);
      this.ranges.set(key, roundRange(all.flatMap((one) => [...one]), zero));
    }
    return this.ranges.get(key);
  }

  /** One path at one epoch: its pieces, raw or normalised. */
  path(at, which, c = 0, relative = false) {
    const k = at * this.outputs.length + which;
    const { piece, slope, cut } = this.places[k];
    const pieces = this.counts[k] + 1;
    const starts = this.starts.slice(piece, piece + pieces);
    const raw = this.slopes.slice(slope + c * pieces, slope + (c + 1) * pieces);
    const knots = [...starts, 1];
    const values = [this.values[k][c]];
    raw.forEach((rise, i) => values.push(values[i] + rise * (knots[i + 1] - knots[i])));
    const [r0, r1] = relative ? this.growth[at][which] : [1, 1];
    const growth = (t) => (1 - t) * r0 + t * r1;
    const slopes = raw.map((rise, i) => rise / growth((knots[i] + knots[i + 1]) / 2));
    // A gap is divided where it is, so that gaps are not the differences of normalised slopes.
    const gaps = raw.slice(1).map((rise, i) => (rise - raw[i]) / growth(starts[i + 1]));
    return {
      switches: pieces - 1, starts, knots, slopes, gaps,
      values: values.map((value, i) => value / growth(knots[i])),
      layer: this.layer.slice(cut, cut + pieces - 1),
    };
  }
}

function drawPath({ outputs, slopes, gaps }, record, { at, which, c, relative, fixed }) {
  const path = record.path(at, which, c, relative);
  const range = (of, zero = false) =>
    (fixed ? record.range(of, which, c, relative, zero) : roundRange(path[of], zero));
  const ends = [path.values[0], path.values.at(-1)];

  outputs.frame([0, 1], range("values"), `from ${number(ends[0])} to ${number(ends[1])}`);
  outputs.set("chord", outputs.line([0, 1], ends));
  outputs.set("curve", outputs.line(path.knots, path.values));
  slopes.frame([0, 1], range("slopes"), `${number(path.slopes.length)} pieces`);
  slopes.set("curve", slopes.steps(path.starts, path.slopes, 1));
  gaps.frame([0, 1], range("gaps", true), path.switches ? `${number(path.switches)} of them` : "none, no unit switches");
  gaps.set("zero", gaps.line([0, 1], [0, 0]));
  for (let layer = 0; layer < record.layers; layer++) {
    const here = [...path.gaps.keys()].filter((i) => path.layer[i] === layer);
    const d = gaps.stems(here.map((i) => path.starts[i + 1]), here.map((i) => path.gaps[i]));
    gaps.set(`layer${layer}`, d, `stroke:${layerColour(layer, record.layers)}`);
  }
}

/** A measure against the epoch, with a mark at the present one. */
function drawSeries(panel, epochs, series, at) {
  const there = [...series.keys()].filter((k) => Number.isFinite(series[k]));
  const [first, last] = [epochs[0], epochs.at(-1)];
  panel.frame([first, Math.max(last, first + 1)], roundRange(series, true), `${number(series[at])} at this epoch`);
  panel.set("curve", panel.line(there.map((k) => epochs[k]), there.map((k) => series[k])));
  panel.markAt(epochs[at], series[at]);
}
