"use strict";
// Plays recorded episodes. Everything it shows is in this file.

const $ = (id) => document.getElementById(id);
const EPISODES = JSON.parse($("data").textContent);
const STEP = 0.1; // [s] between steps of a lookahead
const RATES = [0.25, 0.5, 1, 2, 4];
let episode, number, played = null; // played: {from [ms], time [s]} while it plays

// the last row [time, value] at or before a time
const before = (rows, time) => rows.findLast(([at]) => at <= time + 1e-6);

function figure(parent, caption, data) {
  const f = parent.appendChild(document.createElement("figure"));
  const image = f.appendChild(document.createElement("img"));
  image.alt = caption;
  Object.assign(image.dataset, data);
  f.appendChild(document.createElement("figcaption")).textContent = caption;
  return image;
}

function put(image, data, more = "") {
  image.nextSibling.textContent = image.alt + (data ? more : ": none");
  if (image.shown === data) return;
  image.shown = data;
  if (data) image.src = `data:image/webp;base64,${data}`;
  else image.removeAttribute("src");
}

function open(n) {
  number = n;
  episode = EPISODES[n];
  for (const [k, button] of [...$("episodes").children].entries()) {
    button.setAttribute("aria-pressed", k === n);
  }
  $("time").max = episode.duration;
  $("horizon").max = $("horizon").value = Math.max(0, episode.lookaheads.length - 1);
  $("pairs").replaceChildren();
  $("strip").replaceChildren();
  $("strip").style.setProperty("--columns", Math.max(1, episode.lookaheads.length));
  $("view").replaceChildren(...episode.cameras.map((camera) => new Option(camera)));
  for (const camera of episode.cameras) {
    for (const what of ["seen", "imagined"]) figure($("pairs"), `${camera}, ${what}`, { camera, what });
  }
  const seen = $("pairs").querySelector("img");
  seen.onload = () => $("views").style.setProperty("--aspect", seen.naturalWidth / seen.naturalHeight);
  for (const what of ["imagined", "seen"]) {
    for (const k of episode.lookaheads) figure($("strip"), `${what} ${(k * STEP).toFixed(1)} s`, { what, k });
  }
  describe();
  seek(0);
}

function describe() {
  const { info } = episode;
  $("outcome").textContent = `${episode.name}: ${outcome(info)}`;
  const decisions = episode.decisions.map(([time, { time: _, do: what, ...more }]) => {
    const rest = Object.entries(more).map(([key, value]) => `${key} ${value}`).join(", ");
    return element("li", `${time.toFixed(2)} s  ${what}${rest ? `: ${rest}` : ""}`);
  });
  $("decisions").replaceChildren(...decisions);
  if (!decisions.length) $("decisions").textContent = "none through the console";
  table("doctor", (info.doctor || []).map(({ level, what, found, remedy }) => [
    ["ok", "! limited", "! broken"][level], what, found, remedy || "",
  ]));
  const { doctor: _, ...rest } = info;
  table("info", Object.entries(rest).map(([key, value]) => [
    key, value !== null && typeof value === "object" ? JSON.stringify(value) : String(value),
  ]));
}

function outcome({ task, seed, success, seconds }) {
  const start = seed === undefined || seed === null ? "" : `, seed ${seed}`;
  const said = success === undefined || success === null ? "no verdict" : success ? "success" : "failure";
  return `${task}${start}, ${said}${seconds === undefined ? "" : ` after ${seconds.toFixed(1)} s`}`;
}

function element(kind, text) {
  return Object.assign(document.createElement(kind), { textContent: text });
}

function table(id, rows) {
  $(id).replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    row.className = cells[0].startsWith("!") ? "bad" : "";
    row.append(...cells.map((text) => element("td", text)));
    return row;
  }));
}

function seek(time) {
  $("time").value = Math.min(Math.max(time, 0), episode.duration);
  if (played) played = { from: performance.now(), time: Number($("time").value) };
  show();
}

function show() {
  const time = Number($("time").value);
  const chosen = Number($("horizon").value);
  const earlier = (episode.lookaheads[chosen] || 0) * STEP;
  $("clock").textContent = `${time.toFixed(2)} s`;
  $("step").textContent = `${earlier.toFixed(1)} s`;
  const gate = before(episode.status, time);
  $("gate").textContent = gate ? `${gate[1].state}: ${gate[1].cause}` : "";
  const past = before(episode.imagined, time - earlier);
  const plan = before(episode.imagined, time);
  for (const image of $("pairs").querySelectorAll("img")) {
    const { camera, what } = image.dataset;
    const seen = before(episode.observed[camera], time)?.[1];
    // a plan is made every few tenths of a second: its images are of one moment
    const due = past ? ` for ${(past[0] + earlier).toFixed(2)} s` : "";
    if (what === "seen") put(image, seen);
    else put(image, past?.[1][camera][chosen], due);
  }
  const view = $("view").value;
  for (const image of $("strip").querySelectorAll("img")) {
    const { what, k } = image.dataset;
    const imagined = plan?.[1][view][episode.lookaheads.indexOf(Number(k))];
    const due = plan && plan[0] + k * STEP;
    const seen = plan && due <= episode.duration && before(episode.observed[view], due)?.[1];
    put(image, what === "imagined" ? imagined : seen || undefined);
  }
  drawLanes($("lanes"), episode, time);
}

function toggle() {
  const ended = Number($("time").value) >= episode.duration - 0.05;
  const time = ended ? 0 : Number($("time").value);
  played = played ? null : { from: performance.now(), time };
  $("play").setAttribute("aria-pressed", Boolean(played));
  $("play").textContent = played ? "Pause [space]" : "Play [space]";
  if (played) requestAnimationFrame(advance);
}

function advance(now) {
  if (!played) return;
  const time = played.time + (now - played.from) / 1000 * Number($("rate").value);
  $("time").value = Math.min(time, episode.duration);
  show();
  if (time >= episode.duration) toggle();
  else requestAnimationFrame(advance);
}

function changeRate(step) {
  const next = RATES.indexOf(Number($("rate").value)) + step;
  if (played) played = { from: performance.now(), time: Number($("time").value) };
  $("rate").value = RATES[Math.min(Math.max(next, 0), RATES.length - 1)];
}

const KEYS = {
  " ": toggle,
  ArrowRight: (e) => seek(Number($("time").value) + (e.shiftKey ? 1 : STEP)),
  ArrowLeft: (e) => seek(Number($("time").value) - (e.shiftKey ? 1 : STEP)),
  ArrowDown: () => open(Math.min(number + 1, EPISODES.length - 1)),
  ArrowUp: () => open(Math.max(number - 1, 0)),
  "+": () => changeRate(1),
  "-": () => changeRate(-1),
};
document.addEventListener("keydown", (event) => {
  if (event.target.matches("select") || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key](event);
});

$("rate").replaceChildren(...RATES.map((rate) => new Option(`${rate}×`, rate)));
$("rate").value = 1;
EPISODES.forEach(({ name, info }, n) => {
  const mark = info.success === true ? "✓" : info.success === false ? "✗" : "?";
  const button = element("button", `${mark} ${name.split("/").pop()}, ${outcome(info)}`);
  button.onclick = () => open(n);
  $("episodes").append(button);
});
$("play").onclick = toggle;
$("rate").onchange = () => changeRate(0);
$("time").oninput = () => seek(Number($("time").value));
$("horizon").oninput = $("view").onchange = show;
$("lanes").onclick = (event) => {
  const share = (event.offsetX - LABEL) / ($("lanes").clientWidth - LABEL);
  seek(share * episode.duration);
};
window.onresize = show;
open(0);
