// The dashboard. What a board, a release or a person wrote becomes text in it, never HTML.

const $ = (id) => document.getElementById(id);
const STATES = { // a board's: its chip's colour and word
  trouble: ["bad", "Trouble"],
  updating: ["info", "Updating"],
  waiting: ["warn", "Waiting"],
  behind: ["warn", "Behind"],
  missing: ["bad", "Missing"],
  offline: ["", "Offline"],
  ok: ["good", "Fine"],
};
const TILES = { all: "Boards", online: "Online", updating: "Updating", waiting: "Waiting", trouble: "Trouble", behind: "Behind", offline: "Offline", missing: "Missing" };
const ORDERS = { update: "Update", force: "Update by force", rollback: "Rollback", check: "Check", group: "Group" };
const LOG_MS = 240000; // a board tells its log for five minutes
const PHASES = { queued: "will be asked", asked: "asked", started: "runs", done: "done", failed: "failed" };
const ROLLOUTS = { running: ["info", "Running"], paused: ["warn", "Paused"], halted: ["bad", "Halted"], aborted: ["bad", "Aborted"], reverted: ["warn", "Reverted"], done: ["good", "Done"] };
const ASK = { // what is asked before it is done
  update: (many) => `Update ${many} now?`,
  force: (many) => `Update ${many} by force: also to a version that failed there, or that they went back from?`,
  rollback: (many) => `Have ${many} go back to the version kept there? ${many.startsWith("1 ") ? "It restarts" : "They restart"}.`,
  group: (many) => `Put ${many} into a group, which a rollout can be for. Nothing takes ${many.startsWith("1 ") ? "it" : "them"} out of one.`,
};
const TYPING_MS = 250;
const AGAIN_MS = 2000;

// -- small helpers

function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (key.includes("-")) node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function chip(node, [kind, word]) {
  node.className = `chip ${kind}`;
  setText(node, word);
  return node;
}

function bytes(n) {
  if (typeof n !== "number") return "–";
  const [size, unit] = n < 1e6 ? [n / 1024, "KB"] : [n / 1048576, "MB"];
  return `${size.toFixed(size < 10 ? 1 : 0)} ${unit}`;
}

function ago(seconds) {
  if (!seconds) return "–";
  const s = Math.max(0, Math.round(Date.now() / 1000 - seconds));
  if (s < 10) return "just now";
  if (s < 120) return `${s} s ago`;
  if (s < 7200) return `${Math.round(s / 60)} min ago`;
  return s < 172800 ? `${Math.round(s / 3600)} h ago` : `${Math.round(s / 86400)} days ago`;
}

const count = (n, one = "board") => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;
const boardLink = (name) => h("a", { href: `#/board/${encodeURIComponent(name)}`, textContent: name });

let toastTimer;
function toast(text) {
  clearTimeout(toastTimer);
  $("toast").textContent = text;
  toastTimer = setTimeout(() => ($("toast").textContent = ""), 5000);
}

/** Ask before something that others will feel; resolves to true or false. Where `label` names a value, to that, or to null. */
function ask(text, yes, label = "", value = "") {
  const dialog = $("ask");
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  $("ask-label").hidden = !label;
  $("ask-label").firstChild.textContent = label;
  $("ask-value").value = value;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => (dialog.onclose = () => {
    const agreed = dialog.returnValue === "yes";
    done(label ? (agreed ? $("ask-value").value.trim() : null) : agreed);
  }));
}
$("ask-value").onkeydown = (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault(); // else it presses the button that has the focus then
  $("ask").close("yes");
};
$("ask-yes").onclick = () => $("ask").close("yes");
$("ask-no").onclick = () => $("ask").close("");

// -- the server

let csrf = null;

