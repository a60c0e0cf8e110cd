import { dense } from "./network.js";

/**
 * The outputs of a network along the straight line from `start` to `end`, exactly: what
 * `implreg.trace` computes for a fully connected ReLU network and one path.
 *
 * Layer by layer: on a piece every pre-activation is linear, so that a unit switches where a line
 * crosses zero; the new breakpoints cut the pieces for the next layer. Slopes are carried along as
 * directional derivatives, never as differences of neighbouring values, which would lose all digits
 * where two breakpoints are close.
 *
 * @returns {{t, layer, unit, gaps, starts, slopes, values, ends, outputs, segments}} breakpoints `t`
 *   with layer and unit (M); `gaps` (M x outputs); `starts` of the pieces (M + 1); `slopes` and
 *   `values` at the start of each piece (M + 1 x outputs); `ends` (outputs).
 */
export function trace(network, start, end) {
  const inputs = network[0].inputs;
  let knots = [0, 1]; // where pieces start, and the end
  let made = []; // {t, layer, unit} of each switch so far, in order: the knots between
  let values = Float64Array.from([...start, ...end]); // activations at the knots
  let slopes = Float64Array.from(start, (x, j) => end[j] - x); // their derivatives on the pieces
  let width = inputs;

  network.forEach((layer, number) => {
    const units = layer.outputs;
    const z = new Float64Array(knots.length * units);
    const dz = new Float64Array((knots.length - 1) * units);
    for (let k = 0; k < knots.length; k++) dense(layer, values, k * width, z, k * units);
    for (let p = 0; p + 1 < knots.length; p++) dense(layer, slopes, p * width, dz, p * units, false);
    width = units;
    if (number === network.length - 1) {
      values = z;
      slopes = dz;
      return;
    }
    const { on, switches } = crossings(z, knots, units);
    const cuts = [...made.map((s, i) => ({ ...s, piece: i, old: true }))];
    for (const s of switches) cuts.push({ t: s.t, layer: number, unit: s.unit, piece: s.piece, old: false });
    // A cut inside a piece comes before the knot that ends it, even if rounding makes them equal.
    cuts.sort((a, b) => a.piece - b.piece || a.old - b.old || a.t - b.t || a.unit - b.unit);

    // Activations and their slopes at the old and new knots.
    const all = [0, ...cuts.map((cut) => cut.t), 1];
    const activations = new Float64Array(all.length * units);
    const derivatives = new Float64Array((all.length - 1) * units);
    const state = Uint8Array.from(on);
    let piece = 0; // of the old pieces
    const knot = (row) => {
      const from = knots[piece];
      const length = knots[piece + 1] - from;
      const share = length > 0 ? (all[row] - from) / length : 0;
      for (let i = 0; i < units; i++) {
        if (!state[i]) continue;
        const a = z[piece * units + i];
        const b = z[(piece + 1) * units + i];
        activations[row * units + i] = Math.max(a + share * (b - a), 0);
      }
    };
    const slope = (row) => {
      for (let i = 0; i < units; i++) if (state[i]) derivatives[row * units + i] = dz[piece * units + i];
    };
    knot(0);
    slope(0);
    cuts.forEach((cut, i) => {
      knot(i + 1);
      if (cut.old) piece++;
      else {
        state[cut.unit] ^= 1;
        activations[(i + 1) * units + cut.unit] = 0;
      }
      slope(i + 1);
    });
    knot(all.length - 1);
    values = activations;
    slopes = derivatives;
    knots = all;
    made = cuts.map(({ t, layer: of, unit }) => ({ t, layer: of, unit }));
  });

  const pieces = made.length + 1;
  const gaps = new Float64Array(made.length * width);
  for (let k = 0; k < gaps.length; k++) gaps[k] = slopes[k + width] - slopes[k];
  return {
    t: Float64Array.from(made, (s) => s.t),
    layer: Int32Array.from(made, (s) => s.layer),
    unit: Int32Array.from(made, (s) => s.unit),
    gaps,
    starts: Float64Array.from(knots.slice(0, pieces)),
    slopes,
    values: values.slice(0, pieces * width),
    ends: values.slice(pieces * width),
    outputs: width,
    segments: 1,
  };
}

/**
 * Which units are on just after the start, and where each changes its sign.
 *
 * A pre-activation may be exactly zero at a knot; the sign changes there if it differs between the
 * last and the next value that is not zero.
 */
function crossings(z, knots, units) {
  const on = new Uint8Array(units);
  const switches = [];
  for (let i = 0; i < units; i++) {
    let last = -1; // the last knot at which the unit was not at zero
    for (let k = 0; k < knots.length; k++) {
      const value = z[k * units + i];
      if (value === 0 || !Number.isFinite(value)) continue;
      if (last < 0) on[i] = value > 0 ? 1 : 0;
      else if (value > 0 !== z[last * units + i] > 0) {
        const piece = k - 1;
        const before = z[piece * units + i];
        const share = before === 0 ? 0 : before / (before - value);
        switches.push({ t: knots[piece] + share * (knots[k] - knots[piece]), unit: i, piece });
      }
      last = k;
    }
  }
  return { on, switches };
}
