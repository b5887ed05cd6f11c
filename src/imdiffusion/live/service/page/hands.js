// Hands on the page: the token, keys, buttons, search, theme.

// -- token

function askToken({ status }) {
  const had = sessionStorage.getItem(TOKEN) !== null;
  $("ask-wrong").hidden = !(had || status === 403);
  $("ask-wrong").textContent = status === 403 ? "This needs the token for changing." : "The token was refused.";
  if (!$("ask").open) $("ask").showModal();
  $("token").focus();
}

function useToken(token) {
  if (token) sessionStorage.setItem(TOKEN, token);
  else sessionStorage.removeItem(TOKEN);
  $("token").value = "";
  $("ask").close();
  guarded(resume());
}

// -- hands

const KEYS = {
  ArrowLeft: (event) => (event.shiftKey ? moveBy(-0.25) : stepEvent(-1)),
  ArrowRight: (event) => (event.shiftKey ? moveBy(0.25) : stepEvent(1)),
  ArrowUp: () => lanes.move(-1),
  ArrowDown: () => lanes.move(1),
  "+": () => zoomBy(0.5),
  "=": () => zoomBy(0.5),
  "-": () => zoomBy(2),
  0: reset,
  Escape: reset,
  l: backToRange,
  "/": () => $("search").focus(),
};

function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("ask").open) return;
    if (event.target.closest("input, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act(event);
  });
}

function listenToPage() {
  const on = (id, kind, act) => $(id).addEventListener(kind, act);
  on("range", "change", () => {
    state.seconds = Number($("range").value);
    backToRange();
  });
  on("live", "click", backToRange);
  on("goto", "change", () => {
    const at = Date.parse(`${$("goto").value}Z`) / 1000;
    if (at > 0) show(at - state.seconds / 2, at + state.seconds / 2);
  });
  on("earlier", "click", () => moveBy(-0.5));
  on("later", "click", () => moveBy(0.5));
  on("closer", "click", () => zoomBy(0.5));
  on("wider", "click", () => zoomBy(2));
  on("reset", "click", reset);
  on("more", "click", () => guarded(loadEvents(true)));
  on("lane-order", "change", () => {
    state.order = $("lane-order").value;
    lanes.order();
  });
  for (const [id, name] of [["status-filter", "status"], ["scope", "scope"]]) {
    on(id, "change", () => {
      state[name] = $(id).value;
      link();
      guarded(loadEvents());
    });
  }
  let typed = 0;
  on("search", "input", () => {
    state.text = $("search").value.trim();
    lanes.order();
    drawCards();
    link();
    clearTimeout(typed);
    typed = setTimeout(() => guarded(loadEvents().then(() => lanes.order())), 200);
  });
  on("channel-search", "input", searchChannels);
  on("all-channels", "click", () => {
    shown.all = true;
    guarded(loadSeries());
  });
  on("go-there", "click", () => {
    const newest = Math.max(...[...entities.values()].map((one) => one.time ?? -Infinity));
    show(newest - state.seconds, newest);
  });
  on("theme", "click", () => setTheme(isDark() ? "light" : "dark"));
  on("key", "click", () => askToken({ status: 0 }));
  on("ask-use", "click", () => useToken($("token").value.trim()));
  on("ask-forget", "click", () => useToken(""));
  on("ask-cancel", "click", () => $("ask").close());
  on("token", "keydown", (event) => {
    if (event.key === "Enter") useToken($("token").value.trim());
  });
  addEventListener("hashchange", () => guarded(followLink()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(null));
  new ResizeObserver(() => {
    for (const chart of live) {
      chart.resize();
      chart.refresh();
    }
  }).observe($("ruler"));
}

function isDark() {
  const forced = document.documentElement.dataset.theme;
  return forced ? forced === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  readInk();
  $("theme").textContent = isDark() ? "Light" : "Dark";
  for (const chart of live) chart.plot.redraw();
}
