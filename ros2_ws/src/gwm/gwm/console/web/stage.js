// The live pictures, with the plan and the imagined future drawn over them.

import { $, gate, known, lost } from "/known.js";
import { choices, chosen } from "/commands.js";
import { aged, ageOf, attach, commonPlan, planOf, standing } from "/pictures.js";
import { drawOverlay } from "/overlay.js";
import { drawPlan } from "/plan_lines.js";

const PERIOD = 0.1; // [s] between steps of a lookahead
const OPAQUE = 0.85, FAINT = 0.3; // of an imagined picture: new, and as old as its plan lasts
// view: of the strip; overlay: true, false, or null for "in mode approve"; main: a camera
const look = { view: "", overlay: null, main: "" };

export function buildStage(s) {
  look.view = look.main = s.cameras[0] ?? "afar";
  for (const camera of s.cameras) $("cameras").append(cameraFigure(camera));
  for (const step of s.steps) $("strip").append(stepFigure(step));
  for (const camera of s.cameras) $("overlays").append(overlayFigure(camera));
  choices($("view"), [...s.cameras, "afar"].map((name) => [name, name]), (name) => {
    look.view = name;
    choose();
  });
  $("strip").style.setProperty("--columns", s.steps.length);
  $("horizon").max = $("horizon").value = s.steps.length - 1;
  $("horizon").oninput = choose;
  $("overlay").onclick = toggleOverlay;
  choose();
}

function element(parent, kind, name, text = "") {
  const e = parent.appendChild(document.createElement(kind));
  e.className = name;
  e.textContent = text;
  return e;
}

function cameraFigure(camera) {
  const figure = document.createElement("figure");
  figure.dataset.camera = camera;
  const frame = element(figure, "div", "frame");
  const live = element(frame, "img", "live");
  live.alt = `${camera} camera, live`;
  // what is imagined has as many pixels up as across, of the same field of view
  live.onload = () => {
    $("stage").style.setProperty("--aspect", live.naturalWidth / live.naturalHeight);
  };
  attach(live, `live/${camera}`);
  const source = element(frame, "img", "source"); // not shown itself
  source.alt = `${camera} camera, imagined`;
  const imagined = element(frame, "canvas", "imagined");
  imagined.setAttribute("role", "img");
  imagined.setAttribute("aria-label", source.alt);
  source.onload = () => drawOverlay(imagined, source);
  const plan = element(frame, "canvas", "plan");
  plan.setAttribute("role", "img");
  const enlarge = element(frame, "button", "enlarge");
  enlarge.onclick = () => enlargeCamera(camera);
  enlarge.setAttribute("aria-label", `enlarge ${camera}`);
  const caption = element(figure, "figcaption", "");
  element(caption, "b", "", `${camera} `);
  element(caption, "span", "age");
  element(caption, "span", "of-plan");
  return figure;
}

function stepFigure(step) {
  const figure = document.createElement("figure");
  figure.dataset.step = step;
  element(figure, "img", "imagined").alt = `imagined ${(step * PERIOD).toFixed(1)} s ahead`;
  const caption = element(figure, "figcaption", "", `in ${(step * PERIOD).toFixed(1)} s, `);
  element(caption, "span", "age");
  return figure;
}

function overlayFigure(camera) {
  const figure = document.createElement("figure");
  const image = element(figure, "img", "first");
  image.alt = `${camera}: the first layout outlined on the present one`;
  attach(image, `overlay/${camera}`);
  element(figure, "figcaption", "", camera);
  return figure;
}

export function enlargeCamera(camera) {
  if (!known.state) return;
  look.main = camera;
  choose();
}

export function toggleOverlay() {
  if (!known.state) return;
  look.overlay = !overlaid();
  choose();
}

const overlaid = () => look.overlay ?? gate().mode === "approve";
const lookahead = () => known.state.steps[Number($("horizon").value)];

// Show the chosen views and lookahead.
export function choose() {
  const step = lookahead();
  const on = overlaid() && known.state.imagines;
  $("step").textContent = `${(step * PERIOD).toFixed(1)} s ahead`;
  $("overlay").setAttribute("aria-pressed", on);
  chosen($("view"), look.view);
  for (const figure of $("cameras").children) {
    const { camera } = figure.dataset;
    figure.classList.toggle("main", camera === look.main);
    figure.querySelector(".enlarge").hidden = camera === look.main;
    figure.querySelector(".imagined").hidden = !on;
    attach(figure.querySelector(".source"), `h${step}/${camera}`);
  }
  for (const figure of $("strip").children) {
    attach(figure.firstChild, `h${figure.dataset.step}/${look.view}`);
    figure.classList.toggle("chosen", Number(figure.dataset.step) === step);
  }
}

// the plan whose whole future is on the page, "" without one
export function futureOnPage() {
  const overlay = overlaid() ? ", #cameras .source" : "";
  return commonPlan(document.querySelectorAll(`#strip img${overlay}`));
}

let approving;
export function showStage(s) {
  if (approving !== (s.gate.mode === "approve") || $("future").hidden === s.imagines) {
    approving = s.gate.mode === "approve";
    $("future").hidden = !s.imagines;
    $("overlay").disabled = !s.imagines;
    choose();
  }
  const { id, views } = s.plan;
  const current = Boolean(id) && standing(id) !== "earlier";
  for (const figure of $("cameras").children) {
    const view = current ? views[figure.dataset.camera] : null;
    const ghost = Number($("horizon").value);
    // when an approved plan began to run is not known here: all of it is drawn
    const runs = standing(id) === "runs" && s.gate.mode !== "approve";
    const passed = runs ? rowsSince(id, s.now) : 0;
    drawPlan(figure.querySelector(".plan"), view, ghost, passed);
    const text = view ? `the plan's path: ${s.plan.words}` : "no plan";
    figure.querySelector(".plan").setAttribute("aria-label", text);
  }
}

// how many waypoints of a plan are due already
function rowsSince(id, now) {
  const since = now - Number(BigInt(id) / 1000n) / 1000;
  return Math.max(0, Math.floor(since / (1000 * PERIOD)));
}

// What time alone changes: the age of every picture, and whether the plan is still of the present.
export function age() {
  for (const plan of document.querySelectorAll("#cameras .plan")) {
    plan.classList.toggle("lost", lost());
  }
  for (const figure of document.querySelectorAll("#cameras figure, #strip figure")) {
    for (const image of figure.querySelectorAll("img")) ageImage(figure, image);
  }
}

function ageImage(figure, image) {
  const found = ageOf(image);
  image.classList.toggle("old", found.old);
  const inStrip = figure.parentNode.id === "strip";
  if (inStrip || !image.classList.contains("source")) {
    figure.querySelector(".age").textContent = aged(found);
    figure.querySelector(".plan")?.classList.toggle("old", found.old);
    return;
  }
  const label = figure.querySelector(".of-plan");
  const overlay = figure.querySelector(".imagined");
  const plan = planOf(image);
  const words = { waits: "the plan that waits", runs: "the running plan", earlier: "an earlier plan" };
  label.textContent = overlay.hidden ? "" : plan
    ? `; imagined ${$("step").textContent} by ${words[standing(plan)]}, ${aged(found)}`
    : "; nothing imagined yet";
  const share = Math.min(Math.max(found.passed / (known.state?.plan_ms || 1), 0), 1) || 0;
  overlay.style.opacity = plan && !found.old ? OPAQUE + (FAINT - OPAQUE) * share : plan ? FAINT : 0;
}
