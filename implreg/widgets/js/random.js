// Random numbers that depend on nothing but their place: seed, layer, unit and input.
// `implreg/widgets/random_networks.py` draws the same ones.

/** The finaliser of MurmurHash3: 32 bits in, 32 well mixed bits out. */
function mix(x) {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return x ^ (x >>> 16);
}

/** Mix one more number into a hash. */
export function mixIn(hash, number) {
  return mix(hash ^ mix((number + 0x9e3779b9) | 0));
}

/** A standard normal number, by Box and Muller, from the hash of its place. */
export function normal(hash) {
  const first = (mixIn(hash, 0) >>> 0) + 0.5;
  const second = mixIn(hash, 1) >>> 0;
  return Math.sqrt(-2 * Math.log(first / 4294967296)) * Math.cos((2 * Math.PI * second) / 4294967296);
}
