// The charts: one shape of uPlot options, and what differs between overview, ruler, lane and channel.

const PAPER = 700; // pixels across a printed page
const CAP = 1000; // scores above this touch the ceiling

// Below the threshold a score is drawn as it is, above it by its logarithm.
const bend = (score) => (score > 1 ? 1 + Math.log10(Math.min(score, CAP)) : Math.max(0, score));

class Chart {
  // `x` of the whole entity; `height` in pixels; `series`, `bands`, `axes`, `hooks` as uPlot has them.
  constructor(host, options) {
    const { height, yTicks, yLabels, xAxis = {}, series = [], bands = [], hooks = {}, padding } = options;
    const left = options.left ?? leftMargin();
    this.host = host;
    this.height = height;
    this.y = [0, 1];
    this.plot = new uPlot(
      {
        width: this.width(),
        height,
        padding: padding || [6, 12, 6, 0],
        cursor: { show: false },
        select: { show: false },
        legend: { show: false },
        scales: { x: { time: false, range: () => this.range() }, y: { range: () => this.y } },
        axes: [
          {
            size: 0,
            font: ink.font,
            stroke: () => ink.soft,
            splits: (plot, axis, lo, hi) => xTicks(lo, hi, plot.bbox.width / devicePixelRatio),
            values: (plot, ticks) => ticks.map(() => null),
            grid: { stroke: () => ink.grid, width: 1 },
            ticks: { show: false },
            gap: 4,
            ...xAxis,
          },
          {
            size: left,
            font: ink.font,
            stroke: () => ink.soft,
            splits: (plot, axis, lo, hi) => yTicks(lo, hi),
            values: (plot, ticks) => yLabels(ticks),
            grid: { stroke: () => ink.grid, width: 1 },
            ticks: { show: false },
            gap: 8,
          },
        ],
        series: [{}, ...series.map((one) => ({ pxAlign: 0, points: lonePoints(one.stroke), ...one }))],
        bands,
        hooks: Object.fromEntries(Object.entries(hooks).map(([name, hook]) => [name, [hook]])),
      },
      [[view.lo, view.hi], ...series.map(() => [null, null])],
      host,
    );
    listenTo(this);
    live.add(this);
  }

  range() {
    return [view.lo, view.hi];
  }

  width() {
    return state.printing ? PAPER : Math.max(240, $("ruler").clientWidth);
  }

  get pixelWidth() {
    return Math.max(100, Math.round(this.plot.bbox.width / devicePixelRatio));
  }

  points() {
    return [[view.lo, view.hi], [null, null]];
  }

  refresh() {
    this.plot.setData(this.points());
  }

  follow() {
    placeMarks(this);
  }

  click(x) {
    const hit = facts.events.findIndex(
      (event) => event.entity === this.entity && x >= event.start && x <= event.end,
    );
    if (hit >= 0) chooseEvent(hit);
  }

  resize() {
    this.plot.setSize({ width: this.width(), height: this.height });
  }

  destroy() {
    live.delete(this);
    this.plot.destroy();
  }
}

// A line shows nothing of a value between two missing ones: that gets a dot.
function lonePoints(stroke) {
  const lone = (list) => list.flatMap((y, i) => (y !== null && list[i - 1] == null && list[i + 1] == null ? [i] : []));
  return {
    show: false,
    size: 3,
    width: 0,
    stroke,
    fill: stroke,
    filter: (plot, index) => {
      const found = stroke ? lone(plot.data[index]) : [];
      return found.length ? found : null;
    },
  };
}

function leftMargin() {
  return parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--left"));
}

// The score's line is calm below the threshold and in the colour of alarm above it.
function scoreStroke(plot) {
  const { top, height } = plot.bbox;
  if (!(height > 0) || plot.scales.y.min == null) return ink.calm;
  const at = Math.min(1, Math.max(0, (plot.valToPos(1, "y", true) - top) / height));
  const gradient = plot.ctx.createLinearGradient(0, top, 0, top + height);
  gradient.addColorStop(0, ink.alarm);
  gradient.addColorStop(at, ink.alarm);
  gradient.addColorStop(at, ink.calm);
  gradient.addColorStop(1, ink.calm);
  return gradient;
}

