// The board's page. What a server, an owner or a module wrote becomes text in it, never HTML.

const SILENCE_MS = 40000; // the event stream sends at least a comment every 10 s
const LONG_MS = 40000; // a restart takes less; an update for which the board has restarted may take minutes
const ASKED_MS = 15000; // a board that has to restart for what was asked of it has gone by then
const POLL_MS = 2000;
const MOST_LINES = 1000;
const RECENT = 100;
const SAMPLES = 120;

const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// -- small helpers

function h(tag, props, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function bytes(n) {
  if (typeof n !== "number") return "–";
  if (n < 1000) return `${n} bytes`;
  const [size, unit] = n < 1e6 ? [n / 1024, "KB"] : [n / 1048576, "MB"];
  return `${size.toFixed(size < 10 ? 1 : 0)} ${unit}`;
}

function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

function readable(value) {
  if (value === undefined || value === null || value === "") return "–";
  if (typeof value === "boolean") return value ? "On" : "Off";
  if (typeof value === "number") return value.toLocaleString("en", { maximumFractionDigits: 2 });
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Give the owner a file. */
function save(name, text) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "text/plain" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

let gone = false; // True while the board does not answer
let toastTimer;
function toast(text) {
  clearTimeout(toastTimer);
  $("toast").textContent = text;
  toastTimer = setTimeout(() => ($("toast").textContent = ""), 5000);
}

/** Ask before something that cannot be taken back; resolves to true or false. */
function ask(text, yes) {
  const dialog = $("ask");
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => (dialog.onclose = () => done(dialog.returnValue === "yes")));
}
$("ask-yes").onclick = () => $("ask").close("yes");
$("ask-no").onclick = () => $("ask").close("");

/** Run `work` with a button switched off; what fails is told to the owner. */
async function working(button, work, failed = (error) => toast(error.message)) {
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    failed(error);
  } finally {
    button.disabled = gone;
  }
}

function onSubmit(form, work) {
  form.onsubmit = (event) => {
    event.preventDefault();
    const error = form.querySelector(".error");
    if (error) error.textContent = "";
    const failed = (failure) => (error ? (error.textContent = failure.message) : toast(failure.message));
    working(form.querySelector("button:not([type])"), work, failed);
  };
}

// -- the API

const SENTENCES = { // for messages of the board that are as short as they can be
  "bad password": "That is not the password.",
  "bad host: see web.hosts": "The board does not go by the name in the address bar: see web.hosts in its profile.",
  busy: "Another job of the updater is running.",
  cancelled: "The upload was cancelled.",
  csrf: "This page's session is another one now: please reload the page.",
  "internal: see the log": "The board made a mistake: see its log.",
  "login required": "Please log in.",
  "no memory": "The board is short of memory.",
  "no space": "The board's disk is full.",
  "no update": "There is no update, or no previous version, to install.",
  "not allowed": "There is nothing that could be stopped or confirmed now.",
  "not configured: ota": "Updates are switched off: see the log.",
  "too large": "That is too large.",
};
const ENDED = "The session has ended. Please log in again.";
let csrf = null;

class ApiError extends Error {
  constructor(status, answer, retry) {
    const text = SENTENCES[answer.message] || answer.message || `the board answered ${status}`;
    super(`${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`);
    this.status = status;
    this.reason = answer.error;
    this.retry = retry;
  }
}

async function failure(response) {
  const answer = await response.json().catch(() => ({}));
  return new ApiError(response.status, answer, Number(response.headers.get("Retry-After")) || 0);
}

/** GET, or POST when there is a body; resolves to the answer's JSON. */
async function api(path, body, ms = 15000, tries = 3) {
  const options = { cache: "no-store", signal: AbortSignal.timeout(ms) };
  if (body) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json", "X-CSRF": csrf || "" };
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(`/api/${path}`, options);
  } catch {
    throw new ApiError(0, { message: "The board does not answer." }, 0);
  }
  if (!response.ok) {
    const error = await failure(response);
    if (error.status === 503 && error.reason !== "updating" && path !== "action" && tries > 1) {
      await sleep((error.retry || 1) * 1000);
      return api(path, body, ms, tries - 1);
    }
    if (error.status === 401 && path !== "login") showLogin(ENDED);
    throw error;
  }
  return response.status === 204 ? null : response.json();
}

// -- what the board says: the latest values of its bus, its status

const values = {};
let session = {};
let board = { ota: {} };
let startedAt = null; // when the board started, by this computer's clock
let ticksAt = null; // when its count of milliseconds began, which begins again after 12 days
let clockAt = null; // how far its clock is from this computer's, if it knows the time
let statusTimer;

function apply(given) {
  const news = Object.keys(given).filter((key) => values[key] !== given[key]); // the board's own changes, or all values
  const changed = (...keys) => keys.some((key) => news.includes(key));
  const before = values["ota/status"];
  Object.assign(values, given);
  for (const node of document.querySelectorAll("[data-key]")) if (changed(node.dataset.key)) show(node);
  if (changed("ota/status")) newPhase(before);
  if (changed("ota/progress")) percent = values["ota/progress"];
  if (changed("ota/status") && ASKS.includes(values["ota/status"])) askStatusSoon();
  if (changed("rssi", "wifi/state")) showSignal();
  if (changed("wifi/state", "ip", "ssid")) showWifi();
  showFirmware();
  showNotices();
}

