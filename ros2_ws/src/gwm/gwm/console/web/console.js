// The operator's page: wires its parts to the socket and to time.

import { connect, repeat } from "/link.js";
import { $, alarms, gate, known } from "/known.js";
import { bindControl, bindUrgent, showControl } from "/commands.js";
import { BEAT, drive } from "/drive.js";
import {
  bindDrawer, buildSettings, showFuture, showLog, showSettings,
} from "/drawer.js";
import { bindEpisode, showEpisode, showTimer } from "/episode.js";
import { bindRun, checkRun } from "/hold_to_run.js";
import { showFields } from "/fields.js";
import { bindKeys } from "/keys.js";
import { bindRobot, showNext } from "/next_step.js";
import { receive } from "/pictures.js";
import { addPoint, drawPlots } from "/plots.js";
import { showHeader, showHealth, showJoints, showProcesses } from "/robot.js";
import { bindSounds } from "/sounds.js";
import { age, buildStage, futureOnPage, showStage } from "/stage.js";
import { buildTrial, showTrial } from "/trial.js";

const TICK = 100; // [ms]
const LOOKED = 500; // [ms] at a plan's future, before it can be approved
let looked = { plan: "", since: 0 };

function show(state) {
  const first = known.state === null;
  known.state = state;
  if (first) build(state);
  document.body.dataset.layout = layout(state);
  showHeader();
  showTrial(state);
  showFields(state);
  showEpisode(state);
  showStage(state);
  showFuture(state);
  showJoints();
  showProcesses();
  const score = "score" in state.divergence ? state.divergence.score : null;
  addPoint("divergence", score);
  addPoint("delay", gate().state ? Number(gate().latency_ms) : null);
  drawPlots();
}

function layout({ trial, session, recorder }) {
  if ("trial" in trial) return "trial";
  return session.plans === "policy" && recorder.recording !== "True" ? "run" : "record";
}

function build(state) {
  buildStage(state);
  buildSettings(state);
  buildTrial(state);
}

// what time alone changes: ages, what is overdue, what may be pressed
function refresh() {
  repeat();
  age();
  known.offer = offer();
  const found = alarms();
  $("alarm").hidden = !found.length;
  if (found.length || $("alarm").textContent) $("alarm").textContent = found.join(". ");
  showHealth();
  showNext();
  showTimer();
  showSettings();
  showControl();
  showLog();
  checkRun();
}

// The plan that waits, where its future has been on the page for long enough to be looked at.
function offer() {
  const { waiting, waiting_sha256: sha256 } = gate();
  const plan = known.state?.imagines ? futureOnPage() : waiting || "";
  if (plan !== looked.plan) looked = { plan, since: performance.now() };
  const seen = performance.now() - looked.since > LOOKED;
  return waiting && plan === waiting && seen ? { plan, sha256 } : null;
}

window.onerror = (message) => {
  known.broken = String(message);
};
bindUrgent();
bindControl();
bindRobot();
bindRun();
bindEpisode();
bindSounds();
bindDrawer();
bindKeys(() => known.state?.cameras ?? []);
setInterval(() => drive($("drive").checked), BEAT);
setInterval(refresh, TICK);
connect(show, receive);