class ScoreChart extends Chart {
  constructor(host, entity, timeline, ceiling, options) {
    super(host, { series: [{ stroke: scoreStroke, width: 1.25 }], ...options });
    this.entity = entity;
    this.timeline = timeline;
    this.y = [0, ceiling];
    this.refresh();
  }

  points() {
    const [lo, hi] = this.range();
    const { x, score } = this.timeline;
    const cut = buckets(x, lo, hi, this.pixelWidth);
    return [positions(x, cut), extremes(score, cut).map((value) => (value === null ? null : bend(value)))];
  }
}

class Lane extends ScoreChart {
  constructor(host, entity, timeline, ceiling, readout) {
    const faults = facts.faults.filter((fault) => fault.entity === null || fault.entity === entity);
    const { step } = facts.entities[entity];
    super(host, entity, timeline, ceiling, {
      height: (facts.entities.length > 1 ? 84 : 120) + (faults.length ? 24 : 0),
      padding: [6, 12, faults.length ? 30 : 6, 0],
      yTicks: () => [0, 1, 2, 3, 4].filter((tick) => tick <= ceiling),
      yLabels: (ticks) => ticks.map((tick) => ["0", "1", "10", "100", "1k"][tick]),
      hooks: {
        drawClear: (plot) => {
          paintMissing(plot, timeline.missing, timeline.x, step);
          paintEvents(plot, entity);
        },
        drawAxes: paintThreshold,
        draw: (plot) => paintFaults(plot, faults, true),
      },
    });
    this.readout = readout;
  }

  follow() {
    super.follow();
    if (view.hover === null) {
      this.readout.replaceChildren();
      return;
    }
    const score = this.timeline.score.value(nearestRow(this.timeline.x, view.hover));
    this.readout.replaceChildren("score ", bold(number(score), score > 1 ? "alarm" : ""));
  }
}

class Overview extends ScoreChart {
  constructor(host, entity, timeline, ceiling) {
    super(host, entity, timeline, ceiling, {
      height: 35,
      left: 0,
      padding: [4, 0, 0, 0],
      yTicks: () => [],
      yLabels: () => [],
      xAxis: { grid: { show: false } },
      hooks: {
        drawClear: (plot) => paintEvents(plot, this.entity),
        draw: (plot) => paintWindow(plot),
      },
    });
  }

  range() {
    return view.full;
  }

  width() {
    return Math.max(100, this.host.clientWidth);
  }
}

// The labels of x for all charts below it.
class Ruler extends Chart {
  constructor(host) {
    super(host, {
      height: 26,
      padding: [0, 12, 0, 0],
      series: [{ stroke: null }],
      yTicks: () => [],
      yLabels: () => [],
      xAxis: { size: 22, values: (plot, ticks) => this.labels(ticks), grid: { show: false } },
    });
    this.stamp = document.createElement("div"); // the time under the pointer
    this.stamp.className = "stamp";
    host.append(this.stamp);
    this.refresh();
  }

  // A label that would be cut at the right edge is left out.
  labels(ticks) {
    const perPixel = (view.hi - view.lo) / this.pixelWidth;
    return xLabels(ticks).map((label, i) => (view.hi - ticks[i] < 20 * perPixel ? null : label));
  }

  follow() {
    super.follow();
    this.cross.hidden = true;
    this.stamp.hidden = view.hover === null;
    if (this.stamp.hidden) return;
    this.stamp.textContent = moment(view.hover, view.hi - view.lo < 30);
    const left = leftMargin() + this.plot.valToPos(view.hover, "x") - this.stamp.offsetWidth / 2;
    const most = this.host.clientWidth - this.stamp.offsetWidth;
    this.stamp.style.transform = `translateX(${Math.min(Math.max(0, left), most)}px)`;
  }
}

function bold(text, kind) {
  const mark = document.createElement("b");
  if (kind) mark.className = kind;
  mark.textContent = text;
  return mark;
}
