// What the page knows: the newest state, what would be refused now, and what is overdue.

import {
  QUIET, UNCONFIRMED, URGENT, contact, link, quiet, requests, seconds, serverTime,
} from "/link.js";

export const $ = (id) => document.getElementById(id);
export const SILENT = 1000; // [ms] without a status of the gate
const REFUSED = 10000; // [ms] for which a refused STOP stays on the page
const OWN = "use the robot's own stop";

// offer: the waiting plan whose future has been looked at, {plan, sha256}, or null
// unfilled: names of the task's fields that wait for an entry
export const known = { state: null, broken: "", offer: null, unfilled: [] };

export const gate = () => known.state?.gate ?? {};
export const recorder = () => known.state?.recorder ?? {};
export const isRecording = () => recorder().recording === "True";

// [ms] since the gate's status that is shown
export function gateSilent() {
  const { state } = known;
  return state && state.gate_ms !== null ? serverTime() - state.gate_ms : 0;
}

export const gateIsSilent = () => gateSilent() > SILENT;
export const lost = () => quiet() > QUIET || gateIsSilent();

// why a command would be refused now, or ""
export function why(what) {
  const { state } = known;
  if (!contact() || !state) return "no contact";
  if (state.control !== "yours") {
    return state.control === "view" ? "this page only shows" : "another page has control";
  }
  const refused = state.refuses[what] || "";
  if (refused) return refused;
  if (what === "save" && known.unfilled.length) return `fill in ${known.unfilled.join(", ")} first`;
  return what === "approve" && !known.offer ? "look at it first" : "";
}

export function alarms() {
  const found = [];
  const now = performance.now();
  if (known.broken) found.push(`this page has failed (${known.broken}): reload it, and ${OWN}`);
  if (quiet() > QUIET) found.push(`no contact for ${seconds(quiet())}: ${OWN}`);
  else if (gateSilent() > SILENT) {
    found.push(`nothing from the gate for ${seconds(gateSilent())}: ${OWN}`);
  }
  for (const request of requests.filter((r) => URGENT.includes(r.what))) {
    const name = request.what.toUpperCase();
    const since = now - request.at;
    if (request.ok === null && since > UNCONFIRMED) {
      found.push(`${name} not confirmed for ${seconds(since)}: ${OWN}; it is sent again until it is`);
    }
    if (request.ok === false && since < REFUSED) found.push(`${name} ${request.text}: ${OWN}`);
  }
  return [link.lost, ...found].filter(Boolean);
}

// "refused moved": "3" -> "moved 3"
export function counts(kind) {
  const prefix = `${kind} `;
  return Object.entries(gate())
    .filter(([name]) => name.startsWith(prefix))
    .map(([name, count]) => `${name.slice(prefix.length)} ${count}`)
    .join(", ");
}
