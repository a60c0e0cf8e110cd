// How the gaps of a path hang together.

import { measure } from "./measures.js";
import { mixIn } from "./random.js";

/** Sums of products of two gaps, of the same layer and of different layers. */
export function products({ gaps, layer }) {
  const sums = [];
  let squares = 0;
  gaps.forEach((gap, i) => {
    sums[layer[i]] = (sums[layer[i]] ?? 0) + gap;
    squares += gap * gap;
  });
  const total = sums.reduce((all, sum) => all + sum, 0);
  const ofLayers = sums.reduce((all, sum) => all + sum ** 2, 0);
  return { within: ofLayers - squares, between: total ** 2 - ofLayers };
}

/** The slopes that a path would have with its gaps in the random order number `order`. */
export function shuffled({ slopes, gaps }, order) {
  const keys = Uint32Array.from(gaps, (_, k) => mixIn(mixIn(0, order), k));
  const places = [...keys.keys()].sort((a, b) => keys[a] - keys[b] || a - b);
  const walk = Float64Array.from(slopes);
  places.forEach((place, k) => { walk[k + 1] = walk[k] + gaps[place]; });
  return walk;
}

/** How far slopes are from the line between the first and the last, at most. */
export function straying(slopes) {
  const steps = Math.max(slopes.length - 1, 1);
  const rise = slopes[slopes.length - 1] - slopes[0];
  return slopes.reduce((most, s, k) => Math.max(most, Math.abs(s - slopes[0] - (k / steps) * rise)), 0);
}

/** What paths have in common, added one by one. */
export class Pool {
  /** @param shares lags of the variance ratio, as shares of the switches of each path */
  constructor(shares) {
    this.shares = shares;
    this.paths = 0;
    this.switches = 0;
    this.variation = 0;
    this.within = 0;
    this.between = 0;
    this.midPath = 0; // squares
    this.bridges = []; // squared bridge estimates of paths with a switch
    this.far = shares.map(() => ({ squares: 0, steps: 0 }));
  }

  add(path) {
    const { switches, deflection, midPath } = measure(path);
    const { within, between } = products(path);
    this.paths += 1;
    this.switches += switches;
    this.variation += 4 * deflection ** 2;
    this.within += within;
    this.between += between;
    this.midPath += midPath ** 2;
    if (!switches) return;
    this.bridges.push((4 * midPath ** 2) / switches);
    this.shares.forEach((share, n) => {
      const lag = Math.max(Math.round(share * switches), 1);
      for (let i = 0; i + lag <= switches; i++) this.far[n].squares += (path.slopes[i + lag] - path.slopes[i]) ** 2;
      this.far[n].steps += lag * (switches + 1 - lag);
    });
  }

  /** Measures and sums of products, the latter over the sum of all squared gaps. */
  summary() {
    return {
      switches: this.switches / this.paths,
      gapDeviation: Math.sqrt(this.variation / this.switches),
      deflection: Math.sqrt(this.variation / this.paths) / 2,
      midPath: Math.sqrt(this.midPath / this.paths),
      ratio: this.ratio()[0],
      within: this.within / this.variation,
      between: this.between / this.variation,
    };
  }

  /** Bridge estimate over gradient gap deviation, and an interval of two standard errors each way. */
  ratio() {
    const count = this.bridges.length;
    const mean = this.bridges.reduce((sum, x) => sum + x, 0) / count;
    const spread = this.bridges.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (count - 1);
    const error = 2 * Math.sqrt(spread / count);
    const square = this.variation / this.switches;
    return [mean, mean - error, mean + error].map((x) => Math.sqrt(Math.max(x, 0) / square));
  }

  /** Mean of (s(i+k) - s(i))^2 over k times the mean squared gap, at each lag k. */
  varianceRatios() {
    return this.far.map(({ squares, steps }) => squares / steps / (this.variation / this.switches));
  }
}
