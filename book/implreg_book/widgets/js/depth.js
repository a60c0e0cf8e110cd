import { announcer, button, numbers, slider } from "./controls.js";
import { Pool, products, shuffled, straying } from "./correlated.js";
import { html, oncePerFrame, prefersStill } from "./dom.js";
import { number } from "./format.js";
import { bridgeBand, measure, ofOutput } from "./measures.js";
import { randomNetwork } from "./network.js";
import { ANGLES, inUnits, pairAt, samplesAt } from "./pair.js";
import { Panel, followWidth, roundRange } from "./panel.js";
import { expected, lineThrough, midPathDeviation, slopeCovariance, uncorrelatedRatio, walkVariance } from "./theory.js";
import { trace } from "./tracer.js";

const DEPTHS = [1, 2, 3, 4, 5, 6, 7, 8];
const WIDTHS = [1, 2, 4, 8, 16, 32, 48, 64];
const NETWORKS = 100;
const PATIENCE = 8; // milliseconds of a frame that go into more networks
const ORDERS = 8; // random orders that are drawn, one of them bold
const SHARES = Array.from({ length: 20 }, (_, k) => (k + 1) / 20); // of all switches: lags
const NETWORK = ["depth", "width", "angle", "seed"];
const STATE = [...NETWORK, "shuffle"];

/**
 * Why gaps anti-correlate with depth: the slope beside walks of the same gaps in random order, how
 * its variance grows with the number of switches passed, and which gaps cancel.
 */
