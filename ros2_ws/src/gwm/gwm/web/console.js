"use strict";
// The page of the operator's console. STOP and HOLD leave with the press, not with the click, and wait for nothing.

const $ = (id) => document.getElementById(id);
const BEAT = 50, HERE = 500, PLOTTED = 600; // [ms], [ms], points
const AXES = { w: [0, 1], s: [0, -1], a: [1, 1], d: [1, -1], r: [2, 1], f: [2, -1],
               u: [3, 1], o: [3, -1], i: [4, 1], k: [4, -1], j: [5, 1], l: [5, -1] };
const BUTTONS = { c: 1, v: 2, b: 3 };
let socket, state = null, beating = 0, urls = {}, plots = { divergence: [], delay: [] }, held = new Set(), padStop = false;

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/socket`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = (event) => typeof event.data === "string" ? show(JSON.parse(event.data)) : picture(event.data);
  socket.onclose = () => { $("status").className = "lost"; $("link").textContent = "LOST: use the robot's own stop"; letGo(); setTimeout(connect, 1000); };
}

function send(what, more = {}) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ do: what, ...more }));
}

// ---- what is shown

function picture(data) {
  const bytes = new Uint8Array(data), end = bytes.indexOf(0), name = new TextDecoder().decode(bytes.subarray(0, end));
  const old = urls[name];
  urls[name] = URL.createObjectURL(new Blob([bytes.subarray(end + 1)], { type: "image/jpeg" }));
  for (const image of document.querySelectorAll("img")) if (image.dataset.name === name) image.src = urls[name];
  if (old) setTimeout(() => URL.revokeObjectURL(old), 200);
}

function figure(parent, name, caption) {
  const f = parent.appendChild(document.createElement("figure")), image = f.appendChild(document.createElement("img"));
  image.alt = caption;
  f.appendChild(document.createElement("figcaption")).textContent = caption;
  point(image, name);
  // what is imagined has as many pixels up as across, of the same field of view: shown as the camera sees it
  if (name.startsWith("live/")) image.onload = () => $("views").style.setProperty("--aspect", image.naturalWidth / image.naturalHeight);
  return f;
}

function point(image, name) {
  image.dataset.name = name;
  if (urls[name]) image.src = urls[name]; else image.removeAttribute("src");
}

function build(s) {
  for (const mode of s.modes) $("mode").add(new Option(mode.replaceAll("_", " "), mode));
  for (const view of [...s.cameras, "afar"]) $("view").add(new Option(view));
  $("horizon").max = s.steps;
  for (const camera of s.cameras) { figure($("pairs"), `live/${camera}`, `${camera}, now`); figure($("pairs"), "", `${camera}, imagined`).dataset.view = camera; }
  for (let k = 1; k <= s.steps; k++) figure($("strip"), "", `${(k / 10).toFixed(1)} s`).dataset.step = k;
  for (const camera of s.cameras) figure($("overlays"), `overlay/${camera}`, camera);
  for (const cause of s.causes) $("abort").add(new Option(`for the ${cause}'s sake`, cause));
  if (s.robot !== "sim") document.querySelector(".sim").remove();
  choose();
}

function choose() {
  const step = Number($("horizon").value);
  $("step").textContent = `${(step / 10).toFixed(1)} s`;
  for (const f of $("pairs").children) if (f.dataset.view) point(f.firstChild, `h${step}/${f.dataset.view}`);
  for (const f of $("strip").children) {
    point(f.firstChild, `h${f.dataset.step}/${$("view").value}`);
    f.classList.toggle("chosen", Number(f.dataset.step) === step);
  }
}

