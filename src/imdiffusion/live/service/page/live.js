// Ties the page together: the span of time, what is chosen, what changes, keys, theme, token.

const lanes = new Lanes();
let pendingLoad = 0;
let follows = false;
let listening = false;
let waiting = [];

// Shows what goes wrong, or asks for a token where one is needed.
async function guarded(promise) {
  try {
    const result = await promise;
    return result;
  } catch (error) {
    if (error.status === 401 || error.status === 403) askToken(error);
    else trouble(error.message);
    return null;
  }
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

function tellStatus(kind, text) {
  $("dot").className = `dot ${kind}`;
  $("status-text").textContent = text;
}

// -- the span of time

function spanOfRange() {
  const now = nowSeconds();
  return [now - state.seconds, now];
}

function setSpan(lo, hi) {
  Object.assign(view, { lo, hi, full: [lo, hi], least: 2 });
}

// A span of its own: no longer live.
function show(lo, hi) {
  state.live = false;
  const least = Math.max(hi - lo, 20);
  const middle = (lo + hi) / 2;
  setSpan(middle - least / 2, middle + least / 2);
  moved();
}

function backToRange() {
  state.live = true;
  setSpan(...spanOfRange());
  moved();
}

function moveBy(part) {
  const by = (view.hi - view.lo) * part;
  show(view.lo + by, view.hi + by);
}

function zoomBy(factor) {
  const middle = state.live ? view.hi : (view.lo + view.hi) / 2;
  const half = ((view.hi - view.lo) * factor) / 2;
  show(middle - half, middle + half);
}

// Charts follow at once; what they show is asked for when the hand rests.
function moved(wait = 120) {
  $("live").setAttribute("aria-pressed", String(state.live));
  $("range").value = String(state.seconds);
  link();
  refresh();
  clearTimeout(pendingLoad);
  pendingLoad = setTimeout(() => guarded(loadView()), wait);
}

async function loadView() {
  const parts = [loadLanes(), loadSeries()];
  if (state.scope === "range") parts.push(loadEvents());
  await Promise.all(parts);
  lanes.order();
  refresh();
  sayElsewhere();
}

function sayElsewhere() {
  const times = [...entities.values()].map((one) => one.time).filter((time) => time !== null);
  const newest = Math.max(...times);
  const away = times.length > 0 && state.live && newest < view.lo;
  $("elsewhere").hidden = !away;
  if (away) $("elsewhere-text").textContent = `The newest row is of ${moment(newest)}, before the time that is shown.`;
}

// -- what is chosen

function chooseEntity(name) {
  if (name === undefined) return;
  state.entity = state.entity === name && state.chosen === null ? state.entity : name;
  if (facts.events[state.event]?.entity !== name) state.chosen = state.event = null;
  shown.all = false;
  lanes.order();
  lanes.reveal(name);
  if (state.scope === "entity") guarded(loadEvents());
  drawCards();
  link();
  refresh();
  guarded(loadSeries());
}

async function chooseEventById(id, keepSpan = false) {
  state.chosen = id;
  state.event = indexOfChosen();
  drawCards();
  const event = await guarded(loadEvent(id));
  if (event === null || state.chosen !== id) return;
  state.entity = event.entity;
  shown.all = false;
  lanes.order();
  lanes.reveal(event.entity);
  drawCards();
  const step = entityOf(event.entity).interval_seconds || 60;
  const margin = Math.max(event.end - event.start, 40 * step);
  if (keepSpan || (state.live && event.lasting && event.start > view.lo)) moved(0);
  else show(event.start - margin, Math.max(event.end, Math.min(event.end + margin, nowSeconds())));
  showCard($(`event-${id}`));
}

// The charts call this with a position in facts.events.
function chooseEvent(k) {
  guarded(chooseEventById(facts.events[k].id));
}

function showCard(card) {
  if (!card) return;
  const list = getComputedStyle(card.parentNode).display === "flex" ? card.parentNode : card.closest("aside");
  const [box, frame] = [card.getBoundingClientRect(), list.getBoundingClientRect()];
  if (box.top < frame.top || box.bottom > frame.bottom) list.scrollTop += box.top - frame.top - 48;
  if (box.left < frame.left || box.right > frame.right) list.scrollLeft += box.left - frame.left - 20;
}

// The way of the arrow keys is that of time.
function stepEvent(by) {
  const order = facts.events.filter((one) => isWanted(one) || one.id === state.chosen).reverse();
  if (!order.length) return;
  const at = order.findIndex((one) => one.id === state.chosen);
  const next = at < 0 ? (by > 0 ? 0 : order.length - 1) : (at + by + order.length) % order.length;
  guarded(chooseEventById(order[next].id));
}

function reset() {
  state.chosen = state.event = null;
  drawCards();
  backToRange();
}

// -- what changes

function applyChange({ scores, events }) {
  let fresh = false;
  let own = false;
  for (const [name, time, score, kind, detector] of scores) {
    fresh ||= !entities.has(name);
    const one = entityOf(name);
    if (one.time === null || time >= one.time) Object.assign(one, { time, score, state: kind, detector });
    placeScore(one, time, score);
    own ||= name === state.entity;
  }
  for (const told of events) {
    const event = keepEvent(told);
    if (event.id === state.chosen) guarded(loadEvent(event.id).then(drawCards));
  }
  if (events.length) drawCards();
  if (fresh || state.order !== "name") lanes.order();
  if (state.live) setSpan(...spanOfRange());
  refresh();
  if (own && state.live) seriesSoon();
  window.imdiffusion.changes += 1;
}

let seriesTimer = 0;

// The series of the chosen entity are asked for at most every second.
function seriesSoon() {
  seriesTimer ||= setTimeout(() => {
    seriesTimer = 0;
    guarded(loadSeries());
  }, 1000);
}

async function loadAll() {
  waiting = [];
  follows = false;
  await Promise.all([loadEntities(), loadEvents()]);
  if (state.live) setSpan(...spanOfRange());
  await loadView();
  follows = true;
  for (const change of waiting.splice(0)) applyChange(change);
  state.drawn ??= performance.now();
}

const HANDLERS = {
  async hello() {
    tellStatus("live", "following");
    trouble("");
    await guarded(loadAll());
  },
  change(facts) {
    if (follows) applyChange(facts);
    else waiting.push(facts);
  },
  lost: () => guarded(loadAll()),
  down: (why) => tellStatus("lost", `not connected: ${why}`),
  refused() {
    listening = false;
    tellStatus("lost", "a token is needed");
    askToken({ status: 401 });
  },
};

// Begins to follow, or goes on where a token was lacking.
async function resume() {
  await guarded(followLink());
  if (listening) return;
  listening = true;
  follow(HANDLERS);
}

// Time goes on without rows too.
setInterval(() => {
  if (!state.live || document.hidden || view.brush) return;
  setSpan(...spanOfRange());
  for (const event of facts.events) if (event.lasting) event.end = Math.max(event.end, view.hi);
  if (view.lo - grid.start > 2 * state.seconds) guarded(loadView());
  refresh();
}, 1000);

// -- the link

async function followLink() {
  const { entity, event, span: fixed } = readLink();
  $("search").value = state.text;
  $("status-filter").value = state.status;
  $("range").value = String(state.seconds);
  state.live = fixed === null;
  setSpan(...(fixed || spanOfRange()));
  if (entity !== null) state.entity = entity;
  if (event !== null && !(event === state.chosen && facts.events[state.event]?.why)) await chooseEventById(event, fixed !== null);
  else moved(0);
  if (entity !== null) lanes.reveal(entity);
}

// A drag or double click in a chart moves the view inside `full`: that is a span of its own.
function noteDrag() {
  const [lo, hi] = view.full;
  if (view.lo !== lo || view.hi !== hi) show(view.lo, view.hi);
}

async function start() {
  window.imdiffusion = { view, state, live, facts, entities, grid, lanes, changes: 0 };
  readLink();
  setTheme(null);
  setSpan(...spanOfRange());
  new Ruler($("ruler"));
  listeners.push(noteDrag, () => {
    $("window").textContent = span(view.lo, view.hi);
  });
  listenToKeys();
  listenToPage();
  await resume();
}

guarded(start());