export function render({ model, el }) {
  const first = Object.fromEntries(STATE.map((name) => [name, model.get(name)]));
  const change = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const walk = new Panel({ label: "slope, and its own gaps in random order", height: 190, xlabel: "share of the switches passed" });
  const growth = new Panel({ label: "variance ratio", height: 130, xlabel: "lag k, as a share of all switches" });
  const ratio = new Panel({
    label: "bridge ratio, theory dashed", height: 140, xlabel: "hidden layers", xticks: () => DEPTHS.map((n) => [n, String(n)]),
    scrub: (depth) => change({ depth: Math.min(Math.max(Math.round(depth), 1), DEPTHS.length) }),
  });
  const slide = (name, label, values, text) =>
    slider({ label, values, value: model.get(name), text, change: (value) => change({ [name]: value }) });
  const controls = {
    depth: slide("depth", "depth", DEPTHS, (n) => `${n} hidden layer${n === 1 ? "" : "s"}`),
    width: slide("width", "width", WIDTHS, (n) => `${number(n)} unit${n === 1 ? "" : "s"}`),
    angle: slide("angle", "angle between the samples", ANGLES, (a) => `${number(a)}\u00b0`),
  };
  const next = (name, by = 1) => () => change({ [name]: (model.get(name) + by) % 2 ** 30 });
  const buttons = html(
    "div", { class: "buttons" }, button("Shuffle again", next("shuffle")), button("Other networks", next("seed", NETWORKS)),
    button("Start again", () => change(first)),
  );
  const table = numbers(
    ["switches", "gradient gap deviation", "gradient deflection", "mid-path deflection", "bridge ratio",
      "products within layers", "products between layers", "both"],
    ["drawn", "networks", "expected"],
  );
  const key = html(
    "div", { class: "legend key" }, swatch("bold", "the network"), swatch("two", "same gaps, random order"),
    swatch("area", "random-walk bridge, 95 %"), swatch("dashed", "random walk (uncorrelated gaps)"),
  );
  const sentence = announcer();
  const side = html("div", { class: "side" }, ...Object.values(controls).map((control) => control.element), buttons);
  const beside = html("div", { class: "beside" }, ratio.element);
  const charts = html("div", { class: "charts" }, walk.element, key, growth.element);
  const why = html("p", {}, "Why: a kink of one layer changes how fast all units behind it move, hence which of them switch next, and how "
    + "sharply. On the whole they answer with kinks of the other sign. With one hidden layer nothing lies behind.");
  const units = html("p", { class: "note" }, "Slopes and gaps are in units of the typical slope between the samples (root mean square over "
    + "networks); products of two gaps, summed, are over the sum of all squares.");
  const root = html("div", { class: "implreg-explorer depth" }, side, charts, beside, table.element, ...sentence.elements, why, units);

  let drawn = { key: "", path: null, pool: new Pool(SHARES) };
  let seen = { of: "", ratios: new Map() }; // at the depths that the reader has been at
  const state = () => Object.fromEntries(STATE.map((name) => [name, model.get(name)]));

  /** The network, its gaps in other orders, and what is known of it alone. */
  const draw = () => {
    const now = state();
    const line = lineThrough(...pairAt(now.angle).ends);
    const of = NETWORK.map((name) => now[name]).join(" ");
    if (of !== drawn.key) {
      drawn = { key: of, path: pathOf(now, 0), pool: new Pool(SHARES) };
      more();
    }
    const others = Array.from({ length: ORDERS }, (_, k) => shuffled(drawn.path, ORDERS * now.shuffle + k));
    drawWalk(walk, drawn.path, others);
    for (const [name, control] of Object.entries(controls)) control.set(now[name]);
    const found = measure(drawn.path);
    const square = 4 * found.deflection ** 2;
    const { within, between } = products(drawn.path);
    table.set(0, [
      found.switches, found.gapDeviation, found.deflection, Math.abs(found.midPath), Math.abs(found.midPath) / found.deflection,
      within / square, between / square, (within + between) / square,
    ].map(number));
    table.set(2, theoryOf(line, now));
    sentence.say(describe(now.depth, drawn.path, others));
    drawAverages(now, line);
  };

  /** What is known of the networks so far; readers who want less motion see it when all are there. */
  const drawAverages = (now, line) => {
    const { pool } = drawn;
    const some = pool.switches > 0 && (pool.paths === NETWORKS || !prefersStill()) ? pool : null;
    table.name(1, `${pool.paths} networks`);
    const found = some?.summary();
    table.set(1, (found ? [
      found.switches, found.gapDeviation, found.deflection, found.midPath, found.ratio,
      found.within, found.between, found.within + found.between,
    ] : Array(8).fill(NaN)).map(number));
    const settings = `${now.width} ${now.angle} ${now.seed}`;
    if (seen.of !== settings) seen = { of: settings, ratios: new Map() };
    if (some) seen.ratios.set(now.depth, some.ratio());
    drawGrowth(growth, some, line);
    drawRatio(ratio, seen.ratios, now, line);
  };

  /** Trace more of the networks, as far as the frame has time, and the rest in the next ones. */
  let frame = 0;
  const more = () => {
    cancelAnimationFrame(frame);
    const now = state();
    const end = performance.now() + PATIENCE;
    do drawn.pool.add(drawn.pool.paths ? pathOf(now, drawn.pool.paths) : drawn.path);
    while (drawn.pool.paths < NETWORKS && performance.now() < end);
    if (drawn.pool.paths < NETWORKS) frame = requestAnimationFrame(goOn);
  };
  const goOn = () => {
    if (NETWORK.map((name) => model.get(name)).join(" ") !== drawn.key) return; // all is drawn anew
    more();
    drawAverages(state(), lineThrough(...pairAt(model.get("angle")).ends));
  };
  const redraw = oncePerFrame(draw);
  for (const name of STATE) model.on(`change:${name}`, redraw);
  draw();
  el.append(root);
  const stops = [followWidth(charts, [walk, growth], draw), followWidth(beside, [ratio], draw), () => cancelAnimationFrame(frame)];
  return () => {
    for (const stop of stops) stop();
    for (const name of STATE) model.off(`change:${name}`, redraw);
  };
}

/** The path of a network, counted from the one that is drawn, in units of the typical slope. */
function pathOf({ depth, width, angle, seed }, which) {
  const network = randomNetwork({ inputs: 2, width, depth, scale: 1, seed: seed + which });
  return inUnits(ofOutput(trace(network, ...samplesAt(angle)), 0), pairAt(angle).typical);
}

/** The bridge ratio of wide networks (T6). */
function ratioOf(line, depth) {
  return midPathDeviation(line, depth) / (Math.sqrt(depth * walkVariance(line, 1)) / 2);
}

