/**
 * The output of a network with one hidden layer along a line, exactly, as `ofOutput` has it of the
 * tracer. Each unit switches at most once, so that no layer's work has to be repeated for every
 * piece: a thousand units take less than a millisecond.
 */
export function shallow([hidden, last], start, end) {
  const { weights, biases, inputs, outputs: units } = hidden;
  const switches = [];
  let value = last.biases[0];
  let final = last.biases[0];
  let slope = 0;
  for (let j = 0; j < units; j++) {
    let [a, b] = [biases[j], biases[j]];
    for (let k = 0; k < inputs; k++) {
      a += weights[j * inputs + k] * start[k];
      b += weights[j * inputs + k] * end[k];
    }
    const onward = last.weights[j];
    value += onward * Math.max(a, 0);
    final += onward * Math.max(b, 0);
    if (a > 0) slope += onward * (b - a);
    if (a > 0 !== b > 0) switches.push({ t: a / (a - b), unit: j, gap: onward * Math.abs(b - a) });
  }
  switches.sort((one, other) => one.t - other.t || one.unit - other.unit);
  const starts = Float64Array.from([0, ...switches.map((s) => s.t)]);
  const slopes = new Float64Array(starts.length);
  const values = new Float64Array(starts.length);
  [slopes[0], values[0]] = [slope, value];
  switches.forEach(({ gap }, i) => {
    slopes[i + 1] = slopes[i] + gap;
    values[i + 1] = values[i] + (starts[i + 1] - starts[i]) * slopes[i];
  });
  return {
    t: starts.slice(1),
    layer: new Int32Array(switches.length),
    unit: Int32Array.from(switches, (s) => s.unit),
    starts,
    segments: 1,
    gaps: Float64Array.from(switches, (s) => s.gap),
    slopes,
    values,
    end: final,
  };
}
