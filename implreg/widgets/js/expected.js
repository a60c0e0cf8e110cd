/**
 * What theory says of a random network without biases, on average over networks and exact in the
 * limit of width (the book's theorems T1 and T3): switches, and the two measures of one output.
 *
 * @param start, end two points of the plane, in units in which samples have norm 1
 * @param scale of the hidden weights; 1 is He initialisation
 */
export function expected({ start, end, width, depth, scale }) {
  const way = [end[0] - start[0], end[1] - start[1]];
  const length = Math.hypot(...way);
  if (!(length > 0)) return { angle: 0, switches: 0, gapDeviation: NaN, deflection: 0 };
  // Angles of both ends as seen from the origin, from the line's nearest point to it.
  const cross = (start[0] * way[1] - start[1] * way[0]) / length;
  const along = [start, end].map((x) => (x[0] * way[0] + x[1] * way[1]) / length);
  const [a, b] = along.map((x) => Math.atan2(x, Math.abs(cross)));
  const angle = b - a;
  const integral = angle / 2 + (Math.sin(2 * b) - Math.sin(2 * a)) / 4;
  const switches = (angle / Math.PI) * width * depth;
  const variation = depth * (4 / Math.PI) * length ** 2 * integral * scale ** (2 * depth);
  return {
    angle,
    switches,
    gapDeviation: Math.sqrt(variation / switches),
    deflection: Math.sqrt(variation) / 2,
  };
}