async function api(path, body, type = "application/json") {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": type, "X-CSRF": csrf || "" },
    body: type === "application/json" ? JSON.stringify(body) : body,
  };
  const response = await fetch(`api/${path}`, { cache: "no-store", ...options }).catch(() => {
    throw new Error("The dashboard does not answer.");
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 401) enter();
  const text = answer.message || `the dashboard answered ${response.status}`;
  throw new Error(`${text[0].toUpperCase()}${text.slice(1)}.`);
}

/** Run `work` with a button switched off; what fails is told. */
async function working(button, work, failed = (error) => toast(error.message)) {
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    failed(error);
  } finally {
    button.disabled = false;
  }
}

function show(section) {
  for (const id of ["wait", "login", "fleet", "board"]) $(id).hidden = id !== section;
  $("tools").hidden = section === "login" || section === "wait";
}

async function enter() {
  stream?.close();
  try {
    csrf = (await api("session")).csrf;
  } catch {
    setTimeout(enter, AGAIN_MS);
    return;
  }
  if (csrf) {
    route();
    return;
  }
  setLink("", "");
  show("login");
  $("password").focus();
}

$("login").querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  $("login-error").textContent = "";
  working(event.submitter || $("login"), async () => {
    csrf = (await api("login", { password: $("password").value })).csrf;
    $("password").value = "";
    route();
  }, (error) => ($("login-error").textContent = error.message));
};
$("logout").onclick = () => working($("logout"), async () => {
  await api("logout", {});
  enter();
});

// -- live: one stream, of a page of boards or of one board

let stream;

function setLink(kind, text) {
  $("link").className = kind;
  setText($("link"), text);
}

function follow(path, take) {
  stream?.close();
  const mine = new EventSource(`api/events?${path}`);
  stream = mine;
  mine.onmessage = (event) => {
    const value = JSON.parse(event.data);
    setLink(value.connected === false ? "lost" : "live", value.connected === false ? "Broker lost" : value.broker || "Live");
    take(value);
  };
  mine.onerror = () => {
    setLink("lost", "Connecting");
    if (mine.readyState === EventSource.CLOSED && mine === stream) setTimeout(() => mine === stream && enter(), AGAIN_MS);
  };
}

function route() {
  const [, kind, name] = location.hash.split("/");
  if (!csrf) return;
  clearInterval(listening);
  listening = 0;
  $("log").dataset.of = "";
  if (kind === "board" && name) {
    follow(new URLSearchParams({ board: decodeURIComponent(name) }), showBoard);
  } else {
    followFleet();
  }
  scrollTo(0, 0);
}
addEventListener("hashchange", route);

// -- the fleet

const query = { text: "", show: "all", version: "", group: "", order: "name", page: 0 };
const selected = new Set();
let fleet = { rows: [] };

const followFleet = () => follow(new URLSearchParams(query), showFleet);

function look(changes) {
  Object.assign(query, { page: 0 }, changes);
  followFleet();
}

function showFleet(value) {
  fleet = value;
  query.page = value.page;
  document.title = value.counts.trouble ? `(${value.counts.trouble}) Fleet` : "Fleet";
  show("fleet");
  showTiles();
  showSpread();
  showGroups();
  showRollout(value.rollout);
  showRows();
}

function showTiles() {
  const known = Object.entries(TILES).filter(([key]) => key !== "missing" || fleet.counts.missing || query.show === "missing");
  const nodes = known.map(([key, word]) => {
    const number = fleet.counts[key] || 0;
    const pressed = key === query.show;
    const kind = number && ["trouble", "updating", "missing"].includes(key) ? key : "";
    const tile = h("button", { className: `tile ${kind}`, "aria-pressed": pressed, "data-show": key }, h("strong", {}, number.toLocaleString("en")), word);
    tile.onclick = () => look({ show: pressed ? "all" : key });
    return tile;
  });
  keep($("tiles"), nodes);
}

