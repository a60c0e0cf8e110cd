// What theory says of random networks without biases at He initialisation, on average over networks
// and exact in the limit of width. Points are in the plane, in units in which samples have norm 1.

/** The line through two points: its length, its distance from the origin, and angles on it. */
export function lineThrough(start, end) {
  const way = [end[0] - start[0], end[1] - start[1]];
  const length = Math.hypot(...way);
  const height = length > 0 ? Math.abs(start[0] * way[1] - start[1] * way[0]) / length : 0;
  const foot = length > 0 ? (start[0] * way[0] + start[1] * way[1]) / length : 0;
  // The angle of the point at t, as seen from the origin, from the line's nearest point to it.
  const angle = (t) => Math.atan2(foot + t * length, height);
  return { length, height, angle };
}

/**
 * Switches, gradient gap deviation and gradient deflection of one output (theorems T1 to T3).
 *
 * @param scale of the hidden weights; 1 is He initialisation
 */
export function expected({ start, end, width, depth, scale = 1 }) {
  const { length, angle } = lineThrough(start, end);
  const [a, b] = [angle(0), angle(1)];
  const integral = (b - a) / 2 + (Math.sin(2 * b) - Math.sin(2 * a)) / 4;
  const switches = length > 0 ? ((b - a) / Math.PI) * width * depth : 0;
  const variation = depth * (4 / Math.PI) * length ** 2 * integral * scale ** (2 * depth);
  return {
    switches,
    gapDeviation: switches > 0 ? Math.sqrt(variation / switches) : NaN,
    deflection: Math.sqrt(variation) / 2,
  };
}

/** Correlation of an output at two points that are an angle u apart, with two derivatives (T4). */
function correlation(depth, u) {
  let value = Math.cos(u);
  let first = -Math.sin(u);
  let second = -Math.cos(u);
  for (let layer = 0; layer < depth; layer++) {
    const cosine = Math.min(Math.max(value, -1), 1);
    const between = Math.acos(cosine);
    const sine = Math.sin(between);
    const slope = (Math.PI - between) / Math.PI;
    second = (sine > 1e-9 ? first ** 2 / (Math.PI * sine) : 0) + slope * second;
    value = (sine + (Math.PI - between) * cosine) / Math.PI;
    first *= slope;
  }
  return [value, first, second];
}

/** Covariance of the output at s and t (T4). */
export function outputCovariance(line, depth, s, t) {
  const [a, b] = [line.angle(s), line.angle(t)];
  const [value] = correlation(depth, Math.abs(b - a));
  return (line.height ** 2 * value) / (Math.cos(a) * Math.cos(b));
}

/** Covariance of the slopes at s and t (T4). */
export function slopeCovariance(line, depth, s, t) {
  const [a, b] = [line.angle(Math.min(s, t)), line.angle(Math.max(s, t))];
  const [value, first, second] = correlation(depth, b - a);
  const [ta, tb] = [Math.tan(a), Math.tan(b)];
  return line.length ** 2 * Math.cos(a) * Math.cos(b) * (ta * tb * value + (ta - tb) * first - second);
}

/** Root mean square distance of the output from its chord at t (T7). */
export function chordDeviation(line, depth, t) {
  const points = [t, 0, 1];
  const weights = [1, t - 1, -t];
  let square = 0;
  points.forEach((p, i) => points.forEach((q, j) => {
    square += weights[i] * weights[j] * outputCovariance(line, depth, p, q);
  }));
  return Math.sqrt(Math.max(square, 0));
}

/** Standard deviation of the mid-path deflection, where half of the switches are passed (T6). */
export function midPathDeviation(line, depth) {
  const middle = (line.angle(0) + line.angle(1)) / 2;
  const half = (line.height * Math.tan(middle) - line.height * Math.tan(line.angle(0))) / line.length;
  const c = (s, t) => slopeCovariance(line, depth, s, t);
  return Math.sqrt(Math.max(c(half, half) + (c(0, 0) + c(1, 1) + 2 * c(0, 1)) / 4 - c(0, half) - c(half, 1), 0));
}

/** Variance of the slope at t less the slope at the start, one hidden layer (T3, T4). */
export function walkVariance(line, t) {
  const [a, b] = [line.angle(0), line.angle(t)];
  return (4 / Math.PI) * line.length ** 2 * ((b - a) / 2 + (Math.sin(2 * b) - Math.sin(2 * a)) / 4);
}

/**
 * The variance ratio over a share of all switches if gaps were uncorrelated, samples of equal norm:
 * not quite 1, as gaps are larger in the middle of the path than at its ends.
 */
export function uncorrelatedRatio(line, share) {
  const half = line.angle(1);
  const theta = 2 * half;
  if (!(share < 1) || !(theta > 0)) return 1;
  const integral = (x) => x ** 2 / 4 - Math.cos(2 * x) / 8;
  const grown = 2 * (integral(half) - integral(half - share * theta));
  return grown / ((1 - share) * theta * share * (half + Math.sin(theta) / 2));
}