function show(node) {
  const value = values[node.dataset.key];
  const { unit } = node.dataset;
  if (node.matches("input, select")) return node === document.activeElement || fill(node, value);
  if (unit === "bytes") return setText(node, bytes(value));
  node.textContent = readable(value);
  if (unit && typeof value === "number") node.append(h("small", {}, unit));
  return node.classList.toggle("text", typeof value === "string" && value.length > 8);
}

function askStatusSoon() {
  clearTimeout(statusTimer);
  statusTimer = setTimeout(() => loadStatus().catch(() => {}), 200);
}

async function loadStatus() {
  const before = values["ota/status"];
  const answer = await api("status");
  board = { ...answer, ota: answer.ota || {} };
  startedAt = Date.now() - answer.uptime_s * 1000;
  ticksAt = Date.now() - answer.ticks_ms;
  clockAt = answer.time && Date.now() - answer.time * 1000;
  setText($("device"), `${answer.name} · ${answer.id}`);
  $("host").href = "/";
  $("host").hostname = `${answer.host}.local`;
  setText($("host"), answer.host ? $("host").href : "–");
  showModules(answer);
  const { port, micropython, heap, disk } = answer;
  setText($("hardware"), `${answer.board || port} · MicroPython ${micropython} (${port}) · ${bytes(heap)} memory, ${bytes(disk)} disk`);
  setText($("last-start"), answer.restart);
  noteLast(board.ota);
  if (values["ota/status"] === before) apply({ "ota/status": board.ota.state });
  else askStatusSoon(); // an event has overtaken the answer
  if (board.ota.progress) percent = board.ota.progress;
}

// -- the link to the board: events, or polling where all streams are taken; and again after every loss

let run = 0;
let stream = null;
let expected = ""; // why the board is away, when we know
const RESTARTING = "The board is restarting";
const FOR_MEMORY = "The board restarts to have memory for the update. Its page comes back by itself, in about half a minute.";
let lossTimer;
let lostAt = 0;

function setLink(state, why = "") {
  const words = { live: "Live", polling: `Every 2 s: ${why}`, lost: "Offline", "": "" };
  $("link").className = state === "polling" ? "live" : state;
  setText($("link"), words[state]);
  clearTimeout(lossTimer);
  gone = state === "lost";
  for (const button of document.querySelectorAll("#firmware button")) button.disabled = gone;
  if (state !== "lost") {
    $("banner").hidden = true;
    expected = "";
    lostAt = 0;
  } else {
    lostAt ||= Date.now();
    // A board that restarts has no time to say so, neither to install nor for the memory that an update takes
    const status = values["ota/status"];
    if (status === "installing") apply({ "ota/status": "rebooting" });
    else if (!(status in BUSY) && forMemory(status)) apply({ "ota/status": "checking" });
    if (values["ota/status"] in BUSY) expected ||= forMemory(status) ? FOR_MEMORY : RESTARTING;
    showFirmware();
    lossTimer = setTimeout(showLoss, expected ? 0 : 1500);
  }
}

function showLoss() {
  const long = expected && Date.now() - lostAt > LONG_MS;
  if (long && expected === FOR_MEMORY) expected = "The board updates with nothing else running";
  setText($("banner"), `${expected || "The board does not answer. Trying again"}${long ? ". This may take minutes; the page comes back by itself" : ""}`);
  $("banner").hidden = false;
}

async function connect() {
  const mine = ++run;
  let pause = 500;
  while (mine === run) {
    let excuse = "";
    try {
      if (!(await enter())) return;
      pause = 500;
      await follow();
    } catch (error) {
      if (error.status === 401 || mine !== run) return;
      if (error.status === 503 && error.streams && (await poll(mine, STREAMS[error.reason]))) continue;
      if (error.status === 503) excuse = error.message.replace(/\.$/, ""); // it has no memory for browsers now
    }
    if (mine !== run) return;
    if (excuse) expected = excuse;
    setLink("lost");
    if (excuse) showLoss();
    await sleep(pause * (1 + Math.random() / 2));
    pause = Math.min(pause * 1.6, expected ? 1500 : 8000);
  }
}

/** Who are we, and how is the board? False when somebody must log in first. */
async function enter() {
  session = await api("session", undefined, 6000, 1);
  showName(session);
  if (!session.authenticated) {
    showLogin(csrf ? ENDED : "");
    return false;
  }
  csrf = session.csrf;
  await loadStatus();
  await loadPanels();
  document.querySelector("nav").hidden = false;
  $("welcome").hidden = !session.setup;
  if (session.setup && !location.hash) location.hash = "#/settings";
  route();
  return true;
}

function showName({ name }) {
  session.name = name || "Board";
  document.title = shown ? `${$(`${shown}-h`).textContent} · ${session.name}` : session.name;
  setText($("name"), session.name);
}

