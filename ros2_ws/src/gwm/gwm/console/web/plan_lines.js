// A plan drawn over a camera's picture: the path of the gripper, and the gripper at a lookahead.

import { stroke } from "/stroke.js";

const PATH = "#56b4e9", GHOST = "#f0e442", HALO = "#000a"; // Okabe and Ito's sky blue and yellow
const DOTS = 4; // waypoints from one dot to the next

// view: {path, ghosts} in fractions of the picture, of which the path begins where the gripper is,
// null for none; ghost: which of ghosts; passed: waypoints that are due already
export function drawPlan(canvas, view, ghost, passed) {
  const scale = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const c = canvas.getContext("2d");
  c.clearRect(0, 0, width, height);
  if (!view) return;
  const place = (point) => point && [point[0] * width, point[1] * height];
  const [here, ...rows] = view.path.map(place);
  const path = [here, ...rows.slice(passed)];
  const thin = Math.max(2 * scale, width / 250);
  stroke(c, path, HALO, 2.4 * thin);
  stroke(c, path, PATH, thin);
  rows.forEach((point, row) => {
    if (point && row >= passed && (row + 1) % DOTS === 0) dot(c, point, thin);
  });
  const lines = view.ghosts[ghost]?.map(place);
  if (!lines) return;
  stroke(c, lines, HALO, 3 * thin);
  stroke(c, lines, GHOST, 1.4 * thin);
}

function dot(c, [x, y], width) {
  c.beginPath();
  c.arc(x, y, 1.6 * width, 0, 2 * Math.PI);
  c.fillStyle = PATH;
  c.fill();
}
