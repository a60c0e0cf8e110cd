/** The numbers that Python has packed as {dtype, data}: base64, little endian. */
export function unpack({ dtype, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const kind = { float64: Float64Array, float32: Float32Array, int32: Int32Array, uint8: Uint8Array }[dtype];
  return dtype === "float32" ? Float64Array.from(new kind(bytes.buffer)) : new kind(bytes.buffer);
}
