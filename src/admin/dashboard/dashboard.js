// The dashboard: draws what `events` tells each second. It reads and changes nothing.
"use strict";

const WINDOW_S = 300;
const LISTED = 200; // backends that have a row
const DRAWN = 9; // backends that have a colour in the charts; the others are one
const HUES = [257, 160, 78, 312, 205, 130, 285, 60, 230, 345];
const TONES = {
  open: "good", joining: "calm", suspect: "bad", draining: "calm",
  departed: "quiet", drained: "quiet", lost: "bad",
};
const HINTS = {
  down: "The backend could not be reached for too long.",
  departed: "The backend was taken from the list, and its time is over.",
  drained: "The drain's time was over before they had ended.",
  forgotten: "The backend answered 404, though it had answered them: it restarted, or has several workers behind one address.",
  not_reinitialized: "No other backend could take them over.",
  backend_lost: "Its backend was down, gone or drained for too long.",
  backend_forgot_session: "The backend itself answered 404: it restarted, ended the session, or has several workers behind one address.",
  tag_invalid: "The id was altered, or signed with another secret.",
  wrong_pool: "The id belongs to another pool.",
  key_removed: "Signed with a secret that was removed here.",
  unpinned: "An id without a pin: not issued through pinring.",
  unknown_coordinate: "A backend that this process has never seen: do all proxies have the same list?",
  unknown_key: "Signed with a secret that this process does not have.",
  connect_refused: "The backend's port is closed.",
  connect_timeout: "The backend's address does not answer.",
  backend_closed: "The backend closed the connection under a request.",
  backend_timeout: "The backend accepted and did not answer.",
  no_backend: "No backend takes new work.",
  sessions_full: "Every backend holds as many sessions as the limit allows.",
  principal_other: "An id of somebody else: stolen, or its owner has a new identity.",
  origin_not_allowed: "A web page whose origin is not allowed.",
};

const at = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const rate = (n) => (n >= 100 ? whole.format(Math.round(n)) : n.toFixed(n >= 10 || n === 0 ? 0 : 1));

const state = {
  latest: null, // the last snapshot
  samples: [], // {at, pools: Map pool -> Map backend -> {rate, sessions}}
  pool: null, // the name of the pool that is shown
  rings: new Map(), // pool -> {digest, backends, slices}
  marked: null, // the backend under the pointer
  heard: 0, // when the last snapshot came
};