function showGroups() {
  $("group").hidden = !fleet.groups.length;
  keep($("group"), ["", ...fleet.groups].map((name) => h("option", { value: name }, name || "All groups")));
  $("group").value = query.group;
  keep($("plan-group"), ["", ...fleet.groups].map((name) => h("option", { value: name }, name || "All boards")));
  $("of").hidden = !fleet.groups.length;
  keep($("groups"), fleet.groups.map((name) => h("option", { value: name })));
}

/** Put nodes where others were, unless they look the same: who clicks or reads is not disturbed. */
function keep(parent, nodes) {
  const looks = nodes.map((node) => node.outerHTML).join("");
  if (parent.looks === looks) return;
  parent.looks = looks;
  const at = [...parent.children].indexOf(document.activeElement);
  parent.replaceChildren(...nodes);
  parent.children[at]?.focus();
}

function showSpread() {
  const total = fleet.versions.reduce((sum, [, number]) => sum + number, 0) || 1;
  const parts = [];
  const names = [];
  fleet.versions.forEach(([version, number], rank) => {
    const word = version || "others";
    const shade = version ? `v${rank}` : "v-rest";
    const part = h("button", { className: shade, title: `${word}: ${count(number)}`, "aria-label": `${word}: ${count(number)}`, "aria-pressed": version !== "" && version === query.version, disabled: !version });
    part.style.flexGrow = number / total;
    part.onclick = () => look({ version: version === query.version ? "" : version });
    parts.push(part);
    names.push(h("li", {}, h("i", { className: shade }), h("b", {}, word), ` ${number.toLocaleString("en")}`));
  });
  keep($("spread"), parts);
  keep($("legend"), names);
}

function showRows() {
  const body = $("rows");
  const old = new Map([...body.children].map((node) => [node.dataset.name, node]));
  body.replaceChildren(...fleet.rows.map((row) => {
    const looks = JSON.stringify(row);
    const known = old.get(row.name);
    if (known?.looks === looks) return known;
    const made = rowNode(row);
    made.looks = looks;
    return made;
  }));
  showTimes();
  for (const box of body.querySelectorAll("input")) box.checked = selected.has(box.value);
  $("none").hidden = fleet.rows.length > 0;
  const first = fleet.page * 50;
  setText($("found"), fleet.found ? `${first + 1} to ${first + fleet.rows.length} of ${count(fleet.found)}` : count(0));
  $("before").disabled = fleet.page === 0;
  $("after").disabled = fleet.page + 1 >= fleet.pages;
  $("ask-all").disabled = !fleet.found;
  setText($("ask-all"), fleet.found === fleet.total ? "Update all" : "Update all of these");
  showSelected();
}

function rowNode(row) {
  const box = h("input", { type: "checkbox", value: row.name, "aria-label": `Select ${row.name}` });
  box.onchange = () => {
    selected[box.checked ? "add" : "delete"](row.name);
    showSelected();
  };
  const state = h("td", { className: "state" }, chip(h("span"), STATES[row.state]));
  if (row.progress !== null) state.append(meter(row.progress));
  if (row.state !== "ok" && row.note) state.append(h("span", { className: "note" }, row.note));
  if (row.state === "trouble" && row.advice) state.append(h("span", { className: "note advice" }, row.advice));
  if (row.order) state.append(h("span", { className: `note ${row.order.state === "failed" ? "error" : ""}` }, orderText(row.order)));
  return h("tr", { "data-name": row.name, className: row.online ? "" : "away" },
    h("td", {}, box),
    h("td", { className: "name" }, boardLink(row.name), row.label || row.group ? h("span", { className: "note" }, placeText(row)) : ""),
    h("td", {}, row.version, row.next && row.next !== row.version ? h("span", { className: "next" }, ` → ${row.next}`) : ""),
    state,
    h("td", { className: "extra" }, row.signal ? `${row.signal} dBm` : "–"),
    h("td", { className: "extra" }, bytes(row.freeram)),
    h("td", { className: "seen" }, h("time", { "data-at": row.seen })));
}