/** Follow the event stream to its end. */
async function follow() {
  const control = new AbortController();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => control.abort(), SILENCE_MS);
  };
  stream = control;
  heard();
  try {
    const response = await fetch("/api/events", { signal: control.signal, cache: "no-store" });
    if (!response.ok) throw Object.assign(await failure(response), { streams: true });
    setLink("live");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      const frames = (text + value).split("\n\n");
      text = frames.pop();
      frames.forEach(take);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** One frame of the event stream. */
function take(frame) {
  let kind = "message";
  let data = "";
  for (const line of frame.split("\n")) {
    const [, field, rest] = /^([a-z]*): ?(.*)$/.exec(line) || [];
    if (field === "event") kind = rest;
    if (field === "data") data += rest;
  }
  if (!data) return;
  const value = JSON.parse(data);
  if (kind === "log") addLine(value);
  if (kind === "dropped") addLine({ level: "", line: `${value} lines were lost` });
  if (kind === "values") apply(value);
}

const STREAMS = { too_many: "others are watching", no_memory: "the board is short of memory" };

/** Ask every two seconds, for most of a minute: then a stream may be free. False when the board is gone. */
async function poll(mine, why) {
  try {
    for (let round = 0; round < 20 && mine === run; round++) {
      apply(await api("values"));
      await loadLines(round ? lastLine : -1);
      setLink("polling", why);
      await sleep(POLL_MS);
    }
    return mine === run;
  } catch {
    return false;
  }
}

// A page that nobody looks at gives its stream to others
let hiddenTimer;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiddenTimer);
  if (document.hidden) hiddenTimer = setTimeout(leave, 60000);
  else if (!stream && csrf) connect();
});

function leave() {
  run++;
  clearTimeout(statusTimer);
  stream?.abort();
  stream = null;
}

// -- logging in

function showLogin(text) {
  leave();
  csrf = null;
  setLink("");
  clearTimeout(lossTimer);
  $("banner").hidden = true;
  document.querySelector("nav").hidden = true;
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== "login";
  $("login-error").textContent = text;
  $("password").focus();
}

onSubmit($("login").querySelector("form"), async () => {
  try {
    ({ csrf } = await api("login", { password: $("password").value }));
  } catch (error) {
    $("password").select();
    if (error.status === 429) return locked(error.retry || 30);
    throw error;
  }
  $("password").value = "";
  return connect();
});

async function locked(seconds) {
  for (let left = seconds; left > 0; left--) {
    $("login-error").textContent = `Too many wrong passwords. Try again in ${duration(left)}.`;
    await sleep(1000);
  }
  $("login-error").textContent = "";
}

$("logout").onclick = () =>
  working($("logout"), async () => {
    leave();
    await api("logout", {}).finally(() => showLogin(""));
  });

// -- sections

const SECTIONS = ["dashboard", "firmware", "console", "settings"];
let shown = null;

function route() {
  if (!csrf) return;
  const wished = location.hash.slice(2);
  const name = SECTIONS.includes(wished) ? wished : "dashboard";
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (shown === name) return;
  if (shown) {
    scrollTo(0, 0);
    $(`${name}-h`).focus({ preventScroll: true });
  }
  shown = name;
  document.title = `${$(`${name}-h`).textContent} · ${session.name}`;
  if (name === "settings") loadSettings();
  if (name === "console") drawLines();
  if (name === "firmware") drawPlots();
}
addEventListener("hashchange", route);

// -- dashboard

let panelsKey = "";

async function loadPanels() {
  const panels = await api("panels");
  if (JSON.stringify(panels) === panelsKey) return;
  panelsKey = JSON.stringify(panels);
  document.querySelectorAll(".panel").forEach((node) => node.remove());
  panels.forEach((panel, index) => {
    if (panel.values.length + panel.actions.length) $("board").before(panelCard(panel, `panel-${index}`));
    if (panel.settings.length) $("power").before(settingsCard(panel, `settings-${index}`));
  });
}

function panelCard(panel, id) {
  const card = h("article", { className: "card panel" }, h("h3", { id }, panel.title));
  card.setAttribute("aria-labelledby", id);
  const list = h("dl", { className: "values" });
  for (const item of panel.values) {
    const { key, label, unit, kind } = item;
    const sensor = kind.endsWith("sensor");
    const value = sensor ? h("dd") : Object.assign(control(panel, item), { id: `value-${key}` });
    value.dataset.key = key;
    value.dataset.unit = unit || "";
    show(value);
    list.append(h("div", {}, h("dt", {}, sensor ? label : h("label", { htmlFor: value.id }, label)), sensor ? value : h("dd", {}, value, h("small", {}, unit))));
  }
  if (panel.values.length) card.append(list);
  if (panel.actions.length) card.append(h("div", { className: "buttons" }, ...panel.actions.map((action) => actionButton(panel, action))));
  return card;
}

/** A field for something that can be set; what is chosen goes to the board at once. */
function control(panel, { key, label, kind, range }) {
  const types = { switch: "checkbox", number: "number" };
  const node = kind === "select" ? h("select", {}, ...range.map((text) => h("option", {}, text))) : h("input", { type: types[kind] || "text" });
  if (kind === "number") [node.min, node.max, node.step] = [range[0], range[1], range[2] || 1];
  node.setAttribute("aria-label", `${panel.title}: ${label}`);
  node.autocomplete = "off";
  node.onchange = async () => {
    if (!node.reportValidity()) return;
    const number = kind === "number" && node.value !== "";
    const value = kind === "switch" ? node.checked : number ? Number(node.value) : node.value;
    await working(node, async () => {
      await api("action", { panel: panel.id, action: key, value });
      node.onsaved?.();
    });
  };
  return node;
}

function fill(node, value) {
  if (node.type === "checkbox") node.checked = value === true;
  else node.value = value ?? "";
}

const AFTER = {
  name: "Saved. Its address changes with a restart.",
  "wifi.address": "Saved: the board restarts. A fixed address goes again if nobody opens this page there in the first five minutes.",
};