/** A probe resolves light-dark() to a colour that a canvas takes. */
const paint = (() => {
  const probe = document.createElement("span");
  probe.hidden = true;
  document.documentElement.append(probe);
  return (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
})();

function hue(index) {
  const round = Math.floor(index / HUES.length);
  const lightness = (dark.matches ? 0.72 : 0.6) - 0.08 * (round % 3);
  return `oklch(${lightness} 0.13 ${HUES[index % HUES.length] + 7 * round})`;
}

/** A backend's colour goes with its name, not with its place in the list: it stays when others leave. */
const colours = new Map();
function colourOf(pool, name) {
  const key = `${pool}\n${name}`;
  if (!colours.has(key)) colours.set(key, colours.size);
  return hue(colours.get(key));
}

function pool() {
  return state.latest.pools.find((pool) => pool.name === state.pool) ?? state.latest.pools[0];
}

/** What the page draws, of what pinring tells. */
function read(told) {
  const asked = new Map(told.traffic.map((asked) => [`${asked.pool}\n${asked.backend}`, asked]));
  for (const pool of told.pools) {
    pool.ring = told.ring;
    for (const backend of pool.backends) {
      const { requests = 0, streams = 0 } = asked.get(`${pool.name}\n${backend.name}`) ?? {};
      Object.assign(backend, { requests, streams });
    }
  }
  told.facts = factsOf(told);
  return told;
}

function factsOf(told) {
  const reload = told.last_reload;
  const reached = Object.entries(told.limits.reached).filter(([, times]) => times > 0);
  return [
    ["Listens on", told.listeners.traffic.join(", ")],
    ["Configuration", told.file ?? "from the command line"],
    ["Last reload", reload ? `${reload.result}, ${span(reload.ago_s)} ago: ${reload.details.join("; ") || reload.reason}` : "none"],
    ["Ring (the same in proxies that agree)", told.ring],
    ["Secrets (the same in proxies that agree)", told.keys],
    ["Connections of clients", whole.format(told.limits.connections)],
    ["Sessions brought back elsewhere", whole.format(told.counts.sessions_reinitialized)],
    ["Limits reached", reached.map(([limit, times]) => `${limit} ${short.format(times)}×`).join(", ") || "none"],
    ["Unprotected", told.unprotected.join("; ") || "nothing"],
  ];
}

function take(snapshot) {
  const before = state.latest;
  if (before && snapshot.uptime_ms < before.uptime_ms) state.samples = []; // another process
  const seconds = before ? (snapshot.uptime_ms - before.uptime_ms) / 1000 : 0;
  const counted = new Map();
  for (const pool of before?.pools ?? []) {
    for (const backend of pool.backends) counted.set(`${pool.name}\n${backend.name}`, backend.requests);
  }
  const pools = new Map();
  for (const pool of snapshot.pools) {
    const backends = new Map();
    for (const backend of pool.backends) {
      const earlier = counted.get(`${pool.name}\n${backend.name}`);
      const known = seconds > 0 && earlier !== undefined && backend.requests >= earlier;
      backend.rate = known ? (backend.requests - earlier) / seconds : 0;
      backends.set(backend.name, { rate: backend.rate, sessions: backend.sessions, streams: backend.streams });
    }
    pools.set(pool.name, backends);
  }
  state.latest = snapshot;
  if (seconds > 0) state.samples.push({ at: snapshot.uptime_ms / 1000, pools });
  const oldest = snapshot.uptime_ms / 1000 - WINDOW_S - 5;
  while (state.samples.length && state.samples[0].at < oldest) state.samples.shift();
  if (!snapshot.pools.some((pool) => pool.name === state.pool)) state.pool = snapshot.pools[0]?.name;
  for (const pool of snapshot.pools) if (state.rings.get(pool.name)?.digest !== pool.ring) askRing(pool);
}

async function askRing(pool) {
  state.rings.set(pool.name, { ...state.rings.get(pool.name), digest: pool.ring });
  try {
    const answer = await fetch(`ring?pool=${encodeURIComponent(pool.name)}`);
    if (!answer.ok) throw new Error(`${answer.status}`);
    state.rings.set(pool.name, { digest: pool.ring, ...(await answer.json()) });
    draw();
  } catch {
    state.rings.set(pool.name, {}); // with the next snapshot again
  }
}

// --- Words -----------------------------------------------------------------------------------------

function span(seconds) {
  const steps = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const index = steps.findIndex(([length]) => seconds >= length);
  if (index < 0) return "0 s";
  const [length, unit] = steps[index];
  const rest = Math.floor((seconds % length) / (steps[index + 1]?.[0] ?? 1));
  const more = index < 2 && rest > 0 ? ` ${rest} ${steps[index + 1][1]}` : "";
  return `${Math.floor(seconds / length)} ${unit}${more}`;
}

function element(tag, text, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) made.textContent = text;
  return made;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function tone(node, value) {
  if (node.dataset.tone !== value) node.dataset.tone = value;
}

// --- The table of backends -------------------------------------------------------------------------

const rows = new Map();

function row(name) {
  const made = element("tr");
  const head = element("th", undefined, { scope: "row" });
  const parts = { row: made, swatch: element("span", undefined, { className: "swatch" }) };
  head.append(parts.swatch, name);
  const cell = (numeric) => element("td", undefined, { className: numeric ? "number" : "" });
  const stateCell = cell(false);
  parts.pill = element("span", undefined, { className: "pill" });
  parts.why = element("span", undefined, { className: "why" });
  parts.progress = element("progress", undefined, { max: 1, hidden: true });
  stateCell.append(parts.pill, parts.why, parts.progress);
  for (const key of ["sessions", "rate", "flight", "streams", "share"]) parts[key] = cell(true);
  made.append(head, stateCell, parts.sessions, parts.rate, parts.flight, parts.streams, parts.share);
  made.addEventListener("pointerenter", () => mark(name));
  made.addEventListener("pointerleave", () => mark(null));
  return parts;
}

/** What of a drain is done, of the sessions that there were when this page first saw it. */
const drains = new Map();
function drained(key, backend) {
  if (backend.state !== "draining") {
    drains.delete(key);
    return null;
  }
  const most = Math.max(drains.get(key) ?? 0, backend.sessions);
  drains.set(key, most);
  return most > 0 ? 1 - backend.sessions / most : 1;
}

function words(backend) {
  const parts = [];
  if (backend.why) parts.push(backend.why);
  if (backend.why) parts.push(`for ${span(backend.since_s)}`);
  if (backend.lost_in_s) parts.push(`sessions lost in ${span(backend.lost_in_s)}`);
  if (backend.sessions_lost) parts.push(`${whole.format(backend.sessions_lost)} sessions lost`);
  return parts.join(", ");
}

function fill(shown) {
  const body = at("backends").tBodies[0];
  const listed = shown.backends.slice(0, LISTED);
  const names = new Set(listed.map((backend) => backend.name));
  for (const [name, parts] of rows) if (!names.has(name)) (parts.row.remove(), rows.delete(name));
  listed.forEach((backend, index) => {
    if (!rows.has(backend.name)) rows.set(backend.name, row(backend.name));
    const parts = rows.get(backend.name);
    if (body.rows[index] !== parts.row) body.insertBefore(parts.row, body.rows[index] ?? null);
    parts.swatch.style.background = colourOf(shown.name, backend.name);
    tone(parts.row, TONES[backend.state] ?? "warn");
    tone(parts.pill, TONES[backend.state] ?? "warn");
    say(parts.pill, backend.state);
    say(parts.why, words(backend));
    const done = drained(`${shown.name}\n${backend.name}`, backend);
    parts.progress.hidden = done === null;
    if (done !== null) parts.progress.value = done;
    say(parts.sessions, (backend.sessions_complete ? "" : "≥ ") + whole.format(backend.sessions));
    say(parts.rate, rate(backend.rate));
    say(parts.flight, whole.format(backend.in_flight));
    say(parts.streams, whole.format(backend.streams));
    say(parts.share, `${(100 * backend.ring_share).toFixed(1)} %`);
    parts.row.classList.toggle("dim", state.marked !== null && state.marked !== backend.name);
  });
  const rest = shown.backends.length - listed.length;
  at("more").hidden = rest <= 0;
  if (rest > 0) say(at("more"), `and ${whole.format(rest)} more: pinring status shows them all`);
}

function mark(name) {
  if (state.marked === name) return;
  state.marked = name;
  draw();
}

// --- Pictures --------------------------------------------------------------------------------------

function surface(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const scale = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return [context, width, height];
}

function drawRing(shown) {
  const [context, width, height] = surface(at("ring"));
  if (width < 40) return;
  const ring = state.rings.get(shown.name);
  const middle = [width / 2, height / 2];
  const outer = Math.min(width, height) / 2 - 6;
  const inner = outer * 0.76;
  const states = new Map(shown.backends.map((backend) => [backend.name, backend.state]));
  const band = (from, to, colour, near, far) => {
    context.beginPath();
    context.arc(...middle, far, from, to);
    context.arc(...middle, near, to, from, true);
    context.closePath();
    context.fillStyle = colour;
    context.fill();
  };
  if (!ring?.slices?.length) {
    band(0, 2 * Math.PI, paint("--line"), inner, outer);
    return;
  }
  const bad = paint("--bad");
  const turn = (slice) => (2 * Math.PI * slice) / ring.slices.length - Math.PI / 2;
  for (let start = 0; start < ring.slices.length; ) {
    let end = start + 1;
    while (end < ring.slices.length && ring.slices[end] === ring.slices[start]) end += 1;
    const name = ring.backends[ring.slices[start]];
    const is = states.get(name);
    context.globalAlpha = state.marked && state.marked !== name ? 0.18 : is === "draining" || is === "departed" ? 0.45 : 1;
    const isDown = TONES[is] === "bad";
    const far = state.marked === name ? outer + 4 : outer;
    band(turn(start), turn(end) + 0.002, isDown ? bad : colourOf(shown.name, name), inner, far);
    if (isDown) band(turn(start), turn(end) + 0.002, bad, inner - 5, inner - 1); // not by colour alone
    start = end;
  }
  context.globalAlpha = 1;
}

function series(shown, key) {
  const last = new Map(shown.backends.map((backend) => [backend.name, 0]));
  for (const sample of state.samples) {
    for (const [name, values] of sample.pools.get(shown.name) ?? []) last.set(name, Math.max(last.get(name) ?? 0, values[key]));
  }
  const ordered = [...last].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const drawn = new Set(ordered.length > DRAWN ? ordered.slice(0, DRAWN - 1) : ordered);
  const names = [...last.keys()].filter((name) => drawn.has(name));
  const lines = names.map((name) => ({ name, colour: colourOf(shown.name, name), values: [] }));
  const others = { name: null, colour: paint("--quiet"), values: [] };
  for (const sample of state.samples) {
    const values = sample.pools.get(shown.name) ?? new Map();
    for (const line of lines) line.values.push(values.get(line.name)?.[key] ?? 0);
    let rest = 0;
    for (const [name, value] of values) if (!drawn.has(name)) rest += value[key];
    others.values.push(rest);
  }
  return ordered.length > names.length ? [...lines, others] : lines;
}

function roundUp(value) {
  if (value <= 4) return 4;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map((step) => step * unit).find((step) => step >= value);
}

/** Areas, one on the other: the upper line is their sum. */
function drawChart(canvas, lines) {
  const [context, width, height] = surface(canvas);
  const [left, right, top, bottom] = [44, 4, 8, 20];
  if (width < 2 * left) return;
  const times = state.samples.map((sample) => sample.at);
  const now = times.at(-1) ?? 0;
  const sums = times.map((_, index) => lines.reduce((sum, line) => sum + line.values[index], 0));
  const most = roundUp(Math.max(0, ...sums));
  const x = (time) => left + (1 - (now - time) / WINDOW_S) * (width - left - right);
  const y = (value) => height - bottom - (value / most) * (height - top - bottom);
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = paint("--quiet");
  context.strokeStyle = paint("--line");
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const part of [0, 0.5, 1]) {
    context.beginPath();
    context.moveTo(left, y(part * most));
    context.lineTo(width - right, y(part * most));
    context.stroke();
    context.fillText(short.format(part * most), left - 6, y(part * most));
  }
  context.textBaseline = "bottom";
  for (const minutes of width > 480 ? [5, 4, 3, 2, 1, 0] : [5, 3, 0]) {
    context.textAlign = { 5: "left", 0: "right" }[minutes] ?? "center";
    context.fillText(minutes ? `−${minutes} min` : "now", x(now - 60 * minutes), height);
  }
  context.save();
  context.beginPath();
  context.rect(left, 0, width - left - right, height - bottom);
  context.clip();
  let floor = times.map(() => 0);
  for (const line of lines) {
    const ceiling = floor.map((value, index) => value + line.values[index]);
    context.beginPath();
    times.forEach((time, index) => context.lineTo(x(time), y(ceiling[index])));
    for (let index = times.length - 1; index >= 0; index -= 1) context.lineTo(x(times[index]), y(floor[index]));
    context.closePath();
    context.globalAlpha = state.marked && state.marked !== line.name ? 0.15 : 0.85;
    context.fillStyle = line.colour;
    context.fill();
    floor = ceiling;
  }
  context.restore();
  canvas.setAttribute("aria-description", `${short.format(sums.at(-1) ?? 0)} now`);
}

