import { announcer, button, numbers, slider } from "./controls.js";
import { html, oncePerFrame } from "./dom.js";
import { number } from "./format.js";
import { bridgeBand, measure, ofOutput } from "./measures.js";
import { randomNetwork } from "./network.js";
import { Panel, followWidth, roundRange } from "./panel.js";
import { mixIn } from "./random.js";
import { expected, lineThrough, midPathDeviation } from "./theory.js";
import { trace } from "./tracer.js";

const DEPTHS = [1, 2, 3, 4, 5, 6, 7, 8];
const WIDTHS = [8, 16, 32, 48, 64];
const ANGLES = Array.from({ length: 35 }, (_, k) => 5 * (k + 1)); // degrees
const NETWORKS = 100;
const AT_ONCE = 5; // of them, between two frames
const ORDERS = 8; // random orders that are drawn faintly
const SHARES = Array.from({ length: 20 }, (_, k) => (k + 1) / 20); // of all switches: lags
const STATE = ["depth", "width", "angle", "seed", "shuffle"];

/**
 * Why gaps anti-correlate with depth: the slope beside a walk of the same gaps in random order, how
 * its variance grows with the number of switches passed, and which gaps cancel.
 */
export function render({ model, el }) {
  const first = Object.fromEntries(STATE.map((name) => [name, model.get(name)]));
  const change = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const walk = new Panel({ label: "slope, and its own gaps in random order", height: 180, xlabel: "share of the switches passed" });
  const growth = new Panel({ label: "variance of the slope over that of a random walk", height: 150, xlabel: "lag, as a share of all switches" });
  const ratio = new Panel({
    label: "bridge estimate over gradient gap deviation", height: 140, xlabel: "hidden layers",
    xticks: () => DEPTHS.map((n) => [n, String(n)]),
  });
  const panels = [walk, growth, ratio];
  const slide = (name, label, values, text) =>
    slider({ label, values, value: model.get(name), text, change: (value) => change({ [name]: value }) });
  const controls = {
    depth: slide("depth", "depth", DEPTHS, (n) => `${n} hidden layer${n === 1 ? "" : "s"}`),
    width: slide("width", "width", WIDTHS, (n) => `${number(n)} units`),
    angle: slide("angle", "angle between the samples", ANGLES, (a) => `${number(a)}\u00b0`),
  };
  const next = (name, by = 1) => () => change({ [name]: (model.get(name) + by) % 2 ** 30 });
  const buttons = [
    button("Shuffle again", next("shuffle")), button("Other networks", next("seed", NETWORKS)), button("Start again", () => change(first)),
  ];
  const table = numbers(
    ["gradient deflection", "mid-path deflection", "bridge ratio", "products within layers", "products between layers"],
    ["networks", "theory"],
  );
  const legend = html(
    "div", { class: "legend" },
    html("span", {}, html("span", { class: "sample", style: "background:var(--category-1)" }), "the network"),
    html("span", {}, html("span", { class: "sample", style: "background:var(--category-2)" }), "same gaps, random order"),
  );
  const sentence = announcer();
  const left = html(
    "div", { class: "side" }, ...Object.values(controls).map((control) => control.element), ...buttons, table.element,
  );
  const charts = html("div", { class: "charts" }, walk.element, legend, growth.element, ratio.element);
  const root = html("div", { class: "implreg-explorer depth" }, left, charts, ...sentence.elements);

  let drawn = { key: "", paths: [] };
  const seen = new Map(); // bridge ratios at the depths that the reader has been at
  let seenWith = "";
  let redraw = () => {};
  const draw = () => {
    const [depth, width, angle, seed, shuffle] = STATE.map((name) => model.get(name));
    const radians = (angle * Math.PI) / 180;
    const ends = [[1, 0], [Math.cos(radians), Math.sin(radians)]];
    const key = [depth, width, angle, seed].join(" ");
    if (key !== drawn.key) drawn = { key, paths: [] };
    const missing = Math.min(NETWORKS - drawn.paths.length, AT_ONCE);
    for (let k = 0; k < missing; k++) drawn.paths.push(pathOf(ends, width, depth, seed + drawn.paths.length));
    if (drawn.paths.length < NETWORKS) redraw();
    table.name(0, `${drawn.paths.length} networks`);
    const line = lineThrough(...ends);
    const found = summary(drawn.paths);
    const theory = (layers) =>
      midPathDeviation(line, layers) / expected({ start: ends[0], end: ends[1], width, depth: layers }).deflection;
    drawWalk(walk, drawn.paths[0], shuffle);
    drawGrowth(growth, drawn.paths);
    const settings = `${width} ${angle} ${seed}`;
    if (settings !== seenWith) seen.clear();
    seenWith = settings;
    seen.set(depth, found.ratio);
    drawRatio(ratio, seen, depth, theory);
    for (const [name, control] of Object.entries(controls)) control.set(model.get(name));
    table.set(0, [found.deflection, found.midPath, found.ratio, found.within, found.between].map(number));
    const bend = expected({ start: ends[0], end: ends[1], width, depth }).deflection;
    table.set(1, [number(bend), number(midPathDeviation(line, depth)), number(theory(depth)), "\u2014", "\u2014"]);
    sentence.say(depth === 1
      ? "One hidden layer: gaps do not know of one another, so that their order does not matter. Any order gives a walk like the network\u2019s own."
      : `${depth} hidden layers: a kink of one layer changes how fast the units behind it move, and their kinks answer with the other sign. `
        + `Products of gaps between layers sum to ${number(found.between)} of the sum of squares here; in random order the same gaps `
        + "wander farther than the network does.");
  };
  redraw = oncePerFrame(draw);
  for (const name of STATE) model.on(`change:${name}`, redraw);
  draw();
  el.append(root);
  const stop = followWidth(charts, panels, draw);
  return () => {
    stop();
    for (const name of STATE) model.off(`change:${name}`, redraw);
  };
}