/** The settings of a panel: among the board's own. */
function settingsCard(panel, id) {
  const card = h("article", { className: "card panel" }, h("h3", { id }, panel.title), h("p", { className: "soft" }, "Saved when you leave a field."));
  card.setAttribute("aria-labelledby", id);
  for (const item of panel.settings) {
    const node = control(panel, item);
    fill(node, item.value);
    node.onsaved = async () => {
      toast(AFTER[item.key] || "Saved.");
      if (item.key === "wifi.address") expected = RESTARTING;
      if (item.key === "name") showName(await api("session"));
    };
    const text = item.label + (item.unit && ` (${item.unit})`);
    card.append(item.kind === "switch" ? h("label", { className: "check" }, node, text) : h("label", {}, text, node));
  }
  return card;
}

function showModules({ modules, failed }) {
  const rows = [...modules.map((name) => [name, "Running"]), ...Object.entries(failed).map(([name, why]) => [name, `Off: ${why}`])];
  $("modules").replaceChildren(...rows.map(([name, words]) => h("div", {}, h("dt", {}, name), h("dd", {}, words))));
}

function actionButton(panel, action) {
  const button = h("button", {}, action.label);
  button.onclick = async () => {
    const question = typeof action.confirm === "string" ? action.confirm : `${action.label}?`;
    if (action.confirm && !(await ask(question, action.label))) return;
    await working(button, () => api("action", { panel: panel.id, action: action.id }));
  };
  return button;
}

function showSignal() {
  const { rssi } = values;
  const known = values["wifi/state"] === "connected" && typeof rssi === "number" && rssi < 0;
  $("signal").hidden = !known;
  if (!known) return;
  const strength = rssi > -60 ? 4 : rssi > -70 ? 3 : rssi > -80 ? 2 : 1;
  $("signal").setAttribute("aria-label", `Signal ${strength} of 4`);
  [...$("signal").children].forEach((bar, index) => bar.classList.toggle("on", index < strength));
}

function notice(kind, title, ...more) {
  return h("div", { className: `notice ${kind}` }, h("strong", {}, title), ...more.map((part) => (typeof part === "string" ? h("p", {}, part) : part)));
}

let noticesKey = "";
function showNotices() {
  const found = [];
  if (values.safe_mode || board.safe_mode) {
    found.push(["warn", "Safe mode.", "The last starts failed, so only what an update needs is running."]);
  }
  for (const [key, value] of Object.entries(values)) {
    if (key.startsWith("module/") && String(value).startsWith("off")) found.push(["bad", `The module ${key.slice(7)} is off.`, String(value).slice(4).trim()]);
  }
  if (values["restart/waiting_for"] && values["ota/status"] === "rebooting") found.push(["info", "The restart is waiting.", values["restart/waiting_for"]]);
  const key = JSON.stringify(found);
  if (key === noticesKey) return;
  noticesKey = key;
  $("notices").replaceChildren(...found.map((row) => notice(...row)));
}

setInterval(() => {
  if (startedAt) setText($("uptime"), duration((Date.now() - startedAt) / 1000));
  if (startedAt) setText($("time"), clockAt === null ? "Not known yet" : new Date(Date.now() - clockAt).toLocaleString());
  const away = Date.now() - lostAt;
  if (gone && away >= 3000 && phase()) setText($("detail"), `${duration(away / 1000)} so far`);
  sample();
}, 1000);

// -- firmware

const STEPS = ["Check", "Download", "Verify", "Install", "Restart", "Trial"];
const ASKS = ["available", "ready", "confirmed", "rolled_back"]; // states of which the bus does not tell all
const BUSY = { checking: 0, downloading: 1, installing: 3, rebooting: 4, trial: 5 };
const CHIPS = {
  up_to_date: ["good", "Up to date"],
  confirmed: ["good", "Confirmed"],
  available: ["info", "Update available"],
  ready: ["info", "Update ready"],
  rolled_back: ["bad", "Rolled back"],
  failed: ["bad", "Not updated"],
};
const ADVICE = {
  "no_network dns connect tls": "Nothing to do: the board tries again, later and later.",
  "timeout connection_lost": "Nothing to do: the download goes on later.",
  "http_status redirect": "Look whether the channel's file is on the server, at ota.url of the profile.",
  "bad_response too_large": "A login page or a proxy may stand between the board and the server.",
  bad_channel: "Publish the release again with iotctl publish.",
  "no_signature bad_signature": "Sign the release with the key that this board pins.",
  bad_key: "Build with a profile that pins the signer's key.",
  wrong_name: "This release is for another kind of board: look at shortName and ota.url.",
  old_sequence: "Build with a higher version or sequence than the one that was confirmed here.",
  far_sequence: "Build with a sequence nearer to the one that was confirmed here.",
  version_mismatch: "Publish the release again.",
  expired: "Publish with a later expiry, and look at the board's clock.",
  wrong_mpy: "Build with --py, or update the board's MicroPython.",
  "bad_bundle bad_member bad_digest": "The file is damaged, or no release at all. Check it with iotctl verify, and upload it again.",
  "bad_path protected_path": "The release holds a file that no release may have: rename it.",
  no_space: "Make room on the board, or build a smaller release.",
  flash_error: "Try by force. If it stays, the flash is worn out.",
  no_memory: "Nothing to do: it is tried again soon. Fewer modules help.",
  failed_before: "Publish a newer release, or try this one again by force.",
  "busy not_configured not_allowed": "The console says more.",
  "no_deflate no_package": "Flash a complete build of MicroPython.",
  internal: "Please report this, with the lines of the console.",
};
const TRIAL_ADVICE = {
  exception: "The console shows the traceback of the new version. Correct it, and publish a newer release.",
  module_failed: "A module that ran before fails in the new version. Correct it, and publish a newer release.",
  "watchdog reset": "The new version hung or restarted by itself. Correct it, and publish a newer release.",
  timeout: "Not everything that ran before ran in time. Correct it, and publish a newer release.",
  no_network: "The new version did not reach the server. It is tried again a few times, at growing intervals.",
  power: "Every boot of the trial ended with the power. It is tried again a few times.",
  "no_space flash_error bad_journal": "It could not be put in place. Make room on the board, then try by force.",
};
const FORCE = ["failed_before", "no_space", "flash_error"];

