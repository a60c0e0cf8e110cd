import { mixIn, normal } from "./random.js";

/**
 * A fully connected ReLU network: an array of dense layers {weights, biases, inputs, outputs}, the
 * weights row by row (outputs x inputs) in double precision. A ReLU follows each but the last.
 */

/**
 * A random network without biases at He initialisation: weights of variance scale^2 * 2 / inputs,
 * those of the output layer 1 / inputs. Networks are nested: more units leave the others' draws as
 * they are.
 */
export function randomNetwork({ inputs, width, depth, scale, seed }) {
  const sizes = [inputs, ...Array(depth).fill(width), 1];
  return sizes.slice(1).map((outputs, layer) => {
    const fanIn = sizes[layer];
    const size = layer < depth ? scale * Math.sqrt(2 / fanIn) : Math.sqrt(1 / fanIn);
    const weights = new Float64Array(outputs * fanIn);
    const place = mixIn(mixIn(0, seed), layer);
    for (let i = 0; i < outputs; i++) {
      const row = mixIn(place, i);
      for (let j = 0; j < fanIn; j++) weights[i * fanIn + j] = size * normal(mixIn(row, j));
    }
    return { weights, biases: new Float64Array(outputs), inputs: fanIn, outputs };
  });
}

/** W x + b for the input in `x` from `start` on, written into `target` from `to` on. */
export function dense(layer, x, start, target, to, biased = true) {
  const { weights, biases, inputs, outputs } = layer;
  for (let i = 0, k = 0; i < outputs; i++) {
    let sum = biased ? biases[i] : 0;
    for (let j = 0; j < inputs; j++, k++) sum += weights[k] * x[start + j];
    target[to + i] = sum;
  }
}

/** All outputs of a network at one input. */
export function outputsAt(network, x) {
  let values = Float64Array.from(x);
  network.forEach((layer, number) => {
    const next = new Float64Array(layer.outputs);
    dense(layer, values, 0, next, 0);
    if (number < network.length - 1) for (let i = 0; i < next.length; i++) next[i] = Math.max(next[i], 0);
    values = next;
  });
  return values;
}
