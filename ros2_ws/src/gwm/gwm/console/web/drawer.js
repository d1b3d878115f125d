// Tabs below the picture, the log of answers, and the list of keys.

import { requests, describe } from "/link.js";
import { $, known } from "/known.js";
import { act, allow, choices, chosen } from "/commands.js";

const LOGGED = 12;
let answers = "";

export function bindDrawer() {
  const tabs = [...$("tabs").children];
  for (const tab of tabs) {
    tab.onclick = () => open(tab);
    tab.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.stopPropagation(); // elsewhere the arrows rate the episode
      const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
      next.focus();
      open(next);
    };
  }
  open(tabs[0]);
}

function open(chosenTab) {
  for (const tab of $("tabs").children) {
    const on = tab === chosenTab;
    tab.setAttribute("aria-selected", on);
    tab.tabIndex = on ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !on;
  }
}

export function buildSettings(s) {
  const modes = s.modes.map((mode) => [mode, mode.replaceAll("_", " ")]);
  choices($("mode"), modes, (mode) => act("mode", { mode }));
  if (s.session.robot !== "sim") document.querySelector(".sim").remove();
  $("steer").hidden = s.session.plans === "policy";
}

export function showSettings() {
  chosen($("mode"), known.state?.gate.mode);
  for (const button of $("mode").children) allow(button, "mode");
}

export function showFuture({ future, imagines, divergence }) {
  const percent = (share) => (100 * share).toFixed(0);
  const { plan, success, success_low: low, success_high: high } = future;
  let foreseen = imagines ? "nothing imagined yet" : "nothing imagines";
  if (plan) foreseen = ""; // a policy that is not calibrated says nothing
  if (plan && [success, low, high].every(Number.isFinite)) {
    foreseen = `done by then: ${percent(success)} % (${percent(low)} to ${percent(high)})`;
  }
  $("foreseen").textContent = foreseen;
  $("score").textContent = Object.entries(divergence)
    .map(([name, value]) => `${name} ${value === null ? "?" : value.toPrecision(3)}`)
    .join("  ");
}

export function showLog() {
  const last = requests.at(-1);
  if (last && $("said").textContent !== describe(last)) $("said").textContent = describe(last);
  // for screen readers, which would say every tenth of a second that passes without an answer
  const answer = last && last.ok !== null ? describe(last) : "";
  if ($("answered").textContent !== answer) $("answered").textContent = answer;
  const text = requests.slice(-LOGGED).map(describe).reverse();
  if (answers === text.join("\n")) return;
  answers = text.join("\n");
  $("answers").replaceChildren(...text.map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
}
