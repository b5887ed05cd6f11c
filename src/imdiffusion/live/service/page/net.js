// What the page asks of the service: JSON with a token in a header, and the stream of changes.

const TOKEN = "imdiffusion-token"; // in the tab's session storage: no cookie, no address

class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

function headers(more = {}) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function answerOf(response) {
  if (response.ok) return response.json();
  let text = `${response.status} ${response.statusText}`;
  try {
    const { error, remedy } = await response.json();
    text = `${error}. ${remedy}`.trim();
  } catch {
    // not the service's own words: the status has to do
  }
  throw new Refused(response.status, text);
}

async function ask(path, query = {}) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) words.append(name, one);
  }
  return answerOf(await fetch(`${path}?${words}`, { headers: headers(), cache: "no-store" }));
}

async function tell(path, facts) {
  const body = JSON.stringify(facts);
  return answerOf(await fetch(path, { method: "POST", headers: headers({ "Content-Type": "application/json" }), body }));
}

// Follows the stream for ever; `on` has a function for each kind of message, and one for `down`.
async function follow(on) {
  let wait = 500;
  for (;;) {
    try {
      const response = await fetch("/api/stream", { headers: headers(), cache: "no-store" });
      if (!response.ok) await answerOf(response);
      wait = 500;
      for await (const [kind, facts] of messages(response.body)) await on[kind]?.(facts);
      on.down("the service ended");
    } catch (error) {
      if (error.status === 401) return on.refused();
      on.down(error.message);
    }
    await new Promise((done) => setTimeout(done, wait * (0.5 + Math.random() / 2)));
    wait = Math.min(15000, wait * 2);
  }
}

async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const whole = held.split("\n\n");
    held = whole.pop();
    for (const text of whole) {
      const lines = Object.fromEntries(text.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if (lines.event) yield [lines.event, JSON.parse(lines.data)];
    }
  }
}

const iso = (seconds) => new Date(Math.round(seconds * 1000)).toISOString();
const secondsOf = (text) => (text === null ? null : Date.parse(text) / 1000);
