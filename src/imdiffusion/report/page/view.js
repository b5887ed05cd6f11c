// The one window on x that all charts share, and the hands that move it.

const facts = JSON.parse(document.getElementById("facts").textContent);
const $ = (id) => document.getElementById(id);

const view = { lo: 0, hi: 1, full: [0, 1], least: 1, hover: null, brush: null };
const live = new Set(); // charts on the screen now
const listeners = []; // called after the window has moved

let frame = 0;
let stale = false;

// Everything on the screen follows in the next frame, however often this is called before it.
function refresh(data = true) {
  stale ||= data;
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    const redraw = stale;
    stale = false;
    for (const chart of live) {
      if (redraw) chart.refresh();
      chart.follow();
    }
    if (redraw) for (const listener of listeners) listener();
  });
}

function setFull(lo, hi, least) {
  Object.assign(view, { lo, hi, full: [lo, hi], least });
}

// Shows lo..hi, moved inside the whole period and no narrower than a few rows.
function setView(lo, hi) {
  const [first, last] = view.full;
  const width = Math.min(last - first, Math.max(hi - lo, view.least));
  const start = Math.min(Math.max(first, (lo + hi) / 2 - width / 2), last - width);
  view.lo = width === last - first ? first : start;
  view.hi = width === last - first ? last : start + width;
  refresh();
}

function isFull() {
  return view.lo === view.full[0] && view.hi === view.full[1];
}

// Zooms by `factor` about x (or about the middle): below 1 is closer.
function zoom(factor, x = (view.lo + view.hi) / 2) {
  setView(x - (x - view.lo) * factor, x + (view.hi - x) * factor);
}

function move(part) {
  const by = (view.hi - view.lo) * part;
  const [first, last] = view.full;
  const held = Math.min(Math.max(by, first - view.lo), last - view.hi);
  setView(view.lo + held, view.hi + held);
}

// Pointer in a chart: hover shows values in all of them, a drag marks a span in all of them and
// zooms to it, a click without a drag goes to `chart.click`, a double click resets.
function listenTo(chart) {
  const pad = chart.plot.over;
  const [cross, brush] = ["cross", "brush"].map((kind) => {
    const mark = document.createElement("div");
    mark.className = kind;
    mark.hidden = true;
    return pad.appendChild(mark);
  });
  Object.assign(chart, { cross, brush });
  let from = null;

  const xOf = (event) => {
    const box = pad.getBoundingClientRect();
    const left = Math.min(Math.max(0, event.clientX - box.left), box.width);
    return { left, x: chart.plot.posToVal(left, "x") };
  };
  const release = () => {
    from = null;
    view.brush = null;
    refresh(false);
  };
  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    from = xOf(event);
    pad.setPointerCapture(event.pointerId);
  });
  pad.addEventListener("pointermove", (event) => {
    const at = xOf(event);
    view.hover = at.x;
    if (from) view.brush = [Math.min(from.x, at.x), Math.max(from.x, at.x)];
    refresh(false);
  });
  pad.addEventListener("pointerup", (event) => {
    if (!from) return;
    const at = xOf(event);
    const start = from;
    release();
    if (Math.abs(at.left - start.left) >= 5) setView(Math.min(start.x, at.x), Math.max(start.x, at.x));
    else chart.click(at.x);
  });
  pad.addEventListener("pointercancel", release);
  pad.addEventListener("pointerleave", () => {
    view.hover = null;
    refresh(false);
  });
  pad.addEventListener("dblclick", () => setView(...view.full));
  pad.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey) return; // a plain wheel scrolls the page; pinching arrives with Ctrl
      event.preventDefault();
      zoom(1.002 ** event.deltaY, xOf(event).x);
    },
    { passive: false },
  );
}

// Puts the crosshair and the brush of a chart where the shared ones are.
function placeMarks(chart) {
  const { plot, cross, brush } = chart;
  const place = (x) => plot.valToPos(x, "x");
  const inside = (x) => x !== null && x >= plot.scales.x.min && x <= plot.scales.x.max;
  cross.hidden = !inside(view.hover);
  if (!cross.hidden) cross.style.transform = `translateX(${place(view.hover)}px)`;
  brush.hidden = view.brush === null;
  if (brush.hidden) return;
  const width = plot.bbox.width / devicePixelRatio;
  const [left, right] = view.brush.map((x) => Math.min(Math.max(0, place(x)), width));
  brush.style.left = left + "px";
  brush.style.width = right - left + "px";
}