// --- Everything ------------------------------------------------------------------------------------

function reasons(id, counts) {
  const body = at(id).tBodies[0];
  const ordered = Object.entries(counts).filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]);
  const made = ordered.map(([reason, count]) => {
    const line = element("tr");
    const name = element("td", reason);
    if (HINTS[reason]) name.append(element("span", HINTS[reason], { className: "why" }));
    line.append(name, element("td", whole.format(count), { className: "number" }));
    return line;
  });
  const text = JSON.stringify(ordered);
  if (body.dataset.shown !== text) {
    body.dataset.shown = text;
    body.replaceChildren(...made);
  }
}

function facts(list) {
  const text = JSON.stringify(list);
  const box = at("facts");
  if (box.dataset.shown === text) return;
  box.dataset.shown = text;
  box.replaceChildren(...list.map(([name, value]) => {
    const pair = element("div");
    pair.append(element("dt", name), element("dd", value));
    return pair;
  }));
}

function choices(pools) {
  const box = at("pools");
  box.hidden = pools.length < 2;
  const names = pools.map((pool) => pool.name);
  if (box.dataset.names !== names.join("\n")) {
    box.dataset.names = names.join("\n");
    box.replaceChildren(...names.map((name) => {
      const button = element("button", name, { type: "button" });
      button.addEventListener("click", () => ((state.pool = name), draw()));
      return button;
    }));
  }
  for (const button of box.children) button.setAttribute("aria-pressed", button.textContent === state.pool);
}

