// What the operator does next: one sentence, and the buttons that it is about.

import { contact } from "/link.js";
import { $, gate, gateIsSilent, isRecording, known, why } from "/known.js";
import { act, allow } from "/commands.js";

const OWN = "Use the robot's own stop";

// {say, buttons}: ids of the buttons that the sentence is about, the first one is the suggestion
export function nextStep(s, recording) {
  if (!s) return { say: "Connecting.", buttons: [] };
  const g = s.gate;
  if (!g.state || gateIsSilent()) return { say: `The gate is silent. ${OWN} if the arm moves.`, buttons: [] };
  if (g.state === "FAULT") return { say: `${g.cause}. Look at the arm, then Reset.`, buttons: ["reset"] };
  if (g.state === "STOPPING") return { say: "Coming to rest.", buttons: [] };
  if (g.cause === "going home") return { say: "Moving home.", buttons: [] };
  if (s.trial.phase === "watch") return ofTrial(s);
  if (g.mode === "approve" && g.waiting) return ofPlan(s);
  if ("trial" in s.trial) return ofTrial(s);
  if (g.armed !== "True") return toArm(s, recording);
  if (s.session.plans === "teleop" && !recording) {
    return betweenEpisodes(s);
  }
  if (recording) return { say: whileRecording(s), buttons: ["success", "fail"] };
  return { say: whileArmed(s), buttons: g.mode === "hold_to_run" ? ["run"] : [] };
}

function toArm(s, recording) {
  const records = s.session.plans !== "policy" && !recording;
  if (records && s.refuses.lay) {
    return { say: "Home, lay the table, Arm, then Start.", buttons: ["home", "arm"] };
  }
  if (records) return { say: "Lay the table, Arm, then Start.", buttons: ["arm"] };
  const mode = s.gate.mode.replaceAll("_", " ");
  return { say: `Clear the workspace, then Arm (mode ${mode}).`, buttons: ["arm"] };
}

function betweenEpisodes({ gate: g, refuses }) {
  if (refuses.home) return { say: "Start; or HOLD and Home, for another table.", buttons: ["start"] };
  if (refuses.lay) return { say: "Start; or Home, for another table.", buttons: ["start"] };
  return { say: "Lay the table, then Start.", buttons: ["start"] };
}

function ofPlan(s) {
  const words = s.plan.id === s.gate.waiting ? s.plan.words : "a plan";
  const look = why("approve") ? ` ${sentence(why("approve"))}` : "";
  return { say: `Approve \u201c${words}\u201d?${look}`, buttons: ["approve", "decline"] };
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

function ofTrial({ trial: t, gate: g }) {
  const what = t.instruction ? `${sentence(t.instruction)} ` : "";
  if (t.phase === "watch") {
    return { say: `${what}Rate what came; ${t.seconds} s are allowed.`, buttons: ["success", "fail"] };
  }
  const arm = g.armed === "True" ? "" : ", Arm";
  return { say: `${what}Home, lay the table, Start${arm}.`, buttons: ["home", "start", "arm"] };
}

function whileRecording(s) {
  const { plans, task, instruction } = s.session;
  const doing = instruction || task.replaceAll("_", " ");
  const { unfilled } = known;
  const end = unfilled.length ? `Fill in ${unfilled.join(", ")}, then` : "End with";
  const what = plans === "policy" ? "Recording the policy" : `Recording: ${doing}`;
  return `${what}. ${end} Success or Failure.`;
}

function whileArmed(s) {
  const { mode, state } = s.gate;
  if (mode === "hold_to_run") return "The arm moves while you hold the button.";
  if (state === "SHADOW") return "Shadow: plans are checked, nothing is sent to the arm.";
  if (state === "RUNNING") return running(s);
  return mode === "approve" ? "Waits for the next plan." : "Armed. The next plan moves the arm.";
}

function running(s) {
  return s.plan.words ? `Following the plan: ${s.plan.words}.` : "Following plans.";
}

export function bindRobot() {
  for (const what of ["arm", "home", "reset"]) $(what).onclick = () => act(what);
  $("approve").onclick = () => act("approve", known.offer || {});
  $("decline").onclick = () => act("decline", { plan: gate().waiting || "" });
}

export function showNext() {
  const { say, buttons } = contact() || !known.state
    ? nextStep(known.state, isRecording())
    : { say: `No contact. ${OWN} if the arm moves.`, buttons: [] };
  if ($("say").textContent !== say) $("say").textContent = say;
  const waits = gate().waiting && contact();
  $("left").textContent = waits ? `${Math.max(0, Number(gate().waiting_s)).toFixed(0)} s left` : "";
  for (const button of document.querySelectorAll("#next button")) {
    button.classList.toggle("suggested", button.id === buttons[0]);
  }
  for (const what of ["arm", "home", "reset", "approve", "decline"]) allow($(what), what);
  const mode = gate().mode;
  $("approving").hidden = mode !== "approve";
  $("run").hidden = mode !== "hold_to_run";
}