const find = (table, reason) => Object.entries(table).find(([reasons]) => reasons.split(" ").includes(reason))?.[1] || "";

let percent = 0;
let phaseAt = Date.now();
let knownLast; // the result that was there before: only a newer one is shown
let fresh = false;
let askedAt = 0; // when somebody asked for an update here of which the board has told no end
let uploading = null; // {done, total} while a file is on its way

function newPhase(before) {
  const status = values["ota/status"];
  percent = 0;
  phaseAt = Date.now();
  if (status === "rebooting") expected = forMemory(before) ? FOR_MEMORY : RESTARTING;
  if (["up_to_date", "failed", "idle", "confirmed"].includes(status)) askedAt = 0;
}

/** True when a restart in this state makes room for an update: it has not begun to install, or was only just asked for. */
const forMemory = (status) => (status in BUSY ? BUSY[status] < 3 : Date.now() - askedAt < ASKED_MS);

function noteLast(ota) {
  const last = JSON.stringify(ota.last || null);
  if (knownLast !== undefined && last !== knownLast) fresh = true;
  if (ota.state === "confirmed") fresh = true;
  knownLast = last;
}

/** The step that runs: its number, its sentence, and how far it is in percent (or undefined). */
function phase() {
  const state = values["ota/status"];
  const version = values["ota/available"] || board.ota.available;
  const named = version ? `version ${version}` : "the release";
  if (gone && state in BUSY) return [BUSY[state], expected || RESTARTING];
  if (uploading) return [1, "Uploading the release", (uploading.done * 100) / uploading.total];
  if (state === "downloading" && percent < 100) return [1, `Downloading ${named}`, percent];
  if (state === "downloading") return [2, `Verifying ${named}`];
  if (state === "ready" && board.ota.job) return [3, `Installing ${named}`];
  if (!(state in BUSY)) return null;
  const waiting = values["restart/waiting_for"];
  const words = {
    checking: "Asking the server",
    installing: "Installing beside the running version",
    rebooting: waiting ? `Waiting for ${waiting}` : RESTARTING,
    trial: "The new version is on trial. It stays if everything works.",
  };
  return [BUSY[state], words[state]];
}

function showFirmware() {
  const { ota } = board;
  const state = values["ota/status"];
  const now = phase();
  const version = values.version || ota.version;
  const available = values["ota/available"] || ota.available;
  const news = !now && available && available !== version;
  const taken = ota.last?.result === "rolled_back" && ota.last.version === available;
  // What failed here is not installed again, but by force
  const failed = news && ["failed", "rolled_back"].includes(state) && (taken || (values["ota/error"] || ota.error) === "failed_before");
  const offered = news && !failed && ["available", "ready", "failed"].includes(state) ? available : null;
  setText($("version"), version || "–");
  const [kind, word] = now ? ["info", "Updating"] : gone ? ["", "Not known"] : CHIPS[state] || ["", ""];
  $("state").className = `chip ${kind}`;
  setText($("state"), word);
  $("state").hidden = !word;
  $("available").hidden = !offered;
  if (offered) {
    setText($("new-version"), `Version ${offered} is available`);
    setText($("new-size"), values["ota/total"] ? `at most ${bytes(values["ota/total"])}` : "");
    setText($("notes"), ota.notes || "");
    $("notes").hidden = !ota.notes;
    const wait = values["ota/waiting"] || "";
    const asked = wait.startsWith("asked");
    setText($("waits"), asked ? "It is installed when you press Update." : `It installs itself in the ${wait} (UTC).`);
    $("waits").hidden = !wait;
  }
  setText($("update"), offered ? `Update to ${offered}` : "Update");
  $("update").hidden = !offered;
  $("check").hidden = Boolean(now);
  $("keep").hidden = state !== "trial";
  $("cancel").hidden = !now || now[0] > 3;
  $("rollback").hidden = !(ota.previous && !now) && state !== "trial";
  setText($("rollback"), state === "trial" || !ota.previous ? "Go back" : `Roll back to ${ota.previous}`);
  if (document.activeElement !== $("channel")) $("channel").value = values["ota/channel"] || ota.channel || "";
  showProgress(now);
  const byHand = taken && ota.last.reason === "by_hand";
  showOffer(now, offered, failed && !byHand ? `Version ${available} failed here${taken ? " and was taken back" : ""}` : "");
  showResult(state, Boolean(now));
}

