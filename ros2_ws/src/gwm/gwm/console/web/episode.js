// Recording an episode: countdown, REC, verdict, note, and what was saved.

import { URGENT, requests, seconds } from "/link.js";
import { $, isRecording, known, recorder, why } from "/known.js";
import { act, allow } from "/commands.js";
import { filledIn } from "/fields.js";
import { forgetTrial, ofVerdict } from "/trial.js";
import { sound } from "/sounds.js";

const PAUSE = 1500; // [ms] after the last key, before a note is kept
let countdown = 0; // timer
let before = 0; // id of the last request when the countdown began
let noteTimer = 0;
let report = { seconds: 0, at: 0 }; // the recorder's, and when it came [ms]

export function bindEpisode() {
  $("start").onclick = begin;
  $("success").onclick = () => save(true);
  $("fail").onclick = () => save(false);
  $("discard").onclick = () => end("discard", {});
  $("redo").onclick = () => end("redo", {});
  $("correct").onclick = correct;
  $("keep").onclick = () => act("keep");
  $("lay").onclick = () => act("lay", { seed: Number($("seed").value) });
  $("note").oninput = () => {
    clearTimeout(noteTimer);
    noteTimer = setTimeout(keepNote, PAUSE);
  };
  $("note").onblur = keepNote;
  $("note").onkeydown = (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    $("note").blur(); // keys are commands again; the note stays until the episode is saved
  };
  $("countdown").value = localStorage.getItem("countdown") || 0;
  $("countdown").onchange = () => localStorage.setItem("countdown", $("countdown").value);
}

// Start, after the countdown; a second press ends the countdown.
function begin() {
  if (countdown) return cancel();
  before = requests.at(-1)?.id ?? 0;
  let left = Math.min(Math.max(Number($("countdown").value) || 0, 0), 10);
  const tick = () => {
    if (left <= 0) {
      cancel();
      act("start", {}, () => sound("start"));
      return;
    }
    $("start").textContent = `Starts in ${left}`;
    sound("tick");
    left -= 1;
    countdown = setTimeout(tick, 1000);
  };
  tick();
}

function cancel() {
  clearTimeout(countdown);
  countdown = 0;
  $("start").textContent = "Start";
}

export function save(success) {
  const note = $("note").value;
  end("save", { success, ...ofVerdict(success), ...filledIn(), ...(note ? { note } : {}) });
}

export function end(what, more) {
  clearTimeout(noteTimer);
  const success = more.success ? "success" : "failure";
  act(what, more, () => {
    forget();
    if (what === "save") $("seed")?.stepUp(); // the next table; in simulation alone
    sound(what === "save" ? success : "discard");
  });
}

// Turn the verdict of the last saved episode.
function correct() {
  const correct = (recorder().saved || "").split("/").pop();
  act("correct", { correct, success: recorder().verdict !== "True" }, () => sound("start"));
}

let kept = "";
function keepNote() {
  clearTimeout(noteTimer);
  if (!known.state) return;
  const note = $("note").value;
  if (!note || note === kept || !(isRecording() || "trial" in known.state.trial)) return;
  kept = note;
  act("mark", { note });
}

// what was said of an episode that is over
function forget() {
  forgetTrial();
  $("note").value = kept = "";
}

export function showEpisode(s) {
  const r = recorder();
  const now = performance.now();
  if (r.seconds !== report.seconds) report = { seconds: r.seconds, at: now };
  const name = (r.saved || "").split("/").pop();
  const verdict = { True: "success", False: "failure" }[r.verdict];
  const last = name ? `saved ${name}${verdict ? ` as ${verdict}` : ""}` : "not recording";
  const dropped = Object.entries(r)
    .filter(([key]) => key.startsWith("dropped "))
    .reduce((sum, [, count]) => sum + Number(count), 0);
  const { seed, success, seconds: took } = s.result;
  const table = `table of seed ${seed}, ${success ? "success" : "not done"}, ${Number(took).toFixed(1)} s`;
  $("episode").textContent = [
    isRecording() ? "recording" : r.cut || last,
    dropped && `${dropped} messages dropped`,
    Number(r.free) < 0.1 && `${Math.round(100 * r.free)} % of the disk free`,
    seed !== undefined && table,
  ].filter(Boolean).join(", ");
  $("correct").textContent = `Last was a ${verdict === "success" ? "failure" : "success"}`;
}

// The REC sign, its timer, and the count. ``left`` counts down where a trial has a limit.
export function showTimer() {
  const { state } = known;
  if (!state) return;
  const running = isRecording();
  const passed = Number(report.seconds) * 1000 + performance.now() - report.at;
  const limit = state.trial.seconds;
  $("rec").hidden = !running;
  const stopped = requests.some((r) => URGENT.includes(r.what) && r.id > before);
  if (countdown && (running || why("start") || stopped)) cancel();
  if (running) {
    const left = limit ? `, ${Math.max(0, limit - passed / 1000).toFixed(0)} s left` : "";
    $("rec").textContent = `REC ${seconds(passed)}${left}`;
  }
  const { goal, task, operator } = state.session;
  const number = Number(recorder().episodes || 0) + (running ? 1 : 0);
  const of = goal ? `${number} of ${goal}` : `${number}`;
  const trial = "trial" in state.trial;
  $("count").textContent = trial ? "" : `episode ${of}, ${task}${operator ? `, ${operator}` : ""}`;
  for (const [id, what] of BUTTONS) allow($(id), what);
}

const BUTTONS = [
  ["start", "start"], ["success", "save"], ["fail", "save"], ["discard", "discard"],
  ["redo", "redo"], ["correct", "correct"], ["keep", "keep"], ["lay", "lay"],
];