function show(s) {
  if (!state) build(s);
  state = s;
  const g = s.gate, there = Boolean(g.state);
  $("status").className = s.control === "yours" ? "" : "view";
  $("link").textContent = s.control === "yours" ? "connected" : s.control === "view" ? "looking on" : "another page has control";
  $("gate").textContent = there ? `${g.state}${g.armed === "True" ? ", armed" : ""}` : "no gate";
  $("cause").textContent = there ? g.cause : "";
  if (there && document.activeElement !== $("mode")) $("mode").value = g.mode;
  $("approve").disabled = !g.waiting;
  $("waiting").textContent = g.waiting ? `plan ${g.waiting}, ${g.waiting_s} s left` : "none";
  const dropped = Object.entries(s.recorder).filter(([name]) => name.startsWith("dropped ")).reduce((sum, [, count]) => sum + +count, 0);
  $("episode").textContent = (s.recorder.recording === "True" ? "recording" : s.recorder.cut || (s.recorder.saved ? `saved ${s.recorder.saved}` : "not recording")) +
    (dropped ? `, ${dropped} messages dropped` : "") + (s.recorder.free < 0.1 ? `, ${Math.round(100 * s.recorder.free)} % of the disk free` : "") +
    (s.result.seed === undefined ? "" : `; table of seed ${s.result.seed}, ${s.result.success ? "success" : "not done"}, ${Number(s.result.seconds).toFixed(1)} s`);
  showTrial(s);
  $("answers").replaceChildren(...[...s.answers, ...(g.answer ? [`refused: ${g.answer}`] : [])].map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  $("future").textContent = s.future.plan ? `success foreseen ${(100 * s.future.success).toFixed(0)} %, ${s.future.age_ms.toFixed(0)} ms old when shown` : "nothing imagined yet";
  const score = "score" in s.divergence ? s.divergence.score : null;
  $("score").textContent = Object.entries(s.divergence).map(([name, value]) => `${name} ${value.toPrecision(3)}`).join("  ");
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

// ---- what the operator wants

$("stop").onpointerdown = () => send("stop");
$("hold").onpointerdown = () => send("hold");
for (const button of document.querySelectorAll("[data-do]")) button.onclick = () => send(button.dataset.do);
$("mode").onchange = () => { send("mode", { mode: $("mode").value }); $("mode").blur(); };
$("approve").onclick = () => send("approve", { plan: state.gate.waiting, sha256: state.gate.waiting_sha256 });
$("success").onclick = () => save(true);
$("fail").onclick = () => save(false);
$("redo").onclick = redo;
$("lay").onclick = () => send("lay", { seed: Number($("seed").value) });
$("horizon").oninput = choose;
$("view").onchange = choose;
$("note").onkeydown = (event) => { if (event.key === "Enter") { send("mark", { note: $("note").value }); $("note").value = ""; } };

function save(success) {
  const boxes = [...$("rubric").querySelectorAll("input")], cause = $("abort").value;
  const score = Math.min(1, boxes.reduce((sum, box) => sum + box.checked * box.value, 0));
  send("save", { success, ...(boxes.length && !success ? { score } : {}), ...(cause ? { cause } : {}) });
  for (const box of boxes) box.checked = false;
  $("abort").value = "";
}
function redo() { send("redo"); }

function press(event) {
  $("run").setPointerCapture(event.pointerId);
  $("run").classList.add("pressed");
  send("beat");
  clearInterval(beating);
  beating = setInterval(() => send("beat"), BEAT);
}
function letGo() { clearInterval(beating); beating = 0; held.clear(); $("run").classList.remove("pressed"); }
$("run").onpointerdown = press;
$("run").onpointerup = $("run").onpointercancel = window.onblur = letGo;
document.onvisibilitychange = () => { if (document.hidden) letGo(); };

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return send("stop"); // from everywhere
  if (event.target.matches("input:not([type=range]):not([type=checkbox]), select")) return;
  const key = event.key.toLowerCase();
  if (event.key === " ") { event.preventDefault(); if (!event.repeat) send("hold"); }
  else if (event.repeat) return;
  else if (event.key === "ArrowRight" && event.target !== $("horizon")) save(true);
  else if (event.key === "ArrowLeft" && event.target !== $("horizon")) redo();
  else if (key in AXES || key in BUTTONS) held.add(key);
});
document.addEventListener("keyup", (event) => held.delete(event.key.toLowerCase()));

function drive() {
  const pad = [...navigator.getGamepads()].find((p) => p);
  const stop = Boolean(pad && pad.buttons[1] && pad.buttons[1].pressed && !$("drive").checked);
  if (stop && !padStop) send("stop");
  padStop = stop;
  if (!$("drive").checked) return;
  if (pad) return send("joy", standard(pad));
  const axes = [0, 0, 0, 0, 0, 0], buttons = [0, 0, 0, 0];
  for (const key of held) if (key in AXES) { axes[AXES[key][0]] += AXES[key][1]; buttons[0] = 1; } else buttons[BUTTONS[key]] = 1;
  send("joy", { axes, buttons });
}

// the browser's standard layout -> joy_node's of an Xbox pad: up and left positive, triggers and cross as axes
function standard(pad) {
  const [lx, ly, rx, ry] = pad.axes, b = pad.buttons.map((button) => Number(button.pressed));
  const cross = [(b[14] || 0) - (b[15] || 0), (b[12] || 0) - (b[13] || 0)];
  return { axes: [-lx, -ly, 1 - 2 * (b[6] || 0), -rx, -ry, 1 - 2 * (b[7] || 0), ...cross].map((a) => Math.max(-1, Math.min(1, a || 0))), buttons: b.slice(0, 6) };
}

setInterval(drive, BEAT);
setInterval(() => send("here"), HERE);
connect();