function meter(percent) {
  const node = h("div", { className: "stack", role: "progressbar", "aria-label": "Progress", "aria-valuenow": percent }, h("i", { className: "info" }));
  node.firstChild.style.width = `${percent}%`;
  return node;
}

const placeText = (row) => [row.label, row.group, ...row.tags].filter(Boolean).join(" · ");
const orderText = (order) => `${ORDERS[order.what] || order.what}: ${order.text || PHASES[order.state]}`;

function showTimes() {
  for (const node of document.querySelectorAll("time[data-at]")) setText(node, ago(Number(node.dataset.at)));
}
setInterval(showTimes, 5000);

function showSelected() {
  $("selected").hidden = selected.size === 0;
  setText($("selected-count"), `${selected.size} selected`);
  $("select-page").checked = fleet.rows.length > 0 && fleet.rows.every((row) => selected.has(row.name));
}

let typing;
$("search").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(() => look({ text: $("search").value }), TYPING_MS);
};
$("group").onchange = () => look({ group: $("group").value });
$("order").onchange = () => look({ order: $("order").value });
$("before").onclick = () => look({ page: query.page - 1 });
$("after").onclick = () => look({ page: query.page + 1 });
$("select-page").onchange = () => {
  for (const row of fleet.rows) selected[$("select-page").checked ? "add" : "delete"](row.name);
  showRows();
};
$("unselect").onclick = () => {
  selected.clear();
  showRows();
};

async function order(button, what, many, body, group = "") {
  const grouped = what === "group";
  const answer = what in ASK ? await ask(ASK[what](many), grouped ? "Save" : ORDERS[what], grouped ? "Group" : "", group) : true;
  if (answer === false || answer === null) return;
  await working(button, async () => {
    const { asked } = await api("order", { what, ...body, text: grouped ? answer : "" });
    toast(asked ? `${ORDERS[what]}: ${count(asked)} asked.` : "None of them is online.");
    selected.clear();
    showSelected();
  });
}
for (const button of $("selected").querySelectorAll("[data-what]")) {
  button.onclick = () => order(button, button.dataset.what, count(selected.size), { names: [...selected] });
}
$("ask-all").onclick = () => order($("ask-all"), "update", `${count(fleet.found)}, those of them that are online,`, { query });

// -- the rollout

function showRollout(rollout) {
  $("rollout").hidden = !rollout;
  if (!rollout) return;
  setText($("rollout-h"), rollout.version ? `Rollout of ${rollout.name} ${rollout.version}, ${rollout.channel}${rollout.group ? `, group ${rollout.group}` : ""}` : "Rollout");
  chip($("rollout-state"), ROLLOUTS[rollout.state] || ["bad", "Damaged"]);
  setText($("rollout-why"), rollout.problem || rollout.why || "");
  $("rollout-why").className = rollout.problem || rollout.state === "halted" ? "error" : "soft";
  const open = rollout.over === false;
  $("pause").hidden = !(open && rollout.state === "running" && rollout.driven);
  const unsaid = rollout.over && rollout.began === null; // the channel file does not say it yet
  $("resume").hidden = !(unsaid || open) || (rollout.state === "running" && rollout.driven);
  $("abort").hidden = !(open || unsaid);
  $("revert").hidden = !rollout.revertible;
  $("revert").dataset.version = rollout.next || "";
  if (!rollout.steps) return;
  keep($("stages"), rollout.steps.map((percent, index) => {
    const at = rollout.state === "done" || index < rollout.step ? "done" : index === rollout.step ? "now" : "";
    return h("li", { className: at, ...(at === "now" ? { "aria-current": "step" } : {}) }, `${percent} %`);
  }));
  const { counts, reached } = rollout;
  const parts = [["good", counts.confirmed], ["info", counts.working], ["bad", counts.failed + counts.vanished]].filter(([, n]) => n);
  keep($("rollout-bar"), parts.map(([kind]) => h("i", { className: kind })));
  parts.forEach(([, n], index) => ($("rollout-bar").children[index].style.width = `${(100 * n) / Math.max(reached, counts.confirmed, 1)}%`));
  setText($("rollout-text"), rolloutText(rollout));
  keep($("rollout-bad"), rollout.bad.map(([name, result, why]) => h("li", {}, boardLink(name), ` ${result}${why ? `: ${why}` : ""}`)));
}

