// The swim lanes: a list of which only the rows on the screen exist, however many entities there are.

const NAMES = new Intl.Collator("en", { numeric: true }); // host-2 comes before host-10
const MARGIN = 3; // rows drawn beyond the screen

class Lanes {
  constructor() {
    this.box = $("lanes");
    this.inner = $("lanes-inner");
    this.rows = new Map(); // index -> row element
    this.free = [];
    this.names = [];
    this.focus = 0;
    this.plot = { redraw: () => this.refresh() };
    this.box.addEventListener("scroll", () => this.draw());
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.listen();
    live.add(this);
  }

  get height() {
    return parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
  }

  // Which entities, in which order.
  order() {
    const words = state.text.toLowerCase();
    let found = [...entities.values()].filter((one) => one.name.toLowerCase().includes(words));
    // A search for a channel alone leaves every lane: its events are in the list beside.
    if (!found.length && facts.events.some(isWanted)) {
      const named = new Set(facts.events.filter(isWanted).map((one) => one.entity));
      found = [...entities.values()].filter((one) => named.has(one.name));
    }
    const by = { worst: worstOf, now: (one) => one.score ?? -1 }[state.order];
    const keys = new Map(by ? found.map((one) => [one, by(one)]) : []);
    found.sort((a, b) => (by ? keys.get(b) - keys.get(a) : 0) || NAMES.compare(a.name, b.name));
    this.names = found.map((one) => one.name);
    const all = entities.size;
    $("lanes-count").textContent = this.names.length < all ? `${this.names.length} of ${all}` : `${all}`;
    this.row = this.height;
    this.inner.style.height = `${this.names.length * this.row}px`;
    this.box.style.height = `${Math.min(this.names.length * this.row + 2, Math.max(3 * this.row, innerHeight * (state.entity === null ? 0.7 : 0.4)))}px`;
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / this.row) - MARGIN);
    const last = Math.min(this.names.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.row) + MARGIN);
    for (const [index, row] of this.rows) {
      if (index < first || index >= last || row.lane !== this.names[index]) {
        this.rows.delete(index);
        row.hidden = true;
        this.free.push(row);
      }
    }
    for (let index = first; index < last; index++) {
      if (!this.rows.has(index)) this.rows.set(index, this.place(this.free.pop() || this.make(), index));
    }
    this.refresh();
  }

  make() {
    const row = document.createElement("div");
    row.className = "lane";
    row.setAttribute("role", "option");
    const who = document.createElement("div");
    who.className = "who";
    row.dot = document.createElement("i");
    row.name = document.createElement("span");
    row.name.className = "name";
    row.score = document.createElement("span");
    row.canvas = document.createElement("canvas");
    who.append(row.dot, row.name, row.score);
    row.append(who, row.canvas);
    this.inner.append(row);
    return row;
  }

  place(row, index) {
    row.lane = this.names[index];
    row.hidden = false;
    row.id = `lane-${index}`;
    row.style.transform = `translateY(${index * this.row}px)`;
    row.name.textContent = row.name.title = row.lane;
    row.setAttribute("aria-posinset", index + 1);
    row.setAttribute("aria-setsize", this.names.length);
    return row;
  }

  refresh() {
    const events = new Map();
    facts.events.forEach((event, k) => {
      if (event.end < view.lo || event.start > view.hi) return;
      if (!events.has(event.entity)) events.set(event.entity, []);
      events.get(event.entity).push([event, k === state.event]);
    });
    for (const [index, row] of this.rows) this.paint(row, index, events.get(row.lane) || []);
    this.box.setAttribute("aria-activedescendant", `lane-${this.focus}`);
  }

  paint(row, index, events) {
    const one = entityOf(row.lane);
    row.dot.className = `dot ${one.state}`;
    row.dot.title = [one.state, one.detector, one.note].filter(Boolean).join(", ");
    row.score.textContent = number(one.score);
    row.score.className = one.score > 1 ? "score alarm" : "score";
    row.setAttribute("aria-selected", String(row.lane === state.entity));
    row.setAttribute("aria-label", `${row.lane}, ${one.state}, score ${number(one.score)}`);
    row.classList.toggle("focused", index === this.focus);
    const { canvas } = row;
    const [width, height] = [canvas.clientWidth * devicePixelRatio, canvas.clientHeight * devicePixelRatio].map(Math.round);
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    const scale = width / (view.hi - view.lo);
    for (const [event, chosen] of events) {
      const [from, to] = [event.start, event.lasting ? Math.min(view.hi, nowSeconds()) : event.end].map((x) => (x - view.lo) * scale);
      pen.fillStyle = chosen ? ink.chosen : ink.event;
      pen.fillRect(from, 0, Math.max(2, to - from), height);
    }
    // A row fills its interval, where that is wider than a bucket.
    const seconds = Math.max(grid.width, one.interval_seconds || 0);
    const step = Math.max(1, seconds * scale);
    const from = Math.max(0, Math.floor((view.lo - grid.start - seconds) / grid.width));
    const bar = step > 3 ? step - devicePixelRatio : step;
    for (let k = from; k < one.scores.length; k++) {
      const score = one.scores[k];
      if (score === null) continue;
      const x = (grid.start + k * grid.width - view.lo) * scale;
      if (x > width) break;
      const tall = score > 1 ? 0.45 + 0.55 * Math.min(1, Math.log10(score) / 1.5) : 0.45 * Math.max(0, score);
      pen.fillStyle = score > 1 ? ink.alarm : ink.calm;
      pen.globalAlpha = score > 1 ? 1 : 0.55;
      const h = Math.max(devicePixelRatio, tall * (height - 4));
      pen.fillRect(x, height - h - 1, bar, h);
    }
    pen.globalAlpha = 1;
  }

  follow() {
    const cross = $("lanes-cross");
    cross.hidden = view.hover === null;
    $("lanes-brush").hidden = view.brush === null;
    const at = (x) => this.left() + ((x - view.lo) / (view.hi - view.lo)) * this.width();
    for (const mark of [cross, $("lanes-brush")]) {
      mark.style.top = `${this.box.scrollTop}px`;
      mark.style.height = `${this.box.clientHeight}px`;
    }
    if (view.hover !== null) cross.style.transform = `translateX(${at(view.hover)}px)`;
    if (view.brush !== null) {
      const [lo, hi] = view.brush.map((x) => Math.min(Math.max(at(x), this.left()), this.left() + this.width()));
      Object.assign($("lanes-brush").style, { left: `${lo}px`, width: `${hi - lo}px` });
    }
    this.read();
  }

  read() {
    const one = this.over !== undefined && view.hover !== null ? entities.get(this.names[this.over]) : undefined;
    const score = one?.scores[Math.floor((view.hover - grid.start) / grid.width)];
    if (score === undefined) $("lane-read").replaceChildren();
    else $("lane-read").replaceChildren(`${one.name} `, bold(number(score), score > 1 ? "alarm" : ""));
  }

  left() {
    return leftMargin();
  }

  width() {
    return Math.max(1, this.box.clientWidth - this.left() - 12);
  }

  resize() {
    this.order();
  }

  listen() {
    let from = null;
    const at = (event) => {
      const box = this.box.getBoundingClientRect();
      const x = event.clientX - box.left - this.left();
      const inside = Math.min(Math.max(0, x), this.width());
      return {
        x: view.lo + (inside / this.width()) * (view.hi - view.lo), left: event.clientX, named: x < 0,
        index: Math.floor((event.clientY - box.top + this.box.scrollTop) / this.row),
      };
    };
    this.box.addEventListener("pointerdown", (event) => {
      if (event.button === 0) from = at(event);
    });
    this.box.addEventListener("pointermove", (event) => {
      const here = at(event);
      this.over = here.index;
      view.hover = here.named ? null : here.x;
      if (from && !from.named && event.pointerType === "mouse") view.brush = [Math.min(from.x, here.x), Math.max(from.x, here.x)];
      refresh(false);
    });
    this.box.addEventListener("pointerup", (event) => {
      if (!from) return;
      const [start, here] = [from, at(event)];
      from = view.brush = null;
      refresh(false);
      const name = this.names[start.index];
      if (!start.named && Math.abs(here.left - start.left) >= 5) show(Math.min(start.x, here.x), Math.max(start.x, here.x));
      else if (name !== undefined) {
        this.focus = start.index;
        const slack = 4 * grid.width;
        const hit = facts.events.find((one) => one.entity === name && !start.named && here.x >= one.start - slack && here.x <= one.end + slack);
        if (hit) chooseEventById(hit.id);
        else chooseEntity(name);
      }
    });
    const leave = () => {
      this.over = undefined;
      from = view.hover = view.brush = null;
      refresh(false);
    };
    this.box.addEventListener("pointerleave", leave);
    this.box.addEventListener("pointercancel", leave);
    this.box.addEventListener("dblclick", () => backToRange());
  }

  key(event) {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 }[event.key];
    if (event.key === "Enter" || event.key === " ") chooseEntity(this.names[this.focus]);
    else if (by === undefined) return;
    else this.move(by);
    event.preventDefault();
    event.stopPropagation();
  }

  // The focus moves by so many rows, and the entity there is shown.
  move(by) {
    this.focus = Math.min(Math.max(0, this.focus + by), this.names.length - 1);
    this.reveal(this.names[this.focus]);
    if (this.names.length) chooseEntity(this.names[this.focus]);
  }

  reveal(name) {
    const index = this.names.indexOf(name);
    if (index < 0) return;
    this.focus = index;
    const top = index * this.row;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + this.row > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + this.row - this.box.clientHeight;
    this.draw();
  }
}
