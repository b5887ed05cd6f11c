// Ties the page together: entities, events, order and search of channels, keys, theme, print.

const KEPT = 8; // channels that stay drawn wherever the screen is, so that they can be printed
const state = {
  entity: 0, event: null, timelines: [], overview: null, figures: [], drawn: null, theme: null, printing: false,
};
const cards = [...document.querySelectorAll(".card")];
const pending = new Set();

const watcher = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) target.figure.onScreen = isIntersecting;
    drawNear();
  },
  { rootMargin: "500px 0px" },
);

// Draws the figures on or near the screen and the first few, and erases the others.
function drawNear() {
  state.figures.forEach((figure, k) => {
    figure.near = figure.onScreen || k < KEPT;
    if (figure.near) track(figure.draw());
    else figure.erase();
  });
  settle();
}

// `state.drawn` is when everything near the screen was drawn for the first time.
function track(promise) {
  pending.add(promise);
  promise.catch(report).finally(() => {
    pending.delete(promise);
    settle();
  });
}

function settle() {
  if (!pending.size) requestAnimationFrame(() => (state.drawn ??= performance.now()));
}

function report(error) {
  $("trouble").textContent = `The charts cannot be drawn: ${error.message}`;
  $("trouble").hidden = false;
  throw error;
}

function drawLanes(ceiling) {
  facts.entities.forEach((entity, index) => {
    const figure = document.createElement("figure");
    figure.className = "chart drawn";
    const caption = document.createElement("figcaption");
    const many = facts.entities.length > 1;
    const readout = many ? document.createElement("span") : $("score-read");
    readout.className = "read";
    if (many) {
      const name = document.createElement("button");
      name.type = "button";
      name.className = "name";
      name.textContent = entity.name || `entity ${index + 1}`;
      name.addEventListener("click", () => chooseEntity(index));
      caption.append(name, readout);
    }
    const host = document.createElement("div");
    host.className = "plot";
    host.setAttribute("role", "img");
    host.setAttribute("aria-label", `Score ${entity.name} over time; above 1 is anomalous`);
    figure.append(caption, host);
    $("lanes").append(figure);
    new Lane(host, index, state.timelines[index], ceiling, readout);
  });
}

// Shows the channels of an entity; the overview follows.
function chooseEntity(index) {
  state.entity = index;
  if (state.event !== null && facts.events[state.event].entity !== index) clearEvent();
  state.overview.entity = index;
  state.overview.timeline = state.timelines[index];
  for (const figure of state.figures) {
    watcher.unobserve(figure.root);
    figure.near = figure.onScreen = false;
    figure.erase();
    figure.root.remove();
  }
  state.figures = facts.entities[index].channels.map(
    (name, channel) => new ChannelFigure(index, channel, state.timelines[index]),
  );
  document.querySelectorAll("#lanes button").forEach((button, k) => {
    button.setAttribute("aria-pressed", String(k === index));
  });
  orderChannels();
  for (const figure of state.figures) watcher.observe(figure.root);
  refresh();
}

// Largest share first: in the chosen event, else in all alarms of the entity.
function orderChannels() {
  const event = facts.events[state.event];
  const entity = facts.entities[state.entity];
  const shares = event ? new Array(entity.channels.length).fill(0) : entity.shares;
  event?.channels.forEach((channel, k) => (shares[channel] = event.shares[k]));
  state.figures.sort((a, b) => shares[b.channel] - shares[a.channel] || a.channel - b.channel);
  for (const figure of state.figures) {
    figure.showShare(shares[figure.channel], event ? state.event + 1 : null);
  }
  $("stack").append(...state.figures.map((figure) => figure.root));
  drawNear();
  search();
}

function search() {
  const wanted = $("search").value.trim().toLowerCase();
  let shown = 0;
  for (const { root, name } of state.figures) {
    root.hidden = !name.toLowerCase().includes(wanted);
    shown += !root.hidden;
  }
  const all = state.figures.length;
  const order = state.event === null ? "their share of all alarms" : `their share of event ${state.event + 1}`;
  const who = facts.entities.length > 1 ? ` of ${facts.entities[state.entity].name}` : "";
  $("order").textContent = `${wanted ? `${shown} of ${all}` : all} channels${who}, ordered by ${order}`;
}

function markEvent() {
  cards.forEach((card, k) => {
    if (k === state.event) card.setAttribute("aria-current", "true");
    else card.removeAttribute("aria-current");
  });
  const count = facts.events.length;
  const all = count === 1 ? "1 event" : `${count} events`;
  $("which").textContent = state.event === null ? all : `Event ${state.event + 1} of ${count}`;
  $("previous").disabled = $("next").disabled = !count;
}