function rolloutText(rollout) {
  const words = [`${rollout.counts.confirmed} of ${count(rollout.reached)} confirmed`];
  for (const word of ["working", "failed", "vanished"]) if (rollout.counts[word]) words.push(`${rollout.counts[word]} ${word}`);
  const until = rollout.began && new Date((rollout.began + rollout.soak) * 1000);
  if (["halted", "aborted"].includes(rollout.state) && rollout.counts.confirmed) words.push("those run it until it is reverted");
  if (rollout.state === "running" && until && until <= Date.now() && rollout.wanted > rollout.counts.confirmed) words.push(`waits for ${rollout.wanted - rollout.counts.confirmed} more to confirm`);
  if (rollout.state === "running" && until > Date.now()) words.push(`watched until ${until.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`);
  if (rollout.state === "running" && !rollout.driven && !rollout.problem) words.push("not driven from here: Go on takes it up, if no other terminal has it");
  return words.join(" · ");
}

const rolloutDoes = (id, what) => ($(id).onclick = () => working($(id), () => api("rollout", { what })));
rolloutDoes("pause", "pause");
rolloutDoes("resume", "resume");
$("abort").onclick = async () => {
  const text = "End the rollout? No further board is led to this release; those that have it keep it.";
  if (await ask(text, "Abort")) await working($("abort"), () => api("rollout", { what: "abort" }));
};

$("revert").onclick = async () => {
  const text = "Publish the files that the channel led to before, as a newer version, for all boards?";
  const version = await ask(text, "Revert", "Version", $("revert").dataset.version);
  if (version) await working($("revert"), () => api("rollout", { what: "revert", version }));
};

// -- one board

let shown = "";
let listening; // asks again before the board stops

function showBoard(value) {
  if (value.gone) {
    toast(value.gone);
    location.hash = "#/";
    return;
  }
  show("board");
  document.title = value.name;
  setText($("board-h"), value.name);
  if (shown !== value.name) $("board-h").focus();
  shown = value.name;
  chip($("board-state"), STATES[value.state]);
  setText($("board-place"), placeText(value));
  setText($("board-version"), value.version || "–");
  setText($("board-next"), value.next && value.next !== value.version ? `→ ${value.next}` : "");
  setText($("board-note"), ["ok", "trouble"].includes(value.state) ? "" : value.note);
  $("board-meter").hidden = value.progress === null;
  $("board-meter").setAttribute("aria-valuenow", value.progress || 0);
  $("board-meter").firstChild.style.width = `${value.progress || 0}%`;
  setText($("board-order"), value.order ? orderText(value.order) : "");
  $("board-order").className = value.order?.state === "failed" ? "error" : "soft";
  const mayNot = (what) => value.allowed && ["rollback", "group", "log"].includes(what) && !value.allowed.includes(what);
  const why = (what) => (mayNot(what) ? `mqtt.commands of this board's profile does not name ${what}` : "");
  for (const button of $("board").querySelectorAll("[data-what]")) {
    const { what } = button.dataset;
    button.disabled = !value.online || (value.state === "updating" && what !== "group") || mayNot(what);
    button.title = why(what);
    button.onclick = () => order(button, what, "1 board", { names: [value.name] }, value.group);
  }
  $("listen").disabled = !value.online || mayNot("log");
  showLog(value, why("log"));
  keep($("board-troubles"), value.troubles.map((trouble) => h("div", { className: "notice bad" }, h("strong", {}, trouble.reason), ` ${trouble.text}`, trouble.advice ? h("p", {}, trouble.advice) : "")));
  keep($("values"), Object.entries(value.values).map(([key, text]) => h("div", {}, h("dt", {}, key), h("dd", {}, text))));
  keep($("history"), [...value.history].reverse().map(([at, key, text]) => h("li", {}, h("time", {}, new Date(at * 1000).toLocaleTimeString()), h("b", {}, key), h("span", {}, text || "–"))));
}

