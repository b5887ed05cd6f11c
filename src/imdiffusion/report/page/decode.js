// From the page's text blocks to series, and from series to what fits on the screen.
// The layout is that of report/payload.py.

const BLOCK_BITS = 10; // blocks of 1024 rows
const MISSING = 65535;

async function bytesOf(id) {
  const text = document.getElementById(id).textContent;
  const packed = Uint8Array.fromBase64
    ? Uint8Array.fromBase64(text)
    : Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(plain).arrayBuffer();
}

// A quantised series; value(i) is NaN where nothing was observed.
class Quantised {
  constructor(codes, low, step) {
    this.codes = codes;
    this.low = low;
    this.step = step;
  }

  value(i) {
    const code = this.codes[i];
    const block = i >> BLOCK_BITS;
    return code === MISSING ? NaN : this.low[block] + code * this.step[block];
  }
}

// An edge of the band, stored as its reach from another series.
class Edge {
  constructor(middle, reach, sign) {
    this.middle = middle;
    this.reach = reach;
    this.sign = sign;
  }

  value(i) {
    return this.middle.value(i) + this.sign * this.reach.value(i);
  }
}

class Plain {
  constructor(values) {
    this.values = values;
  }

  value(i) {
    return this.values[i];
  }
}

// {x: Float64Array, score: Plain} of an entity.
async function loadTimeline(entity, origin) {
  const buffer = await bytesOf(`e${entity}`);
  const rows = new Uint32Array(buffer, 0, 2)[0];
  const change = new Float64Array(buffer, 8, rows);
  const x = new Float64Array(rows);
  for (let i = 0, offset = 0; i < rows; i++) x[i] = origin + (offset += change[i]);
  const score = new Plain(new Float32Array(buffer, 8 + 8 * rows, rows));
  return { x, score, missing: missingRuns(score, rows) };
}

// {seen, expected, lower, upper, missing} of a channel.
async function loadChannel(entity, channel) {
  const buffer = await bytesOf(`e${entity}c${channel}`);
  const [rows, count] = new Uint32Array(buffer, 0, 2);
  const blocks = Math.ceil(rows / (1 << BLOCK_BITS));
  const series = [];
  for (let s = 0; s < count; s++) {
    const low = new Float64Array(buffer, 8 + 16 * blocks * s, blocks);
    const step = new Float64Array(buffer, 8 + 16 * blocks * s + 8 * blocks, blocks);
    const planes = new Uint8Array(buffer, 8 + 16 * blocks * count + 2 * rows * s, 2 * rows);
    const codes = new Uint16Array(rows);
    for (let i = 0, code = 0; i < rows; i++) codes[i] = code += (planes[i] << 8) | planes[rows + i];
    series.push(new Quantised(codes, low, step));
  }
  const [seen, expected, below, above] = series;
  const lower = new Edge(expected, below, -1);
  const upper = new Edge(expected, above, 1);
  return { seen, expected, lower, upper, missing: missingRuns(seen, rows) };
}

// [first, past the last] rows of each run without a value.
function missingRuns(series, rows) {
  const runs = [];
  for (let i = 0; i < rows; i++) {
    if (!Number.isNaN(series.value(i))) continue;
    const first = i;
    while (i < rows && Number.isNaN(series.value(i))) i++;
    runs.push([first, i]);
  }
  return runs;
}

// The first row at or after x.
function rowAt(xs, x) {
  let lo = 0;
  let hi = xs.length;
  while (lo < hi) {
    const middle = (lo + hi) >> 1;
    if (xs[middle] < x) lo = middle + 1;
    else hi = middle;
  }
  return lo;
}

function nearestRow(xs, x) {
  const row = Math.min(rowAt(xs, x), xs.length - 1);
  return row > 0 && x - xs[row - 1] < xs[row] - x ? row - 1 : row;
}

// Buckets of rows for a window lo..hi on `width` pixels: single rows where these fit, else
// buckets of `size` rows that start at multiples of it, so that nothing flickers when moving.
function buckets(xs, lo, hi, width) {
  const first = Math.max(0, rowAt(xs, lo) - 1);
  const end = Math.min(xs.length, rowAt(xs, hi) + 1);
  if (end - first <= 2 * width) return { first, end, size: 1 };
  const size = Math.ceil((end - first) / width);
  return { first: Math.floor(first / size) * size, end, size };
}

// Two points a bucket: its lowest and highest value, the earlier one first (null: nothing there).
function extremes(series, { first, end, size }) {
  const points = [];
  for (let from = first; from < end; from += size) {
    let low = Infinity;
    let high = -Infinity;
    let lowFirst = true;
    for (let i = from, last = Math.min(end, from + size); i < last; i++) {
      const value = series.value(i);
      if (value < low) {
        low = value;
        lowFirst = false;
      }
      if (value > high) {
        high = value;
        lowFirst = true;
      }
    }
    if (size === 1) points.push(low === Infinity ? null : low);
    else if (low === Infinity) points.push(null, null);
    else if (lowFirst) points.push(low, high);
    else points.push(high, low);
  }
  return points;
}

// The x of the points that `extremes` gives.
function positions(xs, { first, end, size }) {
  const points = [];
  for (let from = first; from < end; from += size) {
    points.push(xs[from]);
    if (size > 1) points.push(xs[Math.min(end - 1, from + (size >> 1))]);
  }
  return points;
}

// An edge of the band: in both points of a bucket its outermost value.
function edge(points, size, outer) {
  if (size === 1) return points;
  for (let i = 0; i < points.length; i += 2) {
    if (points[i] !== null) points[i] = points[i + 1] = outer(points[i], points[i + 1]);
  }
  return points;
}
