// The cards of events: what, when, which channels, how sure, what was expected, and what people say.

const VERDICTS = [
  ["confirmed", "Confirmed"], ["expected", "Expected"], ["false_alarm", "False alarm"], ["new_normal", "New normal"],
  ["not_resolved", "Not resolved"],
];
const CARD_CHANNELS = 4;
const listed = { next: null, cards: new Map(), number: 0 };

function element(tag, kind, ...parts) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(...parts.filter((part) => part !== null && part !== ""));
  return made;
}

// The newest events that are wanted; more = those before them.
async function loadEvents(more = false) {
  const number = ++listed.number;
  const query = { limit: 50, text: state.text };
  if (state.status) query.status = state.status;
  if (state.scope === "entity" && state.entity !== null) query.entity = state.entity;
  if (state.scope === "range") Object.assign(query, { since: iso(view.lo), until: iso(view.hi) });
  if (more && listed.next) query.before = listed.next;
  const found = await ask("/api/events", query);
  if (number !== listed.number) return;
  listed.next = found.next;
  // The service searches all channels of an event, of which it tells the first ones alone.
  for (const told of found.events) keepEvent(told).matched = query.text;
  drawCards();
}

function drawCards() {
  const wanted = facts.events.filter((one) => isWanted(one) || one.id === state.chosen);
  const made = wanted.map((event) => cardOf(event));
  for (const id of listed.cards.keys()) if (!wanted.some((one) => one.id === id)) listed.cards.delete(id);
  const there = [...$("cards").children];
  if (made.length !== there.length || made.some((card, k) => card !== there[k])) $("cards").replaceChildren(...made);
  $("no-events").hidden = made.length > 0;
  $("more").hidden = listed.next === null;
}

// The card of an event, made anew only where it says something else.
function cardOf(event) {
  const held = listed.cards.get(event.id);
  const chosen = event.id === state.chosen;
  const says = JSON.stringify([event.update, event.status, event.verdict, chosen, chosen ? event.why : null, event.channels.length]);
  if (held?.says === says) return held;
  const card = element("li", "card");
  card.says = says;
  card.id = `event-${event.id}`;
  if (chosen) card.setAttribute("aria-current", "true");
  const open = element("button", "open", event.entity);
  open.type = "button";
  const verdict = VERDICTS.find(([name]) => name === event.verdict);
  card.append(
    element("h3", "where", open, verdict ? element("span", "chip said", verdict[1]) : null, element("span", `chip ${event.status}`, event.status)),
    element("p", "facts", when(event), element("span", "peak", `score ${number(event.score)}`)),
    event.reason ? element("p", "reason", event.reason) : "",
    channelTable(event),
  );
  if (chosen) card.append(...chosenParts(event));
  card.addEventListener("click", (click) => {
    if (!click.target.closest(".verdicts")) chooseEventById(event.id);
  });
  if (held?.isConnected) held.replaceWith(card);
  listed.cards.set(event.id, card);
  return card;
}

function when(event) {
  const [start, end, today] = [event.since, event.end, nowSeconds()].map((x) => moment(x));
  const from = start.slice(0, 10) === today.slice(0, 10) ? start.slice(11) : start;
  if (event.lasting) return element("span", "", `since ${from}`);
  const to = start.slice(0, 10) === end.slice(0, 10) ? end.slice(11) : end;
  return element("span", "", `${from} – ${to} · ${duration(event.end - event.start)}`);
}

function channelTable(event) {
  const head = element("thead", "", element("tr", "", ...["Channel", "share", "seen", "expected"].map((text) => element("th", "", text))));
  const rows = event.channels.slice(0, CARD_CHANNELS).map((one) =>
    element("tr", "", element("th", "", one.name, one.kind ? element("span", "kind", ` ${one.kind.replaceAll("_", " ")}`) : ""), element("td", "part", shareBar(one.share), " ", percent(one.share)),
      element("td", "", number(one.seen)), element("td", "", number(one.expected))),
  );
  return element("table", "", head, element("tbody", "", ...rows));
}

const SVG = "http://www.w3.org/2000/svg";

function shareBar(share) {
  const bar = document.createElementNS(SVG, "svg");
  bar.setAttribute("class", "share");
  bar.setAttribute("aria-hidden", "true");
  const filled = document.createElementNS(SVG, "rect");
  filled.setAttribute("width", `${Math.min(1, Math.max(0, share)) * 100}%`);
  filled.setAttribute("height", "100%");
  bar.append(filled);
  return bar;
}

// What only the chosen card says: how sure, and the buttons.
function chosenParts(event) {
  const parts = [];
  if (event.why) {
    const { rows, anomalous, state: then } = event.why.sure;
    const counted = rows ? `${anomalous} of ${rows} rows anomalous` : "its scores are not kept any more";
    parts.push(element("p", "sure", `${counted}; ${event.detector}${then ? `, ${then} at the peak` : ""}; model ${event.model.slice(0, 12)}`));
    for (const said of event.why.feedback.filter((one) => one.text || one.who).slice(-3)) {
      parts.push(element("p", "sure", `${said.who || "somebody"}: ${said.text || said.verdict.replaceAll("_", " ")}`));
    }
  }
  const buttons = VERDICTS.map(([verdict, words]) => {
    const button = element("button", "", words);
    button.type = "button";
    button.dataset.verdict = verdict;
    button.setAttribute("aria-pressed", String(event.verdict === verdict));
    button.addEventListener("click", () => guarded(say(event.id, verdict)));
    return button;
  });
  const group = element("div", "verdicts", ...buttons);
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "What was it?");
  parts.push(group);
  return parts;
}

async function say(id, verdict) {
  await tell(`/api/events/${encodeURIComponent(id)}/feedback`, { verdict });
  const event = facts.events.find((one) => one.id === id);
  if (event) event.verdict = verdict;
  drawCards();
}

// All of an event: every channel, how sure, feedback.
async function loadEvent(id) {
  const found = await ask(`/api/events/${encodeURIComponent(id)}`);
  const event = keepEvent(found.event);
  event.why = found;
  return event;
}
