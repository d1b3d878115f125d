// The robot's state in the header, and its joints, gripper and processes in the drawer.

import { quiet, seconds } from "/link.js";
import { $, counts, gate, known, lost, recorder, why } from "/known.js";
import { QUIET } from "/link.js";

const SLOW = 0.5; // [s] age of a camera's picture beyond which it is marked
const FULL = 0.1; // fraction of the disk that is free, below which it is marked
const NEAR = 5; // [degrees] to a joint's limit
const SILENT = 6; // [s] without a report of a process

export function showHeader() {
  const g = gate();
  $("status").dataset.state = g.state || "";
  $("gate").textContent = g.state ? `${g.state}${g.armed === "True" ? ", armed" : ""}` : "no gate";
  $("cause").textContent = g.cause || "";
}

// the link and the cameras in a line; what is overdue is marked
export function showHealth() {
  const { state } = known;
  const away = quiet() > QUIET;
  $("status").classList.toggle("lost", lost());
  $("link").textContent = away
    ? `LOST, this is ${seconds(quiet())} old`
    : !state ? "connecting" : state.control === "yours" ? "connected" : why("here");
  if (!state) return;
  const cameras = Object.entries(state.rates).map(([name, rate]) => {
    const age = ageOfCamera(name);
    const text = rate === null ? `${name} no picture` : `${name} ${rate.toFixed(0)} Hz`;
    return chip(text, rate === null || rate < 1 || age > SLOW);
  });
  const free = Number(recorder().free);
  const disk = Number.isFinite(free) ? [chip(`disk ${Math.round(100 * free)} % free`, free < FULL)] : [];
  // a plan that waits for a person says nothing of the machine
  const measured = Number(gate().latency_ms) > 0 && gate().mode !== "approve";
  const latency = measured ? [chip(`${Math.round(gate().latency_ms)} ms`, false)] : [];
  $("health").replaceChildren(...cameras, ...latency, ...disk);
}

function ageOfCamera(name) {
  const label = document.querySelector(`#cameras [data-camera="${CSS.escape(name)}"] .age`);
  return label ? parseFloat(label.textContent) : NaN;
}

function chip(text, bad) {
  const span = document.createElement("span");
  span.className = bad ? "chip bad" : "chip";
  span.textContent = bad ? `! ${text}` : text;
  return span;
}

// rows of a table: [words, value of a gauge from 0 to 1 or null, text, whether it is marked]
function table(id, rows) {
  $(id).replaceChildren(...rows.map(([words, share, text, bad]) => {
    const row = document.createElement("tr");
    row.className = bad ? "bad" : "";
    row.insertCell().textContent = words;
    const cell = row.insertCell();
    if (share !== null) {
      const meter = cell.appendChild(document.createElement("meter"));
      meter.value = Math.min(Math.max(share, 0), 1);
      meter.setAttribute("aria-label", words);
    }
    row.insertCell().textContent = bad ? `! ${text}` : text;
    return row;
  }));
}

export function showJoints() {
  const { joints_deg: q, low_deg: low, high_deg: high, width_mm: width, speed } = known.state.arm;
  if (!q) return table("joints", [["joints", null, "no usable joint state", true]]);
  const rows = q.map((angle, k) => {
    const margin = Math.min(angle - low[k], high[k] - angle);
    const text = `${angle.toFixed(1)}\u00b0, ${margin.toFixed(0)}\u00b0 to its limit`;
    return [`joint ${k + 1}`, (angle - low[k]) / (high[k] - low[k]), text, margin < NEAR];
  });
  const open = width === null ? "unknown" : `${width.toFixed(1)} mm open`;
  table("joints", [
    ...rows,
    ["gripper", width === null ? null : width / 80, open, width === null],
    ["tool", null, `${speed.toFixed(2)} m/s`, false],
  ]);
}

export function showProcesses() {
  const { nodes, unread } = known.state;
  const g = gate();
  const rows = Object.entries(nodes).sort().map(([name, { text, age_s: age }]) => {
    const late = age > SILENT;
    return [name, null, late ? `silent for ${age.toFixed(0)} s` : text, late];
  });
  const joints = Number(g.joints_hz) > 0 ? [["joint states", null, `${g.joints_hz} Hz`, false]] : [];
  table("processes", [...rows, ...joints, ...unread.map((text) => ["unreadable", null, text, true])]);
  const refused = counts("refused");
  const stops = counts("stops");
  const said = [
    refused && `plans refused: ${refused}`,
    stops && `stops: ${stops}`,
    g.answer && `last request refused: ${g.answer}`,
  ];
  $("refused").textContent = said.filter(Boolean).join("; ") || "nothing";
  $("trouble").textContent = [g.trouble, ...unread].filter(Boolean).join("; ");
}
