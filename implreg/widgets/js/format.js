const MINUS = "\u2212";
const RAISED = { "-": "\u207b", 0: "\u2070", 1: "\u00b9", 2: "\u00b2", 3: "\u00b3", 4: "\u2074", 5: "\u2075", 6: "\u2076", 7: "\u2077", 8: "\u2078", 9: "\u2079" };

/** A number for readers, three digits that matter; a dash where there is none. */
export function number(value) {
  if (!Number.isFinite(value)) return "\u2014";
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) {
    const [digits, power] = value.toExponential(2).split("e");
    const raised = [...String(Number(power))].map((digit) => RAISED[digit]).join("");
    return `${digits.replace("-", MINUS)}\u202f\u00d7\u202f10${raised}`;
  }
  const plain = size >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
  return plain.replace("-", MINUS);
}

/** With a fixed number of decimals. */
export function fixed(value, decimals) {
  return Number.isFinite(value) ? value.toFixed(decimals).replace("-", MINUS) : "\u2014";
}
