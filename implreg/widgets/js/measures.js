// The measures of `implreg.measures`, of one output on one path.

/** One output of a trace as plain arrays: gaps (M), slopes and values of the pieces, the end. */
export function ofOutput(trace, output) {
  const pick = (from) => {
    const picked = new Float64Array(from.length / trace.outputs);
    for (let k = 0; k < picked.length; k++) picked[k] = from[k * trace.outputs + output];
    return picked;
  };
  return {
    t: trace.t,
    layer: trace.layer,
    unit: trace.unit,
    starts: trace.starts,
    segments: trace.segments,
    gaps: pick(trace.gaps),
    slopes: pick(trace.slopes),
    values: pick(trace.values),
    end: trace.ends[output],
  };
}

/** Switches, gradient gap deviation, gradient deflection, mid-path deflection, fluctuation. */
export function measure(path) {
  const { gaps, slopes, values, starts, end } = path;
  const switches = gaps.length;
  const variation = gaps.reduce((sum, gap) => sum + gap * gap, 0);
  const ends = (slopes[0] + slopes[switches]) / 2;
  let fluctuation = 0;
  values.forEach((value, k) => {
    fluctuation = Math.max(fluctuation, Math.abs(value - (values[0] + starts[k] * (end - values[0]))));
  });
  return {
    switches,
    gapDeviation: switches ? Math.sqrt(variation / switches) : NaN,
    deflection: Math.sqrt(variation) / 2,
    midPath: slopes[switches >> 1] - ends,
    fluctuation,
  };
}

/**
 * Middle and half width (two standard deviations) of a random-walk bridge on every piece: a walk of
 * M steps of the gradient gap deviation that is held at the first and the last slope.
 */
export function bridgeBand(path) {
  const { slopes, gaps } = path;
  const steps = gaps.length;
  const { gapDeviation } = measure(path);
  const middle = new Float64Array(slopes.length);
  const half = new Float64Array(slopes.length);
  for (let k = 0; k < slopes.length; k++) {
    const share = steps ? k / steps : 0;
    middle[k] = slopes[0] + share * (slopes[steps] - slopes[0]);
    half[k] = steps ? 2 * gapDeviation * Math.sqrt(steps * share * (1 - share)) : 0;
  }
  return { middle, half };
}

/** The piece that the position t lies on; at a breakpoint the one behind it. */
export function pieceAt(path, t) {
  let low = 0;
  let high = path.starts.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (path.starts[middle] <= t) low = middle;
    else high = middle;
  }
  return low;
}
