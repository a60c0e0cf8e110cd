import { announcer, button, numbers, slider } from "./controls.js";
import { html, oncePerFrame } from "./dom.js";
import { fixed, number } from "./format.js";
import { measure, ofOutput } from "./measures.js";
import { randomNetwork } from "./network.js";
import { Panel, followWidth, logTicks, roundRange } from "./panel.js";
import { chordDeviation, expected, lineThrough, midPathDeviation, slopeCovariance } from "./theory.js";
import { trace } from "./tracer.js";

const WIDTHS = Array.from({ length: 11 }, (_, k) => 2 ** k);
const ANGLES = Array.from({ length: 35 }, (_, k) => 5 * (k + 1)); // degrees
const NETWORKS = 12;
const GRID = Array.from({ length: 101 }, (_, k) => k / 100);
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
  const walks = new Panel({ label: "slope less its start: a random walk", height: 170 });
  const chords = new Panel({ label: "output less its chord", height: 150, xlabel: "position t on the path" });
  const sizes = new Panel({
    label: "both measures against width", height: 170, xlabel: "width", yticks: logTicks,
    xticks: () => WIDTHS.filter((_, k) => k % 2 === 0).map((n) => [Math.log2(n), number(n)]),
  });
  const panels = [walks, chords, sizes];
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
    ["switches", "gradient gap deviation", "gradient deflection", "mid-path deflection", "fluctuation"],
    ["bold", `${NETWORKS} networks`, "theory"],
  );
  const sentence = announcer();
  const legend = html(
    "div", { class: "legend" },
    html("span", {}, html("span", { class: "sample", style: "background:var(--category-1)" }), "gradient gap deviation"),
    html("span", {}, html("span", { class: "sample", style: "background:var(--category-2)" }), "gradient deflection"),
  );
  const left = html(
    "div", { class: "side" }, controls.width.element, controls.angle.element, another, again, table.element,
  );
  const charts = html("div", { class: "charts" }, walks.element, chords.element, sizes.element, legend);
  const root = html("div", { class: "implreg-explorer walk" }, left, charts, ...sentence.elements);

  const seen = new Map(); // widths that the reader has been at, with both measures
  let seenWith = "";
  const draw = () => {
    const [width, angle, seed] = STATE.map((name) => model.get(name));
    const radians = (angle * Math.PI) / 180;
    const ends = [[1, 0], [Math.cos(radians), Math.sin(radians)]];
    const paths = Array.from({ length: NETWORKS }, (_, k) => pathOf(ends, width, seed + k));
    const found = paths.map(measure);
    const pooled = pool(found);
    const line = lineThrough(...ends);
    const theory = expected({ start: ends[0], end: ends[1], width, depth: 1 });
    drawWalks(walks, paths, line);
    drawChords(chords, paths, line);
    const settings = `${angle} ${seed}`;
    if (settings !== seenWith) seen.clear();
    seenWith = settings;
    seen.set(width, pooled);
    drawSizes(sizes, seen, width, (n) => expected({ start: ends[0], end: ends[1], width: n, depth: 1 }));
    controls.width.set(width);
    controls.angle.set(angle);
    const words = (m) => [m.switches, m.gapDeviation, m.deflection, m.midPath, m.fluctuation].map(number);
    table.set(0, words(found[0]));
    table.set(1, words(pooled));
    table.set(2, words({ ...theory, midPath: midPathDeviation(line, 1), fluctuation: NaN }));
    sentence.say(
      `${number(width)} unit${width === 1 ? "" : "s"}: ${fixed(pooled.switches, 1)} switches on average, each of about `
      + `${number(pooled.gapDeviation)}; together they bend the slope by about ${number(pooled.deflection)}, at every width. `
      + `The output stays within ${number(pooled.fluctuation)} of its chord.`,
    );
  };
  const redraw = oncePerFrame(draw);
  for (const name of STATE) model.on(`change:${name}`, redraw);
  draw();
  el.append(root);
  const stop = followWidth(charts, panels, draw);
  return () => {
    stop();
    for (const name of STATE) model.off(`change:${name}`, redraw);
  };
}

function pathOf(ends, width, seed) {
  const network = randomNetwork({ inputs: 2, width, depth: 1, scale: 1, seed });
  const [start, end] = ends.map((point) => point.map((x) => x * Math.SQRT2));
  return ofOutput(trace(network, start, end), 0);
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
    midPath: Math.sqrt(mean((one) => one.midPath ** 2)),
    fluctuation: mean((one) => one.fluctuation),
  };
}

function drawWalks(panel, paths, line) {
  const c = (s, t) => slopeCovariance(line, 1, s, t);
  const spread = GRID.map((t) => 2 * Math.sqrt(Math.max(c(0, 0) + c(t, t) - 2 * c(0, t), 0)));
  const walks = paths.map((path) => path.slopes.map((slope) => slope - path.slopes[0]));
  const range = roundRange([...spread, ...spread.map((x) => -x), ...walks.flatMap((walk) => [...walk])]);
  panel.frame([0, 1], range, `${paths.length} walks from 0, theory has two standard deviations of ${number(spread[100])} at the end`);
  panel.set("band", panel.area(GRID, spread.map((x) => -x), spread));
  panel.set("zero", panel.line([0, 1], [0, 0]));
  panel.set("faint", paths.slice(1).map((path, k) => panel.steps(path.starts, walks[k + 1], 1)).join(""));
  panel.set("curve", panel.steps(paths[0].starts, walks[0], 1));
}

function drawChords(panel, paths, line) {
  const spread = GRID.map((t) => 2 * chordDeviation(line, 1, t));
  const bends = paths.map(({ starts, values, end }) => [...values.map((value, k) => value - values[0] - starts[k] * (end - values[0])), 0]);
  panel.frame([0, 1], roundRange([...spread, ...spread.map((x) => -x), ...bends.flat()]),
    `${paths.length} outputs, theory has two standard deviations of ${number(spread[50])} in the middle`);
  panel.set("band", panel.area(GRID, spread.map((x) => -x), spread));
  panel.set("zero", panel.line([0, 1], [0, 0]));
  panel.set("faint", paths.slice(1).map((path, k) => panel.line([...path.starts, 1], bends[k + 1])).join(""));
  panel.set("curve", panel.line([...paths[0].starts, 1], bends[0]));
}

/** Both measures against width: theory as lines, what was measured at the widths seen as dots. */
function drawSizes(panel, seen, width, theory) {
  const log = (value) => Math.log10(value);
  const lines = WIDTHS.map(theory);
  const values = [...lines, ...seen.values()].flatMap((m) => [log(m.gapDeviation), log(m.deflection)]);
  panel.frame([0, 10], roundRange(values),
    `gradient gap deviation ${number(seen.get(width).gapDeviation)}, gradient deflection ${number(seen.get(width).deflection)} at ${number(width)} units`);
  const x = WIDTHS.map(Math.log2);
  const dots = (of) => {
    const there = [...seen].filter(([, m]) => m[of] > 0);
    return panel.dots(there.map(([n]) => Math.log2(n)), there.map(([, m]) => log(m[of])));
  };
  panel.set("theory gap", panel.line(x, lines.map((m) => log(m.gapDeviation))), "stroke:var(--category-1)");
  panel.set("theory bend", panel.line(x, lines.map((m) => log(m.deflection))), "stroke:var(--category-2)");
  panel.set("dots gap", dots("gapDeviation"), "fill:var(--category-1)");
  panel.set("dots bend", dots("deflection"), "fill:var(--category-2)");
  panel.markAt(Math.log2(width));
}
