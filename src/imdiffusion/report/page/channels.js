// The stack of channels: one figure each, drawn only while it is near the screen.

const CHANNEL_HEIGHT = 96;
const BLAME = 0.05; // the share of an event from which a channel is to blame for it
const MOST_LOADED = 96; // channels whose series stay in memory

class ChannelChart extends Chart {
  constructor(host, entity, channel, timeline, data, readout) {
    const { step } = facts.entities[entity];
    const events = facts.events.filter((event) => event.entity === entity);
    const isBlamed = (event) => event.shares[event.channels.indexOf(channel)] >= BLAME;
    super(host, {
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
        drawClear: (plot) => {
          paintMissing(plot, data.missing, timeline.x, step);
          paintEvents(plot, entity);
        },
        draw: (plot) => paintDepartures(plot, plot.data, events, isBlamed),
      },
    });
    Object.assign(this, { entity, timeline, data, readout });
    this.refresh();
  }

  // x, lower, upper, expected, seen
  points() {
    const { seen, expected, lower, upper } = this.data;
    const cut = buckets(this.timeline.x, view.lo, view.hi, this.pixelWidth);
    const [low, high, middle, real] = [lower, upper, expected, seen].map((one) => extremes(one, cut));
    const points = [
      positions(this.timeline.x, cut),
      edge(low, cut.size, Math.min),
      edge(high, cut.size, Math.max),
      middle,
      real,
    ];
    this.y = channelRange(points);
    return points;
  }

  follow() {
    super.follow();
    const event = facts.events[state.event];
    const at = view.hover ?? (event && event.entity === this.entity ? event.peak : null);
    if (at === null) {
      this.readout.replaceChildren();
      return;
    }
    const row = nearestRow(this.timeline.x, at);
    const [seen, expected, lower, upper] = ["seen", "expected", "lower", "upper"].map((name) =>
      this.data[name].value(row),
    );
    const outside = seen > upper || seen < lower;
    const when = document.createElement("span");
    when.className = "when";
    when.textContent = view.hover === null ? "at the peak: " : "";
    this.readout.replaceChildren(
      when,
      "seen ",
      bold(number(seen), outside ? "alarm" : ""),
      "  expected ",
      bold(number(expected), "expected"),
      ` (${number(lower)} to ${number(upper)})`,
    );
  }
}

// The range of seen and expected in view, with as much of the band as leaves these readable.
function channelRange([, lower, upper, expected, seen]) {
  const ends = (...lists) => {
    let [low, high] = [Infinity, -Infinity];
    for (const list of lists) {
      for (const value of list) {
        if (value === null) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    return [low, high];
  };
  const [low, high] = ends(seen, expected);
  if (low > high) return [0, 1];
  const room = (high - low) * 0.5 || Infinity;
  const [bandLow, bandHigh] = ends(lower, upper);
  const from = Math.min(low, Math.max(bandLow, low - room));
  const to = Math.max(high, Math.min(bandHigh, high + room));
  const margin = (to - from) * 0.06 || Math.abs(to) * 0.05 || 1;
  return [from - margin, to + margin];
}

const loaded = new Map(); // "entity:channel" -> promise of series, least recently used first

function channelData(entity, channel) {
  const key = `${entity}:${channel}`;
  const data = loaded.get(key) || loadChannel(entity, channel);
  loaded.delete(key);
  loaded.set(key, data);
  if (loaded.size > MOST_LOADED) loaded.delete(loaded.keys().next().value);
  return data;
}

class ChannelFigure {
  constructor(entity, channel, timeline) {
    Object.assign(this, { entity, channel, timeline, chart: null, near: false, onScreen: false });
    this.name = facts.entities[entity].channels[channel];
    this.root = document.createElement("figure");
    this.root.className = "chart";
    const caption = document.createElement("figcaption");
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = name.title = this.name;
    this.part = document.createElement("span");
    this.part.className = "part";
    this.readout = document.createElement("span");
    this.readout.className = "read";
    caption.append(name, this.part, this.readout);
    this.host = document.createElement("div");
    this.host.className = "plot";
    this.host.style.height = CHANNEL_HEIGHT + "px";
    this.host.setAttribute("role", "img");
    this.root.append(caption, this.host);
    this.root.figure = this;
  }

  // `part` of the event with that number, or of all alarms (null).
  showShare(part, number) {
    // a bar as event cards have from report/cards.py; numbers only, so nothing to escape
    const filled = `<rect width="${part * 100}%" height="100%"/>`;
    this.part.innerHTML = `<svg class="share" aria-hidden="true">${filled}</svg>`;
    this.part.append(" " + percent(part));
    const whole = number === null ? "of all alarms" : `of event ${number}`;
    this.part.title = `${percent(part)} ${whole}`;
    this.host.setAttribute("aria-label", `${this.name}: seen against expected, ${percent(part)} ${whole}`);
  }

  async draw() {
    if (this.chart || this.drawing) return;
    this.drawing = true;
    const data = await channelData(this.entity, this.channel);
    this.drawing = false;
    if (!this.near) return;
    this.chart = new ChannelChart(this.host, this.entity, this.channel, this.timeline, data, this.readout);
    this.chart.follow();
    this.root.classList.add("drawn");
  }

  erase() {
    if (state.printing) return;
    this.chart?.destroy();
    this.chart = null;
    this.root.classList.remove("drawn");
  }
}
