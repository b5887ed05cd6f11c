// What charts draw beside their lines: colours, events, gaps, the threshold, known faults.

const ink = {};

function readInk() {
  const style = getComputedStyle(document.documentElement);
  for (const name of [
    "paper", "panel", "ink", "soft", "line", "grid", "seen", "expected", "band", "alarm", "event", "chosen",
    "fault", "missing", "calm", "veil",
  ]) ink[name] = style.getPropertyValue("--" + name).trim();
  ink.font = `11px ${style.getPropertyValue("--sans").trim()}`;
}

// Left and right canvas pixels of lo..hi inside the plot, or null where it is outside.
function pixels(plot, lo, hi, least = 0) {
  const { left, width } = plot.bbox;
  let from = plot.valToPos(lo, "x", true);
  let to = plot.valToPos(hi, "x", true);
  if (!(to >= left && from <= left + width)) return null;
  if (to - from < least) {
    const middle = (from + to) / 2;
    [from, to] = [middle - least / 2, middle + least / 2];
  }
  return [Math.max(left, from), Math.min(left + width, to)];
}

// Fills spans [lo, hi] of x over the height of the plot; neighbours that touch become one.
function fillSpans(plot, spans, colour, least = 0) {
  const { ctx, bbox } = plot;
  ctx.fillStyle = colour;
  let held = null;
  for (const [lo, hi] of spans) {
    const ends = pixels(plot, lo, hi, least);
    if (!ends) continue;
    if (held && ends[0] <= held[1] + 0.5) held[1] = Math.max(held[1], ends[1]);
    else {
      if (held) ctx.fillRect(held[0], bbox.top, held[1] - held[0], bbox.height);
      held = ends;
    }
  }
  if (held) ctx.fillRect(held[0], bbox.top, held[1] - held[0], bbox.height);
}

function paintMissing(plot, runs, xs, step) {
  fillSpans(plot, runs.map(([first, end]) => [xs[first] - step / 2, xs[end - 1] + step / 2]), ink.missing);
}

function paintEvents(plot, entity) {
  const least = 2 * devicePixelRatio;
  const others = [];
  facts.events.forEach((event, k) => {
    if (event.entity !== entity) return;
    if (k === state.event) paintChosen(plot, event, least);
    else others.push([event.start, event.end]);
  });
  fillSpans(plot, others, ink.event, least);
}

function paintChosen(plot, event, least) {
  const { ctx, bbox } = plot;
  fillSpans(plot, [[event.start, event.end]], ink.chosen, least);
  ctx.fillStyle = ink.alarm;
  for (const x of [event.start, event.end]) {
    const ends = pixels(plot, x, x, devicePixelRatio);
    if (ends) ctx.fillRect(ends[0], bbox.top, ends[1] - ends[0], bbox.height);
  }
}

function paintThreshold(plot) {
  const { ctx, bbox } = plot;
  const y = Math.round(plot.valToPos(1, "y", true)) + 0.5;
  ctx.strokeStyle = ink.alarm;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.setLineDash([]);
}

// The strip of known faults under a lane, each with its name where there is room for it.
function paintFaults(plot, faults, named) {
  const { ctx, bbox } = plot;
  const unit = devicePixelRatio;
  const top = bbox.top + bbox.height + 4 * unit;
  ctx.font = ink.font.replace("11px", `${11 * unit}px`);
  ctx.textAlign = "left";
  ctx.textBaseline = "top";
  ctx.fillStyle = ink.fault;
  let free = -Infinity;
  for (const fault of faults) {
    const ends = pixels(plot, fault.start, fault.end, 3 * unit);
    if (!ends) continue;
    ctx.fillRect(ends[0], top, ends[1] - ends[0], 4 * unit);
    if (!named) continue;
    const room = ctx.measureText(fault.kind).width;
    const left = Math.min(ends[0], bbox.left + bbox.width - room);
    if (left < free) continue;
    ctx.fillText(fault.kind, left, top + 7 * unit);
    free = left + room + 10 * unit;
  }
}

// Inside events, what was seen outside the band is drawn once more in the colour of alarm: all of
// it in the channels to blame, in others only what is outside by half the band's width or more.
function paintDepartures(plot, [xs, lower, upper, , seen], events, isBlamed) {
  const { ctx, bbox } = plot;
  const slack = (2 * (xs[xs.length - 1] - xs[0])) / xs.length;
  const spans = events.filter((event) => event.end >= view.lo && event.start <= view.hi);
  if (!spans.length) return;
  const out = (i) => {
    if (seen[i] === null || upper[i] === null) return false;
    const beyond = Math.max(seen[i] - upper[i], lower[i] - seen[i]);
    if (!(beyond > 0)) return false;
    const event = spans.find(({ start, end }) => xs[i] >= start - slack && xs[i] < end + slack);
    return event !== undefined && (isBlamed(event) || beyond >= (upper[i] - lower[i]) / 2);
  };
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.beginPath();
  for (let i = 1; i < xs.length; i++) {
    if (seen[i] === null || seen[i - 1] === null || !(out(i) || out(i - 1))) continue;
    ctx.moveTo(plot.valToPos(xs[i - 1], "x", true), plot.valToPos(seen[i - 1], "y", true));
    ctx.lineTo(plot.valToPos(xs[i], "x", true), plot.valToPos(seen[i], "y", true));
  }
  ctx.strokeStyle = ink.alarm;
  ctx.lineWidth = 1.75 * devicePixelRatio;
  ctx.lineJoin = "round";
  ctx.stroke();
  ctx.restore();
}

// The overview veils what is outside the window.
function paintWindow(plot) {
  if (isFull()) return;
  const { ctx, bbox } = plot;
  const [from, to] = pixels(plot, view.lo, view.hi, 4 * devicePixelRatio);
  ctx.fillStyle = ink.veil;
  ctx.fillRect(bbox.left, bbox.top, from - bbox.left, bbox.height);
  ctx.fillRect(to, bbox.top, bbox.left + bbox.width - to, bbox.height);
  ctx.strokeStyle = ink.expected;
  ctx.lineWidth = devicePixelRatio;
  ctx.strokeRect(from, bbox.top, to - from, bbox.height);
}
