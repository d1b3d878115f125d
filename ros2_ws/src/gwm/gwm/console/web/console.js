"use strict";
// The page of the operator's console: its display and its buttons. link.js transports both.

const $ = (id) => document.getElementById(id);
const TICK = 100, PLOTTED = 600; // [ms], [ms], points
const OLD = 1000, SILENT = 1000, LOOKED = 500, AGAIN = 300; // [ms]: live pictures, the gate, at a plan, from a press to its click
const STEP = 100_000_000n; // [ns] between imagined pictures
let state = null, steps = [], beating = 0, shown = {}, plots = { divergence: [], delay: [] };
let view = "", cause = "", looked = { plan: "", since: 0 }; // of this page alone

// ---- what is shown

function picture(data) {
  const bytes = new Uint8Array(data), end = bytes.indexOf(0);
  const [name, stamp] = new TextDecoder().decode(bytes.subarray(0, end)).split(" ");
  const old = shown[name];
  shown[name] = { stamp: BigInt(stamp), url: URL.createObjectURL(new Blob([bytes.subarray(end + 1)], { type: "image/jpeg" })) };
  for (const image of document.images) if (image.dataset.name === name) image.src = shown[name].url;
  if (old) setTimeout(() => URL.revokeObjectURL(old.url), 200);
}

function figure(parent, name, caption) {
  const f = parent.appendChild(document.createElement("figure")), image = f.appendChild(document.createElement("img"));
  image.alt = caption;
  const text = f.appendChild(document.createElement("figcaption"));
  text.textContent = `${caption} `;
  text.appendChild(document.createElement("span")).className = "age";
  point(image, name);
  // what is imagined has as many pixels up as across, of the same field of view: shown as the camera sees it
  if (name.startsWith("live/")) image.onload = () => $("views").style.setProperty("--aspect", image.naturalWidth / image.naturalHeight);
  return f;
}

function point(image, name) {
  image.dataset.name = name;
  if (shown[name]) image.src = shown[name].url; else image.removeAttribute("src");
}

// buttons of which one is chosen: a list that opens would keep Esc to itself
function choices(id, options, pick) {
  $(id).replaceChildren(...options.map(([value, text]) => {
    const button = Object.assign(document.createElement("button"), { value, textContent: text });
    button.onclick = () => pick(value);
    return button;
  }));
}
function chosen(id, value) { for (const button of $(id).children) button.setAttribute("aria-pressed", button.value === value); }

function build(s) {
  choices("mode", s.modes.map((mode) => [mode, mode.replaceAll("_", " ")]), (mode) => act("mode", { mode }));
  choices("view", [...s.cameras, "afar"].map((name) => [name, name]), (name) => { view = name; choose(); });
  choices("abort", [["", "no"], ...s.causes.map((name) => [name, `for the ${name}'s sake`])], (name) => { cause = name; chosen("abort", cause); });
  view = s.cameras[0];
  chosen("abort", cause);
  $("horizon").max = s.steps.length - 1;
  $("horizon").value = s.steps.length - 1;
  steps = s.steps;
  $("strip").style.setProperty("--columns", steps.length);
  for (const camera of s.cameras) { figure($("pairs"), `live/${camera}`, `${camera}, live,`); figure($("pairs"), "", `${camera}, imagined,`).dataset.view = camera; }
  for (const k of s.steps) figure($("strip"), "", `${(k / 10).toFixed(1)} s,`).dataset.step = k;
  for (const camera of s.cameras) figure($("overlays"), `overlay/${camera}`, `${camera},`);
  if (s.robot !== "sim") document.querySelector(".sim").remove();
  choose();
}

function choose() {
  const step = steps[Number($("horizon").value)];
  $("step").textContent = `${(step / 10).toFixed(1)} s`;
  chosen("view", view);
  for (const f of $("pairs").children) if (f.dataset.view) point(f.firstChild, `h${step}/${f.dataset.view}`);
  for (const f of $("strip").children) {
    point(f.firstChild, `h${f.dataset.step}/${view}`);
    f.classList.toggle("chosen", Number(f.dataset.step) === step);
  }
}