function showProgress(now) {
  $("progress").hidden = !now;
  if (!now) return;
  const [step, words, done] = now;
  const steps = uploading ? ["Choose", "Upload", ...STEPS.slice(2)] : STEPS;
  if ($("steps").dataset.key !== `${step}${steps}`) {
    $("steps").dataset.key = `${step}${steps}`;
    $("steps").replaceChildren(...steps.map((name, index) => h("li", { className: index < step ? "done" : index === step ? "now" : "" }, name)));
  }
  setText($("phase"), words);
  const meter = $("meter");
  if (done === undefined) {
    meter.removeAttribute("aria-valuenow");
    meter.removeAttribute("aria-valuetext");
    meter.firstElementChild.style.width = "0";
    setText($("detail"), "");
    return;
  }
  const text = progressText(done);
  meter.setAttribute("aria-valuenow", Math.round(done));
  meter.setAttribute("aria-valuetext", text);
  meter.firstElementChild.style.width = `${done}%`;
  setText($("detail"), text);
}

function progressText(done) {
  const parts = [`${Math.floor(done)} %`]; // of an update nobody knows the bytes: it is as little as the board needs of the release
  if (uploading) parts.push(`${bytes(Math.round((uploading.total * done) / 100))} of ${bytes(uploading.total)}`);
  const seconds = (Date.now() - phaseAt) / 1000;
  if (done > 2 && done < 100 && seconds > 1) parts.push(`about ${duration((seconds / done) * (100 - done) + 0.5)} left`);
  return parts.join(" · ");
}

/** The dashboard's line about an update. */
function showOffer(now, offered, failed) {
  const text = now ? now[1] + (now[2] === undefined ? "" : `, ${Math.floor(now[2])} %`) : offered ? `Version ${offered} is available` : failed;
  $("offer").hidden = !text;
  $("offer").className = `notice ${failed ? "bad" : "info"}`;
  setText($("offer"), text);
}

let resultKey = "";
function showResult(state, busy) {
  const { ota } = board;
  const last = ota.last || {};
  const error = values["ota/error"] || ota.error;
  const message = values["ota/message"] || ota.message || "";
  const key = JSON.stringify([state === "failed" && [error, message], busy, last, fresh]);
  if (key === resultKey) return;
  resultKey = key;
  const found = [];
  const again = last.result === "rolled_back" && error === "failed_before";
  if (!busy && state === "failed" && error && !again) found.push(failedNotice(error, message));
  if (!busy && last.result === "rolled_back") found.push(rolledBackNotice(last));
  if (!busy && last.result === "confirmed" && fresh) found.push(confirmedNotice(last));
  $("result").replaceChildren(...found);
  if (found.length && shown === "firmware") scrollTo(0, 0);
}

function failedNotice(reason, message) {
  const gentle = ["no_network", "dns", "connect", "tls", "timeout", "connection_lost", "no_memory"].includes(reason);
  const parts = [`${message} (${reason})`, find(ADVICE, reason)];
  if (FORCE.includes(reason)) parts.push(forceButton());
  return notice(gentle ? "warn" : "bad", "Not updated.", ...parts.filter(Boolean));
}

function rolledBackNotice(last) {
  if (last.reason === "by_hand") return notice("info", `The board went back from ${last.version} to ${last.from}.`, "Somebody asked for it.", forceButton());
  const parts = [`${last.message || "It did not prove itself."} (${last.reason})`, find(TRIAL_ADVICE, last.reason)];
  return notice("bad", `Version ${last.version} was rolled back: the board runs ${last.from} again.`, ...parts.filter(Boolean), forceButton());
}

function confirmedNotice(last) {
  const close = h("button", {}, "Good");
  close.onclick = () => {
    fresh = false;
    showFirmware();
  };
  return notice("good", `Version ${last.version} is installed, works and stays.`, last.from ? `It replaced ${last.from}.` : "", h("div", { className: "buttons" }, close));
}

function forceButton() {
  const button = h("button", {}, "Try again by force");
  button.onclick = async () => {
    if (await ask("Install it, although it failed on this board, or the board went back from it?", "Install")) await command("update", button, { force: true });
  };
  return h("div", { className: "buttons" }, button);
}

async function command(name, button, body = {}) {
  await working(button, async () => {
    if (name === "update") askedAt = Date.now(); // before the answer: the board may be gone before that is read
    await api(`ota/${name}`, body).catch((error) => {
      askedAt = 0;
      throw error;
    });
    fresh = false;
    askStatusSoon();
  });
}

for (const name of ["update", "check", "cancel"]) $(name).onclick = () => command(name, $(name));
$("keep").onclick = () => command("confirm", $("keep"));
$("rollback").onclick = async () => {
  const trial = values["ota/status"] === "trial";
  const text = trial ? "End the trial, and go back to the version before?" : `Go back to version ${board.ota.previous}? The board restarts.`;
  if (await ask(text, "Go back")) await command("rollback", $("rollback"));
};

onSubmit($("channel-form"), async () => {
  await api("ota/channel", { channel: $("channel").value.trim() });
  toast("Saved. The next check asks this channel.");
});