function connection() {
  const silent = state.heard ? (performance.now() - state.heard) / 1000 : 0;
  const gone = silent > 3;
  at("alert").hidden = !gone;
  if (gone) say(at("alert"), `No word from pinring for ${span(silent)}: what you see is old. It is asked again and again.`);
  if (gone) (say(at("phase"), "no connection"), tone(at("phase"), "bad"));
}

function draw() {
  if (!state.latest?.pools.length) return;
  const snapshot = state.latest;
  const shown = pool();
  choices(snapshot.pools);
  say(at("phase"), snapshot.phase);
  tone(at("phase"), { running: "good", leaving: "calm", draining: "calm" }[snapshot.phase] ?? "warn");
  say(at("about"), `${snapshot.version} · up ${span(snapshot.uptime_ms / 1000)}`);
  const sum = (key) => shown.backends.reduce((sum, backend) => sum + backend[key], 0);
  say(at("sessions-now"), short.format(sum("sessions")));
  say(at("rate-now"), rate(sum("rate")));
  fill(shown);
  drawRing(shown);
  drawChart(at("requests"), series(shown, "rate"));
  drawChart(at("sessions"), series(shown, "sessions"));
  drawChart(at("streams"), series(shown, "streams"));
  reasons("losses", snapshot.losses);
  reasons("refusals", snapshot.refusals);
  facts(snapshot.facts);
  const down = snapshot.pools.flatMap((pool) => pool.backends).filter((backend) => TONES[backend.state] === "bad").length;
  document.title = down ? `(${down} down) pinring` : "pinring";
}

function begin() {
  const events = new EventSource("events");
  events.addEventListener("status", (event) => {
    state.heard = performance.now();
    take(read(JSON.parse(event.data)));
    connection();
    if (!document.hidden) draw();
  });
  setInterval(connection, 1000);
  document.addEventListener("visibilitychange", () => document.hidden || draw());
  dark.addEventListener("change", draw);
  addEventListener("resize", draw);
}

begin();