function pathOf(ends, width, depth, seed) {
  const network = randomNetwork({ inputs: 2, width, depth, scale: 1, seed });
  const [start, end] = ends.map((point) => point.map((x) => x * Math.SQRT2));
  return ofOutput(trace(network, start, end), 0);
}

/** Gaps in the random order number `order`. */
export function shuffled(gaps, order) {
  const places = [...gaps.keys()].map((k) => [mixIn(mixIn(0, order), k) >>> 0, k]);
  places.sort((a, b) => a[0] - b[0]);
  return places.map(([, k]) => gaps[k]);
}

/**
 * Pooled over networks: the gradient deflection, the root mean square of the mid-path deflection,
 * the ratio of the bridge estimate to the gradient gap deviation, and the sums of products of two
 * gaps of the same layer and of different ones, over the sum of squares.
 */
export function summary(paths) {
  const found = paths.map(measure);
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  const variation = sum(found.map((one) => 4 * one.deflection ** 2));
  const switches = sum(found.map((one) => one.switches));
  const bends = paths.map((path) => path.gaps.length > 0);
  const bridge = sum(found.map((one, k) => (bends[k] ? (4 * one.midPath ** 2) / one.switches : 0))) / sum(bends.map(Number));
  let within = 0;
  let between = 0;
  for (const { gaps, layer, slopes } of paths) {
    const totals = new Map();
    gaps.forEach((gap, i) => totals.set(layer[i], (totals.get(layer[i]) ?? 0) + gap));
    const squares = sum([...totals.values()].map((total) => total ** 2));
    within += squares - sum([...gaps].map((gap) => gap ** 2));
    between += (slopes[gaps.length] - slopes[0]) ** 2 - squares;
  }
  return {
    deflection: Math.sqrt(variation / paths.length) / 2,
    midPath: Math.sqrt(sum(found.map((one) => one.midPath ** 2)) / paths.length),
    ratio: Math.sqrt(bridge / (variation / switches)),
    within: within / variation,
    between: between / variation,
  };
}

/** Mean of (s(i+k) - s(i))^2 over k times the mean squared gap, pooled over paths, at lags k. */
export function varianceRatio(paths, share) {
  let squares = 0;
  let steps = 0;
  let variation = 0;
  let switches = 0;
  for (const { slopes, gaps } of paths) {
    const lag = Math.max(Math.round(share * gaps.length), 1);
    for (let i = 0; i + lag < slopes.length; i++) {
      squares += (slopes[i + lag] - slopes[i]) ** 2;
      steps += lag;
    }
    for (const gap of gaps) variation += gap * gap;
    switches += gaps.length;
  }
  return squares / steps / (variation / switches);
}

function drawWalk(panel, path, shuffle) {
  const steps = path.gaps.length;
  const shares = Array.from({ length: steps + 1 }, (_, k) => (steps ? k / steps : 0));
  const sums = (gaps) => gaps.reduce((walk, gap) => [...walk, walk.at(-1) + gap], [path.slopes[0]]);
  const orders = Array.from({ length: ORDERS }, (_, k) => sums(shuffled(path.gaps, ORDERS * shuffle + k)));
  const { middle, half } = bridgeBand(path);
  const [low, high] = [middle.map((m, k) => m - half[k]), middle.map((m, k) => m + half[k])];
  panel.frame([0, 1], roundRange([...path.slopes, ...low, ...high, ...orders.flat()]),
    `from ${number(path.slopes[0])} to ${number(path.slopes[steps])} in ${number(steps)} switches`);
  panel.set("band", steps ? panel.band(shares, low, high, 1) : "");
  panel.set("faint other", orders.slice(1).map((walk) => panel.line(shares, walk)).join(""), "stroke:var(--category-2)");
  panel.set("other", steps ? panel.line(shares, orders[0]) : "", "stroke:var(--category-2)");
  panel.set("curve", steps ? panel.line(shares, path.slopes) : panel.line([0, 1], [path.slopes[0], path.slopes[0]]));
}

function drawGrowth(panel, paths) {
  const bent = paths.some((path) => path.gaps.length);
  const ratios = bent ? SHARES.map((share) => varianceRatio(paths, share)) : SHARES.map(() => NaN);
  panel.frame([0, 1], [0, Math.max(1.5, ...ratios.filter(Number.isFinite).map((x) => Math.ceil(2 * x) / 2))],
    bent ? `from ${number(ratios[0])} at the shortest lag to ${number(ratios.at(-1))} at the longest; a random walk has 1` : "no switches");
  panel.set("chord", panel.line([0, 1], [1, 1]));
  panel.set("curve", bent ? panel.line(SHARES, ratios) : "");
}

function drawRatio(panel, seen, depth, theory) {
  const lines = DEPTHS.map(theory);
  const measured = [...seen].filter(([, value]) => Number.isFinite(value));
  panel.frame([0.5, 8.5], roundRange([...lines, ...measured.map(([, value]) => value), 1], true),
    `theory ${number(theory(depth))} at ${depth} layers, measured ${number(seen.get(depth))}; a random walk has 1`);
  panel.set("chord", panel.line([0.5, 8.5], [1, 1]));
  panel.set("theory", panel.line(DEPTHS, lines), "stroke:var(--category-1)");
  panel.set("dots", panel.dots(...[0, 1].map((i) => measured.map((one) => one[i]))), "fill:var(--category-1)");
  panel.markAt(depth);
}
