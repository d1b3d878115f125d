// Divergence and latency of the last minute, with axes.

import { $ } from "/known.js";
import { stroke } from "/stroke.js";

const KEPT = 600; // points, one in 100 ms
const PLOTS = {
  divergence: { points: [], line: 1, top: 2, unit: "", limit: "limit" },
  delay: { points: [], line: 160, top: 320, unit: " ms", limit: "late" },
};
const WIDTH = 1.5; // [pixels] of lines
const MARGIN = 60, LINE = 14; // [pixels] left of the plot, and of a line of text

export function addPoint(name, value) {
  const { points } = PLOTS[name];
  points.push(value);
  if (points.length > KEPT) points.shift();
}

// Draw the plots that are in sight.
export function drawPlots() {
  for (const [name, plot] of Object.entries(PLOTS)) {
    if ($(name).offsetParent) draw($(name), plot);
  }
}

function draw(canvas, { points, line, top, unit, limit }) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const c = canvas.getContext("2d");
  c.scale(scale, scale);
  const [text, value, warn] = ["--text", "--accent", "--warn"].map((name) => colorOf(canvas, name));
  const bottom = height - LINE - 4;
  const y = (v) => 6 + (bottom - 6) * (1 - Math.min(v / top, 1));
  const x = (k) => MARGIN + (width - MARGIN - 4) * (k + KEPT - points.length) / KEPT;
  c.font = `${LINE - 2}px system-ui`;
  c.fillStyle = c.strokeStyle = text;
  c.textAlign = "right";
  for (const v of [0, line, top]) c.fillText(`${v}${unit}`, MARGIN - 6, y(v) + 4);
  c.textAlign = "left";
  c.fillText("60 s ago", MARGIN, height - 2);
  c.textAlign = "right";
  c.fillText("now", width - 4, height - 2);
  stroke(c, [[MARGIN, y(line)], [width - 4, y(line)]], warn, WIDTH, [6, 4]);
  c.fillStyle = warn;
  c.fillText(limit, width - 4, y(line) - 3);
  stroke(c, [[MARGIN, y(top)], [MARGIN, bottom], [width - 4, bottom]], text, WIDTH);
  stroke(c, points.map((v, k) => v === null ? null : [x(k), y(v)]), value, WIDTH);
  const last = points.findLast((v) => v !== null);
  const name = canvas.getAttribute("aria-label").split(":")[0];
  const words = last === undefined ? "nothing yet" : `${last.toPrecision(3)}${unit}`;
  canvas.setAttribute("aria-label", `${name}: ${words}`);
}

// a colour of the style sheet, in the present colour scheme
function colorOf(element, name) {
  element.style.color = `var(${name})`;
  return getComputedStyle(element).color;
}