/** A column of the table. */
function theoryOf(line, { depth, width, angle }) {
  const { ends: [start, end], typical } = pairAt(angle);
  const { switches, gapDeviation, deflection } = expected({ start, end, width, depth });
  const c = (s, t) => slopeCovariance(line, depth, s, t);
  const both = (c(0, 0) + c(1, 1) - 2 * c(0, 1)) / (4 * deflection ** 2) - 1;
  const middle = midPathDeviation(line, depth);
  // Rounding must not pass for a sum where there is none.
  const known = [switches, gapDeviation / typical, deflection / typical, middle / typical, middle / deflection, NaN, NaN, depth > 1 ? both : 0];
  return known.map(number);
}

function drawWalk(panel, path, others) {
  const steps = path.gaps.length;
  const shares = steps ? Array.from({ length: steps + 1 }, (_, k) => k / steps) : [0, 1];
  const whole = (slopes) => (steps ? slopes : [slopes[0], slopes[0]]);
  const { middle, half } = bridgeBand(path);
  const [low, high] = [-1, 1].map((sign) => middle.map((m, k) => m + sign * half[k]));
  panel.frame([0, 1], roundRange([...path.slopes, ...low, ...high, ...others.flatMap((walk) => [...walk])]),
    `from ${number(path.slopes[0])} to ${number(path.slopes[steps])} in ${number(steps)} switches, at most ${number(straying(path.slopes))} `
    + `from the line between; in random order at most ${number(straying(others[0]))}`);
  panel.set("band", steps ? panel.area(shares, low, high) : "");
  panel.set("faint two", others.slice(1).map((walk) => panel.line(shares, whole(walk))).join(""));
  panel.set("curve two", panel.line(shares, whole(others[0])));
  panel.set("curve", panel.line(shares, whole(path.slopes)));
}

function drawGrowth(panel, pool, line) {
  const ratios = pool ? pool.varianceRatios() : [];
  panel.frame([0, 1], [0, Math.max(1.5, ...ratios.map((x) => Math.ceil(2 * x) / 2))], pool
    ? `from ${number(ratios[0])} at the shortest lag to ${number(ratios[ratios.length - 1])} at the longest; a random walk has about 1` : "not known yet, or no switches");
  panel.set("chord", panel.line(SHARES, SHARES.map((share) => uncorrelatedRatio(line, share))));
  panel.set("curve", pool ? panel.line(SHARES, ratios) : "");
}

function drawRatio(panel, seen, { depth }, line) {
  const lines = DEPTHS.map((layers) => ratioOf(line, layers));
  const known = [...seen].filter(([, [value]]) => Number.isFinite(value));
  const [value = NaN, low = NaN, high = NaN] = seen.get(depth) ?? [];
  panel.frame([0.5, 8.5], roundRange([1.25, ...known.map(([, [x]]) => x)], true),
    `theory ${number(lines[depth - 1])} at ${depth} layers, measured ${number(value)}; a random walk has 1`);
  panel.set("zero", panel.line([0.5, 8.5], [1, 1]));
  panel.set("chord", panel.line(DEPTHS, lines));
  panel.set("bar", Number.isFinite(low) ? panel.line([depth, depth], [low, high]) : "");
  panel.set("points one", panel.dots(known.map(([layers]) => layers), known.map(([, [x]]) => x)));
  panel.markAt(depth);
}

function describe(depth, path, others) {
  const layers = `${depth} hidden layer${depth === 1 ? "" : "s"}`;
  const steps = path.gaps.length;
  if (!steps) return `${layers}: no unit of this network switches on the way, so that there is no gap to shuffle.`;
  const own = straying(path.slopes);
  const farther = others.filter((walk) => straying(walk) > own).length;
  return `${layers}, ${number(steps)} gap${steps === 1 ? "" : "s"}: the slope strays ${number(own)} from the line between its ends. In the random order `
    + `drawn bold the same gaps stray ${number(straying(others[0]))}; ${farther} of ${others.length} random orders stray farther than the network.`;
}

function swatch(kind, words) {
  return html("span", {}, html("span", { class: `swatch ${kind}` }), words);
}