const text = (value, digits) => typeof value === "number" ? value.toFixed(digits) : "?";
const counts = (values, kind) => Object.entries(values).filter(([name]) => name.startsWith(`${kind} `)).map(([name, count]) => `${name.slice(kind.length + 1)} ${count}`).join(", ");

function show(s) {
  if (!state) build(s);
  state = s;
  const g = s.gate, there = Boolean(g.state);
  $("status").dataset.state = g.state || "";
  $("gate").textContent = there ? `${g.state}${g.armed === "True" ? ", armed" : ""}` : "no gate";
  $("cause").textContent = there ? g.cause : "";
  chosen("mode", g.mode);
  const dropped = Object.entries(s.recorder).filter(([name]) => name.startsWith("dropped ")).reduce((sum, [, count]) => sum + +count, 0);
  $("episode").textContent = (s.recorder.recording === "True" ? "recording" : s.recorder.cut || (s.recorder.saved ? `saved ${s.recorder.saved}` : "not recording")) +
    (dropped ? `, ${dropped} messages dropped` : "") + (s.recorder.free < 0.1 ? `, ${Math.round(100 * s.recorder.free)} % of the disk free` : "") +
    (s.result.seed === undefined ? "" : `; table of seed ${s.result.seed}, ${s.result.success ? "success" : "not done"}, ${Number(s.result.seconds).toFixed(1)} s`);
  showTrial(s);
  const refused = counts(g, "refused"), stops = counts(g, "stops");
  $("refused").textContent = [refused && `plans refused: ${refused}`, stops && `stops: ${stops}`, g.answer && `last request refused: ${g.answer}`].filter(Boolean).join("; ") || "nothing";
  $("trouble").textContent = [g.trouble, ...s.unread].filter(Boolean).join("; ");
  $("future").textContent = s.future.plan ? `success foreseen ${text(100 * s.future.success, 0)} %, ${text(s.future.age_ms, 0)} ms old when shown` : s.imagines ? "nothing imagined yet" : "nothing imagines";
  const score = "score" in s.divergence ? s.divergence.score : null;
  $("score").textContent = Object.entries(s.divergence).map(([name, value]) => `${name} ${value === null ? "?" : value.toPrecision(3)}`).join("  ");
  $("latency").textContent = there ? `${g.latency_ms} ms` : "";
  plot("divergence", score, 1, 2);
  plot("delay", there ? Number(g.latency_ms) : null, 160, 320);
}

let rubric = "";
function showTrial({ trial: t, rubric: shares }) {
  const there = "trial" in t;
  for (const part of document.querySelectorAll(".trial")) part.hidden = !there;
  $("overlays").parentNode.hidden = !("alike" in t);
  $("trial").textContent = there ? `Trial ${t.trial} of ${t.of}: policy ${t.policy}, ${t.task}, start ${t.start}` : "";
  $("trial-how").textContent = there ? `${t.instruction ? `${t.instruction}. ` : ""}${t.phase === "watch" ? `Say what came; ${t.seconds} s are allowed.` : "Home, lay the table, Start, Arm."}` : "";
  $("alike").textContent = "alike" in t ? `${Math.round(100 * t.alike)} % alike` : "";
  if (rubric === JSON.stringify(shares)) return;
  rubric = JSON.stringify(shares);
  $("rubric").replaceChildren(...Object.entries(shares).map(([text, share]) => {
    const label = document.createElement("label"), box = label.appendChild(document.createElement("input"));
    box.type = "checkbox";
    box.value = share;
    label.append(` ${text} (${share})`);
    return label;
  }));
}

function plot(name, value, line, top) {
  const points = plots[name], canvas = $(name), c = canvas.getContext("2d"), y = (v) => canvas.height * (1 - Math.min(v / top, 1));
  points.push(value);
  if (points.length > PLOTTED) points.shift();
  c.clearRect(0, 0, canvas.width, canvas.height);
  c.strokeStyle = "#7a2d2d";
  c.beginPath(); c.moveTo(0, y(line)); c.lineTo(canvas.width, y(line)); c.stroke();
  c.strokeStyle = "#49a0ff";
  c.beginPath();
  points.forEach((v, k) => { if (v !== null) c.lineTo(k * canvas.width / PLOTTED, y(v)); });
  c.stroke();
}