function showLog({ name, log, online }, why) {
  const fresh = listening || $("log").dataset.of !== name; // what is not listened to any more stands still
  const lines = fresh ? (log?.lines || []).join("\n") : $("log").textContent;
  $("log").dataset.of = name;
  const end = $("log").scrollTop + $("log").clientHeight > $("log").scrollHeight - 30;
  $("log").hidden = !lines;
  setText($("log"), lines);
  if (end) $("log").scrollTop = $("log").scrollHeight;
  setText($("listen"), listening ? "Stop" : "Listen");
  setText($("log-note"), log?.problem || why || (lines || !online ? "" : listening ? "Asking the board" : "The board tells its log while somebody listens."));
  $("log-note").className = log?.problem ? "error" : "soft";
  $("listen").onclick = () => {
    clearInterval(listening);
    listening = listening ? 0 : setInterval(() => api("log", { name }).catch(() => {}), LOG_MS);
    setText($("listen"), listening ? "Stop" : "Listen");
    if (listening) working($("listen"), () => api("log", { name }));
  };
}

// -- publishing

let bundle = null;

function openPublish() {
  bundle = null;
  $("publish-form").reset();
  setText($("file-name"), "Choose or drop a .tar.gz bundle");
  setText($("bundle"), "");
  publishError("");
  $("how").hidden = true;
  $("publish-yes").disabled = true;
  if (!$("publish").open) $("publish").showModal();
}

function publishError(text) {
  $("publish-form").querySelector(".error").textContent = text;
}

async function send(file) {
  openPublish();
  setText($("file-name"), `${file.name} · ${bytes(file.size)}`);
  setText($("bundle"), "Checking");
  try {
    bundle = await api("bundle", file, "application/octet-stream");
  } catch (error) {
    setText($("bundle"), "");
    publishError(error.message);
    return;
  }
  const words = [`${bundle.name} ${bundle.version}`, `${bundle.files} files`, bundle.signature === "good" ? "signed" : bundle.signature];
  $("bundle").replaceChildren(h("strong", {}, words.join(" · ")), h("br"), `${count(bundle.boards)} of that kind; ${bundle.newer} do not run it.`, bundle.notes ? h("br") : "", bundle.notes);
  $("how").hidden = false;
  $("publish-yes").disabled = false;
}

$("open-publish").onclick = openPublish;
$("publish-no").onclick = () => $("publish").close();
$("file").onchange = () => $("file").files[0] && send($("file").files[0]);
for (const radio of document.getElementsByName("how")) radio.onchange = () => ($("plan").hidden = radio.value !== "rollout");
$("publish-form").onreset = () => ($("plan").hidden = false);
$("publish-form").onsubmit = (event) => {
  event.preventDefault();
  publishError("");
  const how = new FormData($("publish-form")).get("how");
  const plan = { how, channel: $("channel").value.trim(), steps: $("plan-steps").value, soak: $("soak").value.trim(), max_failures: Number($("failures").value), group: $("plan-group").value };
  working($("publish-yes"), async () => {
    await api("publish", { id: bundle.id, ...plan });
    $("publish").close();
    toast(how === "rollout" ? `The rollout of ${bundle.version} has begun.` : `${bundle.version} is published.`);
  }, (error) => publishError(error.message));
};
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.toggle("dropping", Boolean(csrf));
});
addEventListener("dragleave", (event) => event.relatedTarget === null && document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (csrf && event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
});

enter();