// An upload: XMLHttpRequest, because fetch() does not tell how far it is
const file = $("file");
file.onchange = () => setText($("file-name"), file.files[0] ? `${file.files[0].name} · ${bytes(file.files[0].size)}` : "Choose or drop a .tar.gz file");
for (const [event, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  $("drop").addEventListener(event, () => $("drop").classList.toggle("over", over));
}

onSubmit($("upload-form"), async () => {
  const chosen = file.files[0];
  uploading = { done: 0, total: chosen.size || 1 };
  phaseAt = Date.now();
  showFirmware();
  scrollTo(0, 0);
  try {
    await upload(chosen, $("force").checked);
    askedAt = Date.now();
    fresh = false;
    askStatusSoon();
    $("upload-form").reset();
    file.onchange();
  } finally {
    uploading = null;
    showFirmware();
  }
});

function upload(chosen, force) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/ota/upload?force=${force ? 1 : 0}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("X-CSRF", csrf);
    request.responseType = "json";
    request.upload.onprogress = (event) => {
      uploading.done = event.loaded;
      showFirmware();
    };
    request.onload = () => (request.status < 300 ? done() : failed(new ApiError(request.status, request.response || {}, 0)));
    request.onerror = () => failed(new ApiError(0, { message: "The board broke off the upload. Is the file a release, and not too large?" }, 0));
    request.send(chosen);
  });
}

// Two small plots

const history = { ram: [], disk: [] };

function sample() {
  for (const [name, key] of [["ram", "freeram"], ["disk", "freedisk"]]) {
    if (typeof values[key] !== "number") continue;
    history[name].push(values[key]);
    history[name].splice(0, history[name].length - SAMPLES);
  }
  if (shown === "firmware" && csrf) drawPlots();
}

function drawPlots() {
  plot("ram", "Free memory", board.heap);
  plot("disk", "Free disk", board.disk);
}

function plot(name, label, total) {
  const points = history[name];
  if (!points.length) return;
  const top = total || Math.max(...points) * 1.25;
  const wide = 120 / Math.max(points.length - 1, 20); // a plot that has just begun fills from the right
  const at = points.map((value, index) => `${(120 - (points.length - 1 - index) * wide).toFixed(2)},${(38 - (36 * value) / top).toFixed(2)}`);
  const line = `M${at.join("L")}`;
  const svg = $(name);
  if (!svg.firstChild) svg.append(...["area", "line"].map((kind) => svgPath(kind)));
  svg.firstChild.setAttribute("d", `${line}V40H${at[0].split(",")[0]}Z`);
  svg.lastChild.setAttribute("d", line);
  const text = bytes(points.at(-1)) + (total ? ` of ${bytes(total)}` : "");
  svg.setAttribute("aria-label", `${label}: ${text}`);
  setText($(`${name}-now`), text);
}

function svgPath(kind) {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("class", kind);
  return path;
}

// -- console

const RANK = { D: 0, I: 1, W: 2, E: 3 };
const lines = [];
const recent = new Map(); // number: line, for as many as the board remembers
let lastLine = -1;
let paused = false;
let unseen = 0;

async function loadLines(after) {
  const answer = await api(`log?after=${after}`);
  answer.lines.forEach(addLine);
}

function addLine({ n, level, line }) {
  if (n !== undefined) {
    if (recent.get(n) === line) return; // sent again
    if (n <= lastLine) {
      recent.clear(); // they are counted from the start of the board
      addLine({ level: "", line: "the board has restarted" });
    }
    lastLine = n;
    recent.set(n, line);
    recent.delete(n - RECENT);
  }
  const [, time, text] = /^\[\s*([\d.]+)\] [A-Z] (.*)$/s.exec(line) || [0, "", line];
  const entry = { level, time: wallClock(time), text, line };
  lines.push(entry);
  if (lines.length > MOST_LINES) lines.shift();
  if (paused) unseen++;
  else if (wanted(entry)) appendLine(entry);
  noteLines();
}

/** When the board counted so many seconds, by this computer's clock. */
function wallClock(seconds) {
  if (ticksAt === null || !seconds) return seconds;
  const period = 2 ** 30;
  const ago = (Date.now() - ticksAt - seconds * 1000) % period;
  return new Date(Date.now() - (ago < -60000 ? ago + period : Math.max(ago, 0))).toLocaleTimeString("en-GB");
}

function wanted({ level, line }) {
  const words = $("filter").value.trim().toLowerCase();
  return !(RANK[level] < RANK[$("level").value]) && (!words || line.toLowerCase().includes(words));
}

function appendLine(entry) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(lineNode(entry));
  if (log.childElementCount > MOST_LINES) log.firstChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

const lineNode = ({ level, time, text }) => h("div", { className: level || "mark" }, h("time", {}, time), h("b", {}, level || "–"), h("span", {}, text));

function drawLines() {
  $("log").replaceChildren(...lines.filter(wanted).map(lineNode));
  $("log").scrollTop = $("log").scrollHeight;
  noteLines();
}

function noteLines() {
  const words = paused ? `Paused. ${unseen} new ${unseen === 1 ? "line" : "lines"}.` : $("log").childElementCount ? "" : "No line matches.";
  setText($("log-note"), words);
}

$("pause").onclick = () => {
  paused = !paused;
  unseen = 0;
  $("pause").setAttribute("aria-pressed", paused);
  if (!paused) drawLines();
  noteLines();
};

let boardDebugs = false;
$("level").onchange = () => {
  drawLines();
  const debug = $("level").value === "D";
  if (debug === boardDebugs) return;
  boardDebugs = debug;
  api("log/level", { level: debug ? "debug" : "info" }).catch((error) => toast(error.message));
};
$("filter").oninput = drawLines;

const shownText = () => lines.filter(wanted).map(({ line }) => `${line}\n`).join("");

