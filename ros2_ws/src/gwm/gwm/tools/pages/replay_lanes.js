"use strict";
// The time axis of a replay: the gate's state, joints, gripper, speed, latency and divergence.

const STATES = {
  DISARMED: "#6a717a", HOLD: "#c08000", RUNNING: "#009e73", SHADOW: "#0072b2",
  STOPPING: "#d55e00", FAULT: "#b3001b",
};
// Okabe and Ito's colours, and black or white for the seventh joint
const LINES = ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#888888"];
const LABEL = 150, ROW = 14; // [pixels] left of the lanes, height of a line of text

// [{name, unit, lines: [[[time, value]...]...], limit}] of an episode
function lanesOf(e) {
  const joints = [0, 1, 2, 3, 4, 5, 6].map((k) => e.joints.map(([t, q]) => [t, q[k]]));
  const score = e.divergence.filter(([, terms]) => "score" in terms);
  return [
    { name: "joints", unit: "rad", lines: joints },
    { name: "gripper", unit: "mm", lines: [e.gripper], low: 0 },
    { name: "tool speed", unit: "m/s", lines: [e.speed], low: 0 },
    { name: "latency", unit: "ms", lines: [e.latency], low: 0 },
    { name: "divergence", unit: "", lines: [score.map(([t, terms]) => [t, terms.score])], low: 0, limit: 1 },
  ];
}

function drawLanes(canvas, e, time) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const c = canvas.getContext("2d");
  c.scale(scale, scale);
  c.font = "12px system-ui";
  const colors = colorsOf(canvas);
  const x = (t) => LABEL + (width - LABEL) * t / Math.max(e.duration, 0.1);
  drawStates(c, e, x, colors.text, time);
  const lanes = lanesOf(e);
  const top = 30;
  const tall = (height - top - ROW - 4) / lanes.length;
  lanes.forEach((lane, k) => drawLane(c, lane, x, top + k * tall, tall, colors, time));
  c.fillStyle = colors.text;
  const every = Math.max(1, Math.ceil(e.duration / 12));
  for (let t = 0; t <= e.duration; t += every) c.fillText(`${t} s`, x(t), height - 3);
  c.fillRect(x(time), 0, 2, height - ROW);
}

function drawStates(c, e, x, text, time) {
  e.status.forEach(([at, { state }], n) => {
    const until = e.status[n + 1]?.[0] ?? e.duration;
    c.fillStyle = STATES[state] || "#000";
    c.fillRect(x(Math.max(at, 0)), 2, x(until) - x(Math.max(at, 0)) + 1, 20);
  });
  const now = e.status.findLast(([at]) => at <= time);
  c.fillStyle = text;
  c.fillText(`gate ${now ? now[1].state : "?"}`, 2, 16);
}

// the colours of the style sheet, in the present colour scheme
function colorsOf(canvas) {
  const found = ["text", "faint", "border", "warn"].map((name) => {
    canvas.style.color = `var(--${name})`;
    return [name, getComputedStyle(canvas).color];
  });
  return Object.fromEntries(found);
}

function drawLane(c, lane, x, top, tall, colors, time) {
  const values = lane.lines.flat().map(([, v]) => v).filter(Number.isFinite);
  const low = Math.min(lane.low ?? Infinity, lane.limit ?? Infinity, ...values);
  const high = Math.max(lane.limit ?? -Infinity, ...values);
  const span = high - low || 1;
  const y = (v) => top + 4 + (tall - 10) * (1 - (v - low) / span);
  c.fillStyle = colors.text;
  c.fillText(lane.name, 2, top + 16);
  c.fillStyle = colors.faint;
  if (!values.length) return c.fillText("not recorded", 2, top + 32);
  c.fillText(`${low.toPrecision(2)} to ${high.toPrecision(2)} ${lane.unit}`, 2, top + 32);
  const now = lane.lines.length === 1 && lane.lines[0].findLast(([t]) => t <= time);
  if (now) c.fillText(`now ${Number(now[1]).toPrecision(3)} ${lane.unit}`, 2, top + 48);
  c.strokeStyle = colors.border;
  c.strokeRect(LABEL, top, x(1e9) - LABEL, tall);
  if (lane.limit !== undefined) {
    c.setLineDash([5, 4]);
    line(c, colors.warn, [[LABEL, y(lane.limit)], [c.canvas.width, y(lane.limit)]]);
    c.setLineDash([]);
  }
  lane.lines.forEach((rows, k) => {
    const shown = rows.filter(([t]) => t >= 0); // a plan may be older than the first picture
    line(c, LINES[k], shown.map(([t, v]) => [x(t), y(v)]));
  });
}

function line(c, color, points) {
  c.strokeStyle = color;
  c.lineWidth = 1.6;
  c.beginPath();
  for (const point of points) c.lineTo(...point);
  c.stroke();
}
