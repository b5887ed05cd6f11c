// Numbers, times and ticks as people read them; wording.py says the same in Python.

const PREFIXES = { 4: "T", 3: "G", 2: "M", 1: "k", 0: "", "-2": "µ", "-3": "n" };
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY = 86400;
const TIME_STEPS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800,
  3600, 7200, 10800, 21600, 43200, DAY, 2 * DAY, 7 * DAY, 14 * DAY,
];
const MONTH_STEPS = [1, 2, 3, 6, 12, 24, 60, 120];

function prefixPower(size) {
  if (size === 0 || (size >= 1e-3 && size < 1e3)) return 0;
  const power = Math.floor(+(Math.log10(size) / 3).toFixed(9));
  return power === -1 ? -2 : power;
}

// Three significant digits with an SI prefix; a dash for what is not there.
function number(value) {
  if (value == null || Number.isNaN(value)) return "–";
  const rounded = +value.toPrecision(3);
  const power = prefixPower(Math.abs(rounded));
  if (!(power in PREFIXES)) return value.toExponential(2).replaceAll("-", "−");
  return String(+(rounded / 1000 ** power).toPrecision(4)).replace("-", "−") + PREFIXES[power];
}

function percent(part) {
  return part > 0 && part < 0.01 ? "<1%" : Math.round(part * 100) + "%";
}

function duration(seconds) {
  if (seconds < 1) return Math.round(seconds * 1000) + " ms";
  if (seconds < 60) return +seconds.toPrecision(3) + " s";
  const pair = (whole, size, unit, part) => {
    const [first, second] = [Math.floor(whole / size), whole % size];
    return `${first} ${unit}` + (second ? ` ${String(second).padStart(2, "0")} ${part}` : "");
  };
  const whole = Math.round(seconds);
  if (whole < 3600) return pair(whole, 60, "min", "s");
  if (whole < DAY) return pair(Math.floor(whole / 60), 60, "h", "min");
  return pair(Math.floor(whole / 3600), 24, "d", "h").replace(" 0", " ");
}

// "2026-01-05 10:00:00"; tenths only where the window is so narrow that they differ.
function moment(x, fine) {
  if (!facts.temporal) return "row " + Math.round(x).toLocaleString("en-US");
  return new Date(Math.round(x * 1000)).toISOString().slice(0, fine ? 21 : 19).replace("T", " ");
}

function span(lo, hi) {
  const sameDay = Math.floor(lo / DAY) === Math.floor(hi / DAY);
  if (!facts.temporal) return `${moment(lo)} – ${Math.round(hi).toLocaleString("en-US")}`;
  return `${moment(lo)} – ${sameDay ? moment(hi).slice(11) : moment(hi)} UTC · ${duration(hi - lo)}`;
}

function steps(lo, hi, step, from = 0) {
  const ticks = [];
  for (let k = Math.ceil((lo - from) / step); k * step + from <= hi; k++) ticks.push(k * step + from);
  return ticks;
}

// Ticks along time on whole seconds, minutes, days, months of UTC; at most one in 80 pixels.
function xTicks(lo, hi, width) {
  const least = (hi - lo) / Math.max(1, width / 80);
  if (!facts.temporal) return steps(lo, hi, Math.max(1, niceStep(least)));
  const step = TIME_STEPS.find((candidate) => candidate >= least);
  if (step) return steps(lo, hi, step, step >= 7 * DAY ? 4 * DAY : 0);
  const months = MONTH_STEPS.find((count) => count * 30.4 * DAY >= least) || 240;
  const ticks = [];
  const first = new Date(lo * 1000);
  let month = Math.ceil((first.getUTCFullYear() * 12 + first.getUTCMonth()) / months) * months;
  for (;; month += months) {
    const x = Date.UTC(Math.floor(month / 12), month % 12) / 1000;
    if (!(x <= hi)) return ticks;
    if (x >= lo) ticks.push(x);
  }
}

function xLabels(ticks) {
  if (!facts.temporal) return ticks.map((x) => x.toLocaleString("en-US"));
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : 1;
  return ticks.map((x) => {
    const date = new Date(Math.round(x * 1000));
    const iso = date.toISOString();
    if (x % DAY === 0) {
      if (step >= 28 * DAY) return date.getUTCMonth() ? MONTHS[date.getUTCMonth()] : iso.slice(0, 4);
      return `${MONTHS[date.getUTCMonth()]} ${date.getUTCDate()}`;
    }
    if (step >= 60) return iso.slice(11, 16);
    return iso.slice(11, step >= 1 ? 19 : step >= 0.1 ? 21 : 23);
  });
}

function niceStep(least) {
  const size = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * size).find((step) => step >= least * 0.999);
}

function yTicks(lo, hi) {
  return steps(lo, hi, niceStep((hi - lo) / 4.5));
}

// Labels of one axis share a prefix and as many decimals as tell its ticks apart.
function yLabels(ticks) {
  if (ticks.length < 2) return ticks.map(number);
  const largest = Math.max(...ticks.map(Math.abs));
  const power = prefixPower(largest);
  if (!(power in PREFIXES)) return ticks.map(number);
  const unit = 1000 ** power;
  const decimals = Math.min(6, Math.max(0, -Math.floor(Math.log10((ticks[1] - ticks[0]) / unit) + 1e-9)));
  return ticks.map((y) => {
    const text = (y / unit).toFixed(decimals);
    return Number(text) === 0 ? "0" : text.replace("-", "−") + PREFIXES[power];
  });
}