// ---- what time alone changes: ages, what is overdue, what may be pressed

// the id of the plan an imagined picture is of, "" for no picture
function planOf(image) {
  const [, step] = image.dataset.name.match(/^h(\d+)\//) || [], one = shown[image.dataset.name];
  return step && one ? String(one.stamp - BigInt(step) * STEP) : "";
}

// the one plan that all imagined pictures on the page are of, "" while they are of several or missing
function imagined() {
  const plans = new Set([...document.querySelectorAll("#strip img, #pairs [data-view] img")].map(planOf));
  return plans.size === 1 ? [...plans][0] : "";
}

function age() {
  const now = serverTime();
  for (const image of document.images) {
    const one = shown[image.dataset.name], label = image.parentNode.querySelector(".age");
    if (!label) continue;
    const plan = planOf(image), stamp = one && (plan ? BigInt(plan) : one.stamp); // an imagined one is as old as what it was made from
    const passed = one ? now - Number(stamp / 1000n) / 1000 : NaN;
    label.textContent = one ? `${(passed / 1000).toFixed(1)} s old` : "none yet";
    const current = plan && state && [state.gate.waiting, state.gate.plan].includes(plan);
    image.classList.toggle("old", !contact() || !one || (plan ? !current && passed > state.plan_ms : passed > OLD));
  }
}

// [ms] since the gate's word that is shown
const gateSilent = () => state && state.gate_ms !== null ? serverTime() - state.gate_ms : 0;

function alarms() {
  const own = "use the robot's own stop", found = [], now = performance.now();
  if (link.broken) found.push(`this page has failed (${link.broken}): reload it, and ${own}`);
  if (quiet() > QUIET) found.push(`no contact for ${seconds(quiet())}: ${own}`);
  else if (gateSilent() > SILENT) found.push(`nothing from the gate for ${seconds(gateSilent())}: ${own}`);
  for (const request of requests.filter((w) => URGENT.includes(w.what))) {
    const name = request.what.toUpperCase(), since = now - request.at;
    if (request.ok === null && since > UNCONFIRMED) found.push(`${name} not confirmed for ${seconds(since)}: ${own}; it is sent again until it is`);
    if (request.ok === false && since < 10000) found.push(`${name} ${request.text}: ${own}`);
  }
  return [link.lost, ...found].filter(Boolean);
}

// why a command would be refused now, or ""
function why(what) {
  if (!contact() || !state) return "no contact";
  if (state.control !== "yours") return state.control === "view" ? "this page only shows" : "another page has control";
  if (what === "approve" && !state.refuses.approve && !offer()) return "look at it first";
  return state.refuses[what] || "";
}

// the plan that waits, where its future has been on the page for long enough to be looked at
function offer() {
  const { waiting, waiting_sha256 } = state.gate;
  return waiting && looked.plan === waiting && performance.now() - looked.since > LOOKED ? { plan: waiting, sha256: waiting_sha256 } : null;
}

function allow(button, what) {
  const reason = why(what);
  button.disabled = Boolean(reason);
  button.title = reason;
}

let answers = "";
function refresh() {
  repeat();
  age();
  const plan = state ? (state.imagines ? imagined() : state.gate.waiting || "") : "";
  if (plan !== looked.plan) looked = { plan, since: performance.now() };
  const found = alarms(), last = requests.at(-1);
  $("alarm").hidden = !found.length;
  if (found.length || $("alarm").textContent) $("alarm").textContent = found.join(". ");
  $("status").classList.toggle("lost", quiet() > QUIET || gateSilent() > SILENT);
  $("link").textContent = quiet() > QUIET ? `LOST, this is ${seconds(quiet())} old` : !state ? "connecting" : state.control === "yours" ? "connected" : why("here");
  if (last && $("said").textContent !== describe(last)) $("said").textContent = describe(last);
  const lines = requests.slice(-8).reverse().map(describe);
  if (lines.join("\n") !== answers) $("answers").replaceChildren(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
  answers = lines.join("\n");
  for (const button of document.querySelectorAll("[data-do]")) allow(button, button.dataset.do);
  for (const button of $("mode").children) allow(button, "mode");
  for (const [id, what] of [["run", "beat"], ["approve", "approve"], ["success", "save"], ["fail", "save"], ["redo", "redo"], ["lay", "lay"]]) if ($(id)) allow($(id), what);
  const g = state ? state.gate : {};
  $("waiting").textContent = g.waiting ? `plan ${g.waiting}, ${g.waiting_s} s left${why("approve") ? `: ${why("approve")}` : state.imagines ? ": its future is shown" : ": nothing imagines its future"}` : "none";
  if (quiet() > QUIET || why("beat")) release();
  if (quiet() > QUIET) held.clear();
}

// ---- what the operator wants

// A request that would be refused is reported, not sent.
function act(what, more = {}, done = null) {
  const reason = why(what);
  const request = reason ? addRequest(what, more) : send(what, more);
  request.done = done;
  if (reason) settle(request, false, reason === "no contact" ? "not sent: no contact" : `refused: ${reason}`);
}

// by pointer with the press, and by everything else that clicks: keys, switches, screen readers
for (const what of URGENT) {
  let pressed = -Infinity;
  $(what).onpointerdown = () => { pressed = performance.now(); send(what); };
  $(what).onclick = () => { if (performance.now() - pressed > AGAIN) send(what); }; // a press and its click are one
}
for (const button of document.querySelectorAll("[data-do]")) button.onclick = () => act(button.dataset.do, {}, button.dataset.do === "discard" ? forget : null);
$("approve").onclick = () => act("approve", offer() || {});
$("success").onclick = () => save(true);
$("fail").onclick = () => save(false);
$("redo").onclick = redo;
$("lay").onclick = () => act("lay", { seed: Number($("seed").value) });
$("horizon").oninput = choose;
$("note").onkeydown = (event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  $("note").blur(); // keys are commands again; the note stays until the episode is saved
  if ($("note").value) act("mark", { note: $("note").value });
};

function save(success) {
  const boxes = [...$("rubric").querySelectorAll("input")], note = $("note").value;
  const score = Math.min(1, boxes.reduce((sum, box) => sum + box.checked * box.value, 0));
  act("save", { success, ...(boxes.length && !success ? { score } : {}), ...(cause ? { cause } : {}), ...(note ? { note } : {}) }, forget);
}
function redo() { act("redo", {}, forget); }

// what was said of an episode that is over
function forget() {
  for (const box of $("rubric").querySelectorAll("input")) box.checked = false;
  $("note").value = cause = "";
  chosen("abort", cause);
}

function press(event) {
  if (why("beat")) return;
  $("run").setPointerCapture(event.pointerId);
  $("run").classList.add("pressed");
  send("beat");
  clearInterval(beating);
  beating = setInterval(() => send("beat"), BEAT);
}
function release() { clearInterval(beating); beating = 0; $("run").classList.remove("pressed"); }
function letGo() { release(); held.clear(); }
$("run").onpointerdown = press;
$("run").onpointerup = $("run").onpointercancel = window.onblur = letGo;
document.onvisibilitychange = () => { if (document.hidden) letGo(); };

const written = (target) => target.matches("input:not([type=range]):not([type=checkbox])");
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return send("stop"); // from everywhere
  if (written(event.target)) return;
  const key = event.key.toLowerCase(), focused = event.target.id;
  if (key === " " || (key === "enter" && URGENT.includes(focused))) {
    event.preventDefault();
    if (!event.repeat) send(focused === "stop" ? "stop" : "hold"); // of the button that has the focus; else space holds
  } else if (event.repeat) return;
  else if (event.key === "ArrowRight" && focused !== "horizon") save(true);
  else if (event.key === "ArrowLeft" && focused !== "horizon") redo();
  else if (key in AXES || key in BUTTONS) held.add(key);
}, true);
document.addEventListener("keyup", (event) => {
  held.delete(event.key.toLowerCase());
  if (event.key === " " && !written(event.target)) event.preventDefault(); // some browsers click with it
}, true);

window.onerror = (message) => { link.broken = String(message); };
setInterval(drive, BEAT);
setInterval(refresh, TICK);
connect(show, picture);
