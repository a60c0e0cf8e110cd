/** Angles of the sliders, in degrees. */
export const ANGLES = Array.from({ length: 35 }, (_, k) => 5 * (k + 1));

/**
 * Two samples at an angle in degrees, in units of their norm; and the typical slope between them,
 * the root of its mean square at He initialisation, at any width and depth (T4).
 */
export function pairAt(degrees) {
  const angle = (degrees * Math.PI) / 180;
  return { ends: [[1, 0], [Math.cos(angle), Math.sin(angle)]], typical: 2 * Math.sin(angle / 2) };
}

/** The same for a network with two inputs, where samples have norm sqrt(2). */
export function samplesAt(degrees) {
  return pairAt(degrees).ends.map((point) => point.map((x) => x * Math.SQRT2));
}

/** A path of one output in another unit of slopes and values. */
export function inUnits(path, unit) {
  const [gaps, slopes, values] = [path.gaps, path.slopes, path.values].map((list) => list.map((x) => x / unit));
  return { ...path, gaps, slopes, values, end: path.end / unit };
}