function chooseEvent(k) {
  const event = facts.events[k];
  const { step } = facts.entities[event.entity];
  state.event = k;
  const margin = Math.max(1.5 * (event.end - event.start), 40 * step);
  markEvent();
  if (event.entity === state.entity) orderChannels();
  else chooseEntity(event.entity);
  setView(event.start - margin, event.end + margin);
  showCard(cards[k]);
  const [stack, charts] = [$("stack"), $("charts")].map((one) => one.getBoundingClientRect().top);
  if (stack < 0 || charts > innerHeight * 0.6) $("charts").scrollIntoView();
  history.replaceState(null, "", `#event-${k + 1}`);
}

// Brings a card into its list without moving the page itself.
function showCard(card) {
  const list = getComputedStyle(card.parentNode).display === "flex" ? card.parentNode : card.closest("aside");
  const [box, frame] = [card.getBoundingClientRect(), list.getBoundingClientRect()];
  if (box.top < frame.top || box.bottom > frame.bottom) list.scrollTop += box.top - frame.top - 48;
  if (box.left < frame.left || box.right > frame.right) list.scrollLeft += box.left - frame.left - 20;
}

// Cards by time or by score; their numbers, and the way of the arrow keys, stay those of time.
function sortCards() {
  const { events } = facts;
  const order = cards.map((card, k) => k);
  if ($("sort").value === "score") order.sort((a, b) => events[b].score - events[a].score);
  document.querySelector(".cards")?.append(...order.map((k) => cards[k]));
}

function clearEvent() {
  state.event = null;
  markEvent();
  history.replaceState(null, "", location.pathname + location.search);
}

function stepEvent(by) {
  const count = facts.events.length;
  if (!count) return;
  if (state.event === null) chooseEvent(by > 0 ? 0 : count - 1);
  else chooseEvent((state.event + by + count) % count);
}

function reset() {
  clearEvent();
  orderChannels();
  setView(...view.full);
}

const KEYS = {
  ArrowLeft: (event) => (event.shiftKey ? move(-0.25) : stepEvent(-1)),
  ArrowRight: (event) => (event.shiftKey ? move(0.25) : stepEvent(1)),
  "+": () => zoom(0.5),
  "=": () => zoom(0.5),
  "-": () => zoom(2),
  0: reset,
  Escape: reset,
  "/": () => $("search").focus(),
};

function listenToPage() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act(event);
  });
  cards.forEach((card, k) => card.addEventListener("click", () => chooseEvent(k)));
  document.querySelectorAll('a[href^="#event-"]').forEach((link) => {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      chooseEvent(Number(link.hash.slice(7)) - 1);
      $("charts").scrollIntoView();
    });
  });
  $("previous").addEventListener("click", () => stepEvent(-1));
  $("next").addEventListener("click", () => stepEvent(1));
  $("closer").addEventListener("click", () => zoom(0.5));
  $("wider").addEventListener("click", () => zoom(2));
  $("reset").addEventListener("click", reset);
  $("search").addEventListener("input", search);
  $("sort").addEventListener("change", sortCards);
  $("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(null));
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    fit(true);
    setTheme("light", false);
  });
  addEventListener("afterprint", () => {
    fit(false);
    setTheme(state.theme);
  });
  new ResizeObserver(() => fit(state.printing)).observe($("ruler"));
}

// Gives every chart the width of the screen, or of the paper.
function fit(printing) {
  state.printing = printing;
  for (const chart of live) {
    chart.resize();
    chart.refresh();
  }
}

function isDark() {
  const forced = document.documentElement.dataset.theme;
  return forced ? forced === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

// "light", "dark" or null (as the system has it).
function setTheme(theme, keep = true) {
  if (keep) state.theme = theme;
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  readInk();
  $("theme").textContent = isDark() ? "Light" : "Dark";
  for (const chart of live) chart.plot.redraw();
}

async function start() {
  setTheme(null);
  state.timelines = await Promise.all(facts.entities.map(({ origin }, k) => loadTimeline(k, origin)));
  const lanes = facts.entities.map(({ step }, k) => ({ x: state.timelines[k].x, step }));
  const first = Math.min(...lanes.map(({ x }) => x[0]));
  const last = Math.max(...lanes.map(({ x, step }) => x[x.length - 1] + step));
  setFull(first, last, 8 * Math.min(...lanes.map(({ step }) => step)));
  let highest = 10;
  for (const { score, x } of state.timelines) {
    for (let i = 0; i < x.length; i++) if (score.value(i) > highest) highest = score.value(i);
  }
  const ceiling = bend(highest) * 1.04;
  document.querySelector(".if-faults").hidden = !facts.faults.length;
  state.overview = new Overview($("overview"), 0, state.timelines[0], ceiling);
  new Ruler($("ruler"));
  listeners.push(() => {
    $("window").textContent = span(view.lo, view.hi);
    $("reset").disabled = isFull() && state.event === null;
  });
  drawLanes(ceiling);
  listenToPage();
  markEvent();
  chooseEntity(0);
  const linked = Number(location.hash.match(/^#event-(\d+)$/)?.[1]);
  if (facts.events[linked - 1]) chooseEvent(linked - 1);
}

window.imdiffusion = { view, state, live, facts };
start().catch(report);
