// A protocol's trial, the rubric, and why a trial was broken off.

import { $ } from "/known.js";
import { choices, chosen } from "/commands.js";

let cause = ""; // for which the trial was broken off
let drawn = ""; // rubric

export function buildTrial(s) {
  const options = s.causes.map((name) => [name, `for the ${name}'s sake`]);
  choices($("abort"), [["", "no"], ...options], pick);
  pick("");
}

function pick(name) {
  cause = name;
  chosen($("abort"), cause);
}

export function showTrial({ trial: t, rubric }) {
  const there = "trial" in t;
  for (const part of document.querySelectorAll(".trial")) part.hidden = !there;
  $("first-layout").hidden = !("alike" in t);
  $("trial").textContent = there
    ? `Trial ${t.trial} of ${t.of}: policy ${t.policy}, ${t.task}, start ${t.start}`
    : "";
  $("alike").textContent = "alike" in t ? `${Math.round(100 * t.alike)} % alike` : "";
  if (drawn === JSON.stringify(rubric)) return;
  drawn = JSON.stringify(rubric);
  $("rubric").replaceChildren(...Object.entries(rubric).map(([text, share]) => {
    const label = document.createElement("label");
    const box = label.appendChild(document.createElement("input"));
    box.type = "checkbox";
    box.value = share;
    label.append(` ${text} (${share})`);
    return label;
  }));
}

// what goes with a verdict: the rubric's share of a failure, and the cause of a broken-off trial
export function ofVerdict(success) {
  const boxes = [...$("rubric").querySelectorAll("input")];
  const sum = boxes.reduce((total, box) => total + box.checked * box.value, 0);
  const score = boxes.length && !success ? { score: Math.min(1, sum) } : {};
  return { ...score, ...(cause ? { cause } : {}) };
}

export function forgetTrial() {
  for (const box of $("rubric").querySelectorAll("input")) box.checked = false;
  pick("");
}
