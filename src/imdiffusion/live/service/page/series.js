// The channels of one entity, stacked by their share: seen against expected with its band.

const TOP = 16; // channels that are shown before all are asked for
const ROWS = 1500;

const shown = { entity: null, of: null, all: false, count: 0, until: 0, cut: false, number: 0 };

class SeriesChart extends Chart {
  constructor(figure) {
    super(figure.host, {
      height: CHANNEL_HEIGHT,
      yTicks,
      yLabels,
      series: [
        { stroke: null, width: 0 },
        { stroke: null, width: 0 },
        { stroke: () => ink.expected, width: 1.25 },
        { stroke: () => ink.seen, width: 1.25 },
      ],
      bands: [{ series: [2, 1], fill: () => ink.band }],
      hooks: {
        drawClear: (plot) => paintEvents(plot, figure.entity),
        draw: (plot) =>
          paintDepartures(plot, plot.data, facts.events.filter((one) => one.entity === figure.entity), () => true),
      },
    });
    this.entity = figure.entity;
    this.figure = figure;
    this.refresh();
  }

  points() {
    const { times, lower, upper, expected, seen } = this.figure.data;
    const from = Math.max(0, place(times, view.lo) - 1);
    const to = Math.min(times.length, place(times, view.hi) + 1);
    const points = [times, lower, upper, expected, seen].map((one) => one.slice(from, to));
    if (!points[0].length) return [[view.lo, view.hi], ...Array(4).fill([null, null])];
    this.y = channelRange(points);
    return points;
  }

  follow() {
    super.follow();
    const event = facts.events[state.event];
    const at = view.hover ?? (event?.entity === this.entity ? event.peak : null);
    const { times, seen, expected } = this.figure.data;
    const row = at === null ? -1 : nearest(times, at);
    if (row < 0) {
      this.figure.readout.replaceChildren();
      return;
    }
    this.figure.readout.replaceChildren("seen ", bold(number(seen[row])), " expected ", bold(number(expected[row]), "expected"));
  }
}

// The first index whose time is not before x.
function place(times, x) {
  let [lo, hi] = [0, times.length];
  while (lo < hi) {
    const middle = (lo + hi) >> 1;
    if (times[middle] < x) lo = middle + 1;
    else hi = middle;
  }
  return lo;
}

function nearest(times, x) {
  const at = place(times, x);
  if (at === 0) return times.length ? 0 : -1;
  if (at === times.length) return at - 1;
  return x - times[at - 1] <= times[at] - x ? at - 1 : at;
}

// Lines must not run over rows that are not there: an empty point stands in each hole.
function withHoles(found) {
  const { times } = found;
  const steps = times.slice(1).map((x, k) => x - times[k]).sort((a, b) => a - b);
  const usual = steps[steps.length >> 1] || Infinity;
  const parts = ["seen", "expected", "lower", "upper"];
  const laid = { times: [], ...Object.fromEntries(parts.map((part) => [part, found[part].map(() => [])])) };
  times.forEach((x, row) => {
    if (row && x - times[row - 1] > 2.5 * usual) {
      laid.times.push(times[row - 1] + usual);
      for (const part of parts) for (const list of laid[part]) list.push(null);
    }
    laid.times.push(x);
    for (const part of parts) found[part].forEach((list, k) => laid[part][k].push(list[row]));
  });
  return laid;
}

class SeriesFigure {
  constructor(entity, name) {
    Object.assign(this, { entity, name, chart: null, drawing: false });
    this.root = document.createElement("figure");
    this.root.className = "chart";
    const caption = document.createElement("figcaption");
    const title = document.createElement("span");
    title.className = "name";
    title.textContent = title.title = name;
    this.part = document.createElement("span");
    this.part.className = "part";
    this.readout = document.createElement("span");
    this.readout.className = "read";
    caption.append(title, this.part, this.readout);
    this.host = document.createElement("div");
    this.host.className = "plot";
    this.host.setAttribute("role", "img");
    this.root.append(caption, this.host);
  }

  take(data, share) {
    this.data = data;
    this.part.textContent = share > 0 ? `${percent(share)} of ${state.chosen === null ? "what departs" : "the event"}` : "";
    this.host.setAttribute("aria-label", `${this.name}: seen against expected, share ${percent(share)}`);
    if (this.chart) this.chart.refresh();
    else this.chart = new SeriesChart(this);
    this.chart.follow();
  }

  erase() {
    this.chart?.destroy();
    this.root.remove();
  }
}

// Asks for the series of the chosen entity in view, and draws them; of a change only what is new.
async function loadSeries() {
  const number = ++shown.number;
  const entity = state.entity;
  $("channels").hidden = entity === null;
  if (entity === null) return dropSeries();
  const event = facts.events[state.event];
  const query = { entity, since: iso(view.lo), until: iso(view.hi), rows: ROWS, top: shown.all ? 2000 : TOP };
  const blamed = event?.entity === entity ? new Map(event.channels.map((one) => [one.name, one.share])) : null;
  if (blamed) query.channel = event.channels.slice(0, shown.all ? 200 : TOP).map((one) => one.name);
  const found = await ask("/api/series", query);
  if (number !== shown.number) return;
  const key = `${entity}\n${state.chosen}`;
  if (shown.of !== key) dropSeries();
  Object.assign(shown, { of: key, entity, cut: found.cut, count: found.of });
  drawSeries(entity, found, blamed);
}

function drawSeries(entity, found, blamed) {
  const laid = withHoles(found);
  const known = new Map(state.figures.map((figure) => [figure.name, figure]));
  state.figures = found.channels.map((name) => known.get(name) || new SeriesFigure(entity, name));
  for (const [name, figure] of known) if (!found.channels.includes(name)) figure.erase();
  const there = [...$("stack").children];
  if (state.figures.some((figure, k) => figure.root !== there[k])) $("stack").append(...state.figures.map((figure) => figure.root));
  state.figures.forEach((figure, k) => {
    const data = { times: laid.times };
    for (const part of ["seen", "expected", "lower", "upper"]) data[part] = laid[part][k];
    figure.take(data, blamed ? blamed.get(figure.name) || 0 : found.parts[k]);
  });
  searchChannels();
}

function dropSeries() {
  for (const figure of state.figures) figure.erase();
  state.figures = [];
  shown.of = null;
}

function searchChannels() {
  const words = $("channel-search").value.trim().toLowerCase();
  let left = 0;
  for (const { root, name } of state.figures) {
    root.hidden = !name.toLowerCase().includes(words);
    left += !root.hidden;
  }
  const order = state.chosen === null ? "how far they depart in view" : "their share of the event";
  const cut = shown.cut ? ` The newest ${ROWS} rows are shown.` : "";
  const none = state.figures.length ? "" : " No rows are kept of this time.";
  $("order").textContent = `${state.entity}: ${left} of ${shown.count} channels, ordered by ${order}.${cut}${none}`;
  $("all-channels").hidden = shown.all || state.figures.length >= shown.count;
}
