"use strict";
// A recorded run with a slider for time. Everything it shows is in this file.

const $ = (id) => document.getElementById(id);
const EPISODES = JSON.parse($("data").textContent), STEP = 0.1;
const COLORS = { DISARMED: "#555", HOLD: "#b97a00", RUNNING: "#1c8a46", SHADOW: "#1f5fb0", STOPPING: "#d0601f", FAULT: "#d01f1f" };
let episode;

// the last row [time, value] at or before a time
const before = (rows, time) => rows.findLast(([at]) => at <= time + 1e-6);
const jpeg = (data) => data ? `data:image/jpeg;base64,${data}` : "";

function figure(parent, caption) {
  const f = parent.appendChild(document.createElement("figure")), image = f.appendChild(document.createElement("img"));
  image.alt = caption;
  f.appendChild(document.createElement("figcaption")).textContent = caption;
  return image;
}

function put(image, data) {
  if (data) image.src = jpeg(data); else image.removeAttribute("src");
  image.nextSibling.textContent = image.alt + (data ? "" : ": none");
}

function open() {
  episode = EPISODES[$("which").value];
  const end = Math.max(...Object.values(episode.observed).map((rows) => rows.at(-1)[0]));
  $("time").max = end;
  $("time").value = Math.min(1, end);
  $("horizon").max = $("horizon").value = Math.max(0, episode.lookaheads.length - 1);
  $("pairs").replaceChildren();
  $("strip").replaceChildren();
  $("strip").style.setProperty("--columns", Math.max(1, episode.lookaheads.length));
  $("view").replaceChildren(...episode.cameras.map((camera) => new Option(camera)));
  for (const camera of episode.cameras) for (const what of ["seen", "imagined"]) {
    const image = figure($("pairs"), `${camera}, ${what}`);
    image.dataset.camera = camera;
    image.dataset.what = what;
    if (what === "seen") image.onload = () => $("views").style.setProperty("--aspect", image.naturalWidth / image.naturalHeight);
  }
  for (const what of ["imagined", "seen"]) for (const k of episode.lookaheads) Object.assign(figure($("strip"), `${what} ${(k * STEP).toFixed(1)} s`).dataset, { what, k });
  const { success, seconds, task, seed } = episode.info;
  $("outcome").textContent = `${task}${seed === undefined ? "" : `, seed ${seed}`}: ${success === undefined ? "no outcome" : success ? "success" : "failure"}${seconds === undefined ? "" : ` after ${seconds.toFixed(1)} s`}`;
  $("decisions").replaceChildren(...episode.decisions.map(([time, { time: _, ...what }]) => Object.assign(document.createElement("li"), { textContent: `${time.toFixed(2)} s  ${JSON.stringify(what)}` })));
  if (!episode.decisions.length) $("decisions").textContent = "nothing through the console";
  $("info").textContent = JSON.stringify(episode.info, null, 1);
  $("legend").textContent = Object.keys(COLORS).join(", ");
  show();
}

function show() {
  const time = Number($("time").value), number = Number($("horizon").value), earlier = (episode.lookaheads[number] || 0) * STEP;
  $("clock").textContent = `${time.toFixed(2)} s`;
  $("step").textContent = `${earlier.toFixed(1)} s`;
  const gate = before(episode.status, time);
  $("gate").textContent = gate ? gate[1].state : "";
  $("gate").style.color = gate ? COLORS[gate[1].state] : "";
  $("cause").textContent = gate ? gate[1].cause : "";
  const past = before(episode.imagined, time - earlier), plan = before(episode.imagined, time);
  for (const image of $("pairs").querySelectorAll("img")) {
    const { camera, what } = image.dataset;
    // a plan is made every few tenths of a second: what is shown beside it is of the moment that it was imagined for
    const due = past && past[0] + earlier;
    put(image, what === "seen" ? before(episode.observed[camera], past ? due : time)?.[1] : past?.[1][camera][number]);
  }
  for (const image of $("strip").querySelectorAll("img")) {
    const { what, k } = image.parentNode.dataset.what ? image.parentNode.dataset : image.dataset, view = $("view").value;
    put(image, plan && (what === "imagined" ? plan[1][view][episode.lookaheads.indexOf(Number(k))] : before(episode.observed[view], plan[0] + k * STEP)?.[1]));
  }
  const terms = before(episode.divergence, time);
  $("terms").textContent = terms ? Object.entries(terms[1]).map(([name, value]) => `${name} ${value.toPrecision(3)}`).join("  ") : "no score yet";
  draw(time);
}

function draw(time) {
  const end = Number($("time").max), canvas = $("divergence"), c = canvas.getContext("2d"), x = (at) => at / end * canvas.width;
  c.clearRect(0, 0, canvas.width, canvas.height);
  const names = [...new Set(episode.divergence.flatMap(([, terms]) => Object.keys(terms)))];
  names.forEach((name, n) => {
    const rows = episode.divergence.filter(([, terms]) => name in terms), top = name === "score" ? 2 : Math.max(...rows.map(([, terms]) => terms[name]));
    c.strokeStyle = c.fillStyle = `hsl(${360 * n / names.length} 70% 60%)`;
    c.font = "20px system-ui";
    c.fillText(`${name} (to ${top.toPrecision(2)})`, 10 + 290 * n, 22);
    c.beginPath();
    for (const [at, terms] of rows) c.lineTo(x(at), canvas.height - (canvas.height - 40) * Math.min(terms[name] / top, 1));
    c.lineWidth = 3;
    c.stroke();
  });
  const states = $("states"), s = states.getContext("2d");
  s.clearRect(0, 0, states.width, states.height);
  episode.status.forEach(([at, { state }], n) => {
    const until = episode.status[n + 1]?.[0] ?? end;
    s.fillStyle = COLORS[state];
    s.fillRect(x(at), 0, x(until) - x(at) + 1, states.height);
  });
  for (const context of [c, s]) { context.fillStyle = "#fff"; context.fillRect(x(time), 0, 3, 200); }
}

EPISODES.forEach(({ name }, n) => $("which").add(new Option(name, n)));
$("which").onchange = open;
$("time").oninput = $("horizon").oninput = $("view").onchange = show;
open();
