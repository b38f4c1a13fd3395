// Scales of charts: ticks at round numbers, and positions of values.

/** Return about `wanted` round numbers within [low, high]. */
export function ticks(low, high, wanted = 4) {
  const rough = (high - low || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++)
    found.push(+(at * step).toPrecision(12));
  return found;
}

/** Return the range of `values`, widened by `room` on each side, and never empty. */
export function range(values, { room = 0 } = {}) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (low === high) [low, high] = low === 0 ? [0, 1] : [low - Math.abs(low) * 0.1, high + Math.abs(high) * 0.1];
  return [low - (high - low) * room, high + (high - low) * room];
}

/** Return the linear function from [low, high] to [from, to]. */
export function linear([low, high], [from, to]) {
  return (value) => from + ((value - low) / (high - low)) * (to - from);
}

/** Return at most `most` of the points, including the first and the last. */
export function thinned(points, most) {
  if (points.length <= most) return points;
  const stride = (points.length - 1) / (most - 1);
  return Array.from({ length: most }, (_, at) => points[Math.round(at * stride)]);
}
