// What is known: entities, their lanes, events; the span of time; and the link that says it all.

const BUCKETS = 240;
const MOST_EVENTS = 2000;
const state = {
  printing: false, drawn: null, theme: null, figures: [], event: null, chosen: null, entity: null,
  live: true, seconds: 3600, text: "", status: "", scope: "all", order: "name",
};
const entities = new Map(); // name -> entity as it stands, with its lane in `scores`
const grid = { start: 0, width: 1, count: 0 };

const nowSeconds = () => Date.now() / 1000;

function entityOf(name) {
  let found = entities.get(name);
  if (!found) {
    found = { name, state: "warming", score: null, time: null, detector: "", note: "", open_events: 0, first: 0, scores: [] };
    entities.set(name, found);
  }
  return found;
}

async function loadEntities() {
  let after = "";
  do {
    const page = await ask("/api/entities", { after });
    for (const one of page.entities) {
      const found = entityOf(one.name);
      Object.assign(found, one, { time: secondsOf(one.time) });
    }
    after = page.next;
  } while (after !== null);
}

let lanesAsked = 0;

async function loadLanes() {
  const number = ++lanesAsked;
  const pages = [];
  let after = "";
  do {
    const page = await ask("/api/lanes", { since: iso(view.lo), until: iso(view.hi), buckets: BUCKETS, after });
    if (number !== lanesAsked) return; // the view has moved on
    pages.push(page);
    after = page.next;
  } while (after !== null);
  Object.assign(grid, { start: pages[0].start, width: pages[0].width, count: pages[0].buckets });
  for (const one of entities.values()) one.scores = [];
  for (const { lanes } of pages) for (const { entity, scores } of lanes) entityOf(entity).scores = scores;
}

// A new score into its bucket; buckets grow to the right while the view moves on.
function placeScore(one, time, score) {
  const at = Math.floor((time - grid.start) / grid.width);
  if (at < 0 || at > 20 * BUCKETS) return;
  while (one.scores.length <= at) one.scores.push(null);
  if (score !== null && !(one.scores[at] >= score)) one.scores[at] = score;
}

function worstOf(one) {
  const from = Math.max(0, Math.floor((view.lo - grid.start) / grid.width));
  let worst = -1;
  for (let k = from; k < one.scores.length; k++) if (one.scores[k] > worst) worst = one.scores[k];
  return worst;
}

// -- events: facts.events is what the charts of the report paint from

function eventOf(told) {
  const start = secondsOf(told.start);
  const end = told.end === null ? Math.max(nowSeconds(), start) : secondsOf(told.end);
  return { ...told, since: start, start, end, lasting: told.end === null, peak: secondsOf(told.peak), shares: told.channels.map((one) => one.share) };
}

function keepEvent(told) {
  const event = eventOf(told);
  const at = facts.events.findIndex((one) => one.id === event.id);
  if (at >= 0) {
    if (event.verdict === null) event.verdict = facts.events[at].verdict;
    event.why ??= facts.events[at].why;
    event.matched = facts.events[at].matched;
    if (facts.events[at].channels.length > event.channels.length) {
      event.channels = facts.events[at].channels;
      event.shares = facts.events[at].shares;
    }
    facts.events[at] = event;
  } else {
    facts.events.push(event);
    facts.events.sort((a, b) => b.start - a.start || (a.id < b.id ? 1 : -1));
  }
  // A page that stays open for weeks: the oldest go, they are asked for again on demand.
  if (facts.events.length > MOST_EVENTS) facts.events.splice(MOST_EVENTS);
  state.event = indexOfChosen();
  return event;
}

function indexOfChosen() {
  const at = facts.events.findIndex((one) => one.id === state.chosen);
  return at < 0 ? null : at;
}

function isWanted(event) {
  const words = state.text.toLowerCase();
  const named = [event.entity, ...event.channels.map((one) => one.name)].join(" ").toLowerCase();
  return (
    (named.includes(words) || event.matched === state.text) &&
    (!state.status || event.status === state.status) &&
    (state.scope !== "entity" || event.entity === state.entity) &&
    (state.scope !== "range" || (event.end >= view.lo && event.start <= view.hi))
  );
}

// -- the link: #entity=...&event=...&range=3600, or &since=...&until=...

function link() {
  const words = new URLSearchParams();
  if (state.entity !== null) words.set("entity", state.entity);
  if (state.chosen !== null) words.set("event", state.chosen);
  if (state.live) words.set("range", state.seconds);
  else {
    words.set("since", iso(view.lo));
    words.set("until", iso(view.hi));
  }
  if (state.text) words.set("q", state.text);
  if (state.status) words.set("status", state.status);
  const hash = `#${words}`;
  if (hash !== location.hash) history.replaceState(null, "", hash);
}

function readLink() {
  const words = new URLSearchParams(location.hash.slice(1));
  const [since, until] = ["since", "until"].map((name) => Date.parse(words.get(name)) / 1000);
  const span = Number(words.get("range"));
  if (span > 0 && span <= 86400 * 3660) state.seconds = span;
  state.text = (words.get("q") || "").slice(0, 200);
  state.status = ["ongoing", "resolved", "expired"].find((one) => one === words.get("status")) || "";
  return {
    entity: words.get("entity"),
    event: words.get("event"),
    span: until > since ? [since, until] : null,
  };
}
