import { announcer, button, numbers, slider } from "./controls.js";
import { html, oncePerFrame } from "./dom.js";
import { number } from "./format.js";
import { measure } from "./measures.js";
import { randomNetwork } from "./network.js";
import { ANGLES, inUnits, pairAt, samplesAt } from "./pair.js";
import { Panel, followWidth, logTicks, roundRange } from "./panel.js";
import { shallow } from "./shallow.js";
import { chordDeviation, expected, lineThrough, outputCovariance, walkVariance } from "./theory.js";

const WIDTHS = Array.from({ length: 11 }, (_, k) => 2 ** k);
const NETWORKS = 12;
const GRID = Array.from({ length: 101 }, (_, k) => k / 100);
const ROOM = 1.5; // of a chart, over theory's band: it holds three standard deviations at any width
const HAIR = 1 / 400; // of the path
const STATE = ["width", "angle", "seed"];

/**
 * From random walk to straight line: random networks with one hidden layer of growing width between
 * two samples. The steps of the slope shrink, its extent does not, the output is nearly straight.
 */
export function render({ model, el }) {
  const first = Object.fromEntries(STATE.map((name) => [name, model.get(name)]));
  const change = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const walks = new Panel({ label: "slope less its start: a random walk", height: 160 });
  const outputs = new Panel({ label: "output and its chord", height: 110 });
  const chords = new Panel({ label: "output less its chord", height: 110, xlabel: "position t on the path" });
  const sizes = new Panel({
    label: "both measures against width", height: 170, xlabel: "width", yticks: logTicks,
    xticks: () => WIDTHS.filter((_, k) => k % 2 === 0).map((n) => [Math.log2(n), number(n)]),
    scrub: (power) => change({ width: 2 ** Math.min(Math.max(Math.round(power), 0), 10) }),
  });
  const controls = {
    width: slider({
      label: "width", values: WIDTHS, value: model.get("width"),
      text: (n) => `${number(n)} unit${n === 1 ? "" : "s"}`, change: (width) => change({ width }),
    }),
    angle: slider({
      label: "angle between the samples", values: ANGLES, value: model.get("angle"),
      text: (a) => `${number(a)}\u00b0`, change: (angle) => change({ angle }),
    }),
  };
  const another = button("Other networks", () => change({ seed: (model.get("seed") + NETWORKS) % 2 ** 30 }));
  const again = button("Start again", () => change(first));
  const table = numbers(
    ["switches", "gradient gap deviation", "gradient deflection", "fluctuation"], ["bold", `all ${NETWORKS}`, "expected"],
  );
  const sentence = announcer();
  const measures = html("div", { class: "legend key" }, swatch("points", "gradient gap deviation"), swatch("points two", "gradient deflection"));
  const lines = html(
    "div", { class: "legend key" }, swatch("bold", "one network"), swatch("thin", `${NETWORKS - 1} more`),
    swatch("area", "theory: 95 % at each t"), swatch("dashed", "chord; theory"),
  );
  const side = html(
    "div", { class: "side" }, controls.width.element, controls.angle.element,
    html("div", { class: "buttons" }, another, again),
  );
  const beside = html("div", { class: "beside" }, sizes.element, measures);
  const charts = html("div", { class: "charts" }, walks.element, outputs.element, chords.element, lines);
  const units = html("p", { class: "note" }, "Slopes, gaps and outputs are in units of the typical slope "
    + "between the samples (root mean square over networks), which is the same at every width.");
  const root = html("div", { class: "implreg-explorer walk" }, side, charts, beside, table.element, ...sentence.elements, units);

  const networks = new Networks();
  const draw = () => {
    const [width, angle, seed] = STATE.map((name) => model.get(name));
    const { ends, typical } = pairAt(angle);
    const line = lineThrough(...ends);
    const theory = (n) => inTypical(expected({ start: ends[0], end: ends[1], width: n, depth: 1 }), typical);
    const paths = networks.paths(width, angle, seed);
    const found = paths.map(measure);
    const pooled = pool(found);
    const here = { ...theory(width), fluctuation: between(model.get("expected"), angle) };
    drawWalks(walks, paths, line, typical);
    drawOutputs(outputs, paths, line, typical);
    drawChords(chords, paths, line, typical);
    drawSizes(sizes, networks.pooled(angle, seed), width, found[0], theory);
    controls.width.set(width);
    controls.angle.set(angle);
    const words = (m) => [m.switches, m.gapDeviation, m.deflection, m.fluctuation].map(number);
    [found[0], pooled, here].forEach((m, column) => table.set(column, words(m)));
    sentence.say(describe(width, paths[0], found[0], here));
  };
  const redraw = oncePerFrame(draw);
  for (const name of STATE) model.on(`change:${name}`, redraw);
  draw();
  el.append(root);
  const stops = [followWidth(charts, [walks, outputs, chords], draw), followWidth(beside, [sizes], draw)];
  return () => {
    for (const stop of stops) stop();
    for (const name of STATE) model.off(`change:${name}`, redraw);
  };
}