$("copy").onclick = async () => {
  const text = shownText();
  try {
    await navigator.clipboard.writeText(text); // only where the page came by https or from this computer
  } catch {
    const area = h("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast("Copied.");
};

$("download").onclick = () => save(`${session.name}-log.txt`, shownText());

onSubmit($("command-form"), async () => {
  await api("console", { line: $("command").value });
  $("command").value = "";
});

$("clear").onclick = () =>
  working($("clear"), async () => {
    await api("log/purge", {});
    lines.length = 0;
    drawLines();
  });

// -- settings

let wifi = null;

async function loadSettings() {
  $("mqtt-form").reset();
  await loadWifi();
  await optional("mqtt", $("mqtt-form"), (answer) => {
    const form = $("mqtt-form").elements;
    // What somebody is typing stays: a field's default shows only while nobody has touched it
    for (const name of ["host", "port", "user"]) form[name].defaultValue = answer[name] || "";
    form.tls.defaultChecked = Boolean(answer.tls);
    form.password.placeholder = answer.password ? "Unchanged" : "";
  });
}

async function loadWifi() {
  await optional("wifi", $("wifi-card"), (answer) => {
    wifi = answer;
    showWifi();
  });
}

/** A card for a module that may not be on this board. */
async function optional(path, card, fill) {
  card.hidden = !board.modules?.includes(path);
  if (card.hidden) return;
  try {
    fill(await api(path));
  } catch (error) {
    toast(error.message);
  }
}

function showWifi() {
  if (!wifi) return;
  const ssid = values.ssid || wifi.ssid;
  const words = {
    connected: `Connected to ${ssid}${values.ip ? ` as ${values.ip}` : ""}.`,
    connecting: `Joining ${ssid}…`,
    waiting: `${ssid} could not be joined. Trying again.`,
    off: "No network is chosen.",
  };
  setText($("wifi-state"), words[values["wifi/state"] || wifi.state] || "–");
  $("forget").hidden = !wifi.ssid;
  $("ssid").value ||= wifi.ssid || "";
  if (values["wifi/state"] === "connected") $("welcome").hidden = true;
}

$("scan").onclick = () =>
  working($("scan"), async () => {
    setText($("wifi-state"), "Looking for networks…");
    const { networks } = await api("wifi/scan", {}, 30000).finally(showWifi);
    $("networks").replaceChildren(...networks.map((network) => h("li", {}, networkButton(network))));
    if (!networks.length) toast("No network is in reach.");
  });

function networkButton({ ssid, rssi, open }) {
  const strength = rssi > -60 ? 4 : rssi > -70 ? 3 : rssi > -80 ? 2 : 1;
  const bars = h("span", { className: "signal" });
  for (let bar = 1; bar <= 4; bar++) bars.append(h("i", { className: bar <= strength ? "on" : "" }));
  const button = h("button", { type: "button" }, h("span", {}, ssid));
  if (!open) {
    const lock = document.querySelector("nav svg").cloneNode(true);
    lock.firstElementChild.setAttribute("href", "#i-lock");
    button.append(lock);
  }
  button.append(bars);
  button.setAttribute("aria-label", `${ssid}, signal ${strength} of 4, ${open ? "open" : "with a password"}`);
  button.onclick = () => {
    $("ssid").value = ssid;
    $(open ? "ssid" : "wifi-password").focus();
  };
  return button;
}

onSubmit($("join-form"), async () => {
  const ssid = $("ssid").value;
  await api("wifi/join", { ssid, password: $("wifi-password").value });
  $("wifi-password").value = "";
  $("networks").replaceChildren();
  toast(`The board joins ${ssid}: look for it there. If it cannot, it comes back within two minutes.`);
  await loadWifi();
});

$("forget").onclick = async () => {
  if (await ask("Forget this network? The board may leave it, and open its own access point.", "Forget")) {
    await working($("forget"), async () => {
      await api("wifi/forget", {});
      await loadWifi();
    });
  }
};

onSubmit($("mqtt-form"), async () => {
  const form = $("mqtt-form").elements;
  const settings = { host: form.host.value.trim(), port: Number(form.port.value), user: form.user.value, tls: form.tls.checked };
  if (form.password.value || !settings.user) settings.password = form.password.value;
  await api("mqtt", settings);
  form.password.value = "";
  toast("Saved.");
});

onSubmit($("password-form"), async () => {
  if ($("new").value !== $("again").value) throw new Error("The new passwords are not the same.");
  const answer = await api("password", { old: $("old").value, new: $("new").value });
  csrf = answer?.csrf || csrf;
  $("password-form").reset();
  toast("The password has been changed.");
});

onSubmit($("backup-form"), async () => {
  const found = await api($("secrets").checked ? "prefs?secrets=1" : "prefs");
  save(`${session.name}-settings.json`, JSON.stringify(found, null, 1));
});
$("restore").onclick = () => $("restore-file").click();
$("restore-file").onchange = () =>
  working($("restore"), async () => {
    const found = JSON.parse(await $("restore-file").files[0].text());
    $("restore-file").value = "";
    for (const [key, value] of Object.entries(found)) await api("prefs", { [key]: value });
    await restart("The settings are restored, and count after a restart. Restart now?");
  });

$("restart").onclick = () => restart("Restart the board now?");
async function restart(text) {
  if (!(await ask(text, "Restart"))) return;
  await working($("restart"), async () => {
    expected = RESTARTING; // before the answer: the board may be gone before that is read
    await api("restart", {}).catch((error) => {
      expected = "";
      throw error;
    });
  });
}

connect();