/** Networks with their paths; weights that have been drawn, and what is known of all widths, stay. */
class Networks {
  constructor() {
    this.weights = new Map();
    this.known = { of: "", pooled: [] };
  }

  /** Paths at one width, in units of the typical slope. */
  paths(width, angle, seed) {
    const [start, end] = samplesAt(angle);
    const { typical } = pairAt(angle);
    return Array.from({ length: NETWORKS }, (_, k) => inUnits(shallow(this.#network(width, seed + k), start, end), typical));
  }

  /** Measures at each width, pooled over networks. */
  pooled(angle, seed) {
    const of = `${angle} ${seed}`;
    if (this.known.of !== of) {
      this.known = { of, pooled: WIDTHS.map((width) => pool(this.paths(width, angle, seed).map(measure))) };
    }
    return this.known.pooled;
  }

  #network(width, seed) {
    const name = `${width} ${seed}`;
    if (!this.weights.has(name)) {
      if (this.weights.size > 20 * NETWORKS) this.weights.clear();
      this.weights.set(name, randomNetwork({ inputs: 2, width, depth: 1, scale: 1, seed }));
    }
    return this.weights.get(name);
  }
}

/** Root mean squares over networks, as the book pools them; means of switches and fluctuations. */
function pool(found) {
  const mean = (of) => found.reduce((sum, one) => sum + of(one), 0) / found.length;
  const switches = mean((one) => one.switches);
  const variation = mean((one) => 4 * one.deflection ** 2);
  return {
    switches,
    gapDeviation: switches > 0 ? Math.sqrt(variation / switches) : NaN,
    deflection: Math.sqrt(variation) / 2,
    fluctuation: mean((one) => one.fluctuation),
  };
}

function inTypical({ switches, gapDeviation, deflection }, typical) {
  return { switches, gapDeviation: gapDeviation / typical, deflection: deflection / typical };
}

/** What Python knows of the slider's angles, linear between them. */
function between({ angles, fluctuation }, angle) {
  const above = angles.findIndex((one) => one >= angle);
  if (above <= 0) return fluctuation[above < 0 ? angles.length - 1 : 0];
  const share = (angle - angles[above - 1]) / (angles[above] - angles[above - 1]);
  return fluctuation[above - 1] + share * (fluctuation[above] - fluctuation[above - 1]);
}

function drawWalks(panel, paths, line, typical) {
  const spread = GRID.map((t) => (2 * Math.sqrt(walkVariance(line, t))) / typical);
  const { slopes } = paths[0];
  panel.frame([0, 1], roundRange([-ROOM * spread[100], ROOM * spread[100]]),
    `${paths.length} walks from 0, the bold one to ${number(slopes[slopes.length - 1] - slopes[0])}; theory has two standard deviations of ${number(spread[100])} at the end`);
  panel.set("band", panel.area(GRID, spread.map((x) => -x), spread));
  drawAll(panel, paths, (path) => panel.steps(path.starts, path.slopes.map((slope) => slope - path.slopes[0]), 1));
}

function drawOutputs(panel, paths, line, typical) {
  const most = (2.6 * Math.sqrt(outputCovariance(line, 1, 0, 0))) / typical;
  const { values, end } = paths[0];
  panel.frame([0, 1], roundRange([-most, most]), `${paths.length} outputs, the bold one from ${number(values[0])} to ${number(end)}`);
  panel.set("chord", panel.line([0, 1], [values[0], end]));
  drawAll(panel, paths, (path) => outline(panel, path, (value) => value));
}

function drawChords(panel, paths, line, typical) {
  const spread = GRID.map((t) => (2 * chordDeviation(line, 1, t)) / typical);
  const most = ROOM * Math.max(...spread);
  panel.frame([0, 1], roundRange([-most, most]),
    `${paths.length} outputs, theory has two standard deviations of ${number(spread[50])} in the middle`);
  panel.set("band", panel.area(GRID, spread.map((x) => -x), spread));
  drawAll(panel, paths, (path) => outline(panel, path, (value, t) => value - path.values[0] - t * (path.end - path.values[0])));
}

/** An output along the path, without knots that are closer than a line is wide. */
function outline(panel, { starts, values, end }, of) {
  const [ts, ys] = [[], []];
  starts.forEach((t, k) => {
    if (k && t - ts[ts.length - 1] < HAIR) return;
    ts.push(t);
    ys.push(of(values[k], t));
  });
  return panel.line([...ts, 1], [...ys, of(end, 1)]);
}

/** The first path bold, the others faint behind it. */
function drawAll(panel, paths, shape) {
  panel.set("faint", paths.slice(1).map(shape).join(""));
  panel.set("curve", shape(paths[0]));
}

/** Both measures against width: theory as lines, all networks as dots, the bold one with a ring. */
function drawSizes(panel, pooled, width, bold, theory) {
  const lines = WIDTHS.map(theory);
  const x = WIDTHS.map(Math.log2);
  panel.frame([-0.4, 10.4], [Math.log10(lines[10].gapDeviation / 2), Math.log10(lines[0].gapDeviation * 2.5)],
    `by theory the gradient gap deviation falls from ${number(lines[0].gapDeviation)} at one unit to ${number(lines[10].gapDeviation)} at 1,024, `
    + `as the root of the width, and the gradient deflection stays at ${number(lines[0].deflection)}; the bold network has ${number(bold.gapDeviation)} and ${number(bold.deflection)}`);
  [["gapDeviation", "one"], ["deflection", "two"]].forEach(([of, name]) => {
    const known = WIDTHS.map((_, k) => k).filter((k) => pooled[k][of] > 0);
    panel.set(`theory ${name}`, panel.line(x, lines.map((m) => Math.log10(m[of]))));
    panel.set(`points ${name}`, panel.dots(known.map((k) => x[k]), known.map((k) => Math.log10(pooled[k][of]))));
    panel.set(`ring ${name}`, bold[of] > 0 ? panel.dots([Math.log2(width)], [Math.log10(bold[of])]) : "");
  });
  panel.markAt(Math.log2(width));
}

function describe(width, { slopes, gaps }, bold, theory) {
  const units = `${number(width)} unit${width === 1 ? "" : "s"}`;
  if (!gaps.length) return `${units}: no unit of the bold network switches on the way, so that its slope takes no step and its output is straight.`;
  const far = Math.abs(slopes[gaps.length] - slopes[0]);
  return `${units}: the slope of the bold network takes ${number(gaps.length)} step${gaps.length === 1 ? "" : "s"} of about `
    + `${number(bold.gapDeviation)} and ends ${number(far)} from its start; theory has a standard deviation of ${number(2 * theory.deflection)}, `
    + `at every width. Its output stays within ${number(bold.fluctuation)} of a straight line.`;
}

function swatch(kind, words) {
  return html("span", {}, html("span", { class: `swatch ${kind}` }), words);
}
