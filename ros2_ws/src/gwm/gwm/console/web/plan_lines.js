// A plan drawn over a camera's picture: the path of the gripper, and the gripper at a lookahead.

const PATH = "#56b4e9", GHOST = "#f0e442", HALO = "#000a"; // Okabe and Ito's sky blue and yellow
const ROW = 100; // [ms] between waypoints

// view: {path, ghosts} in fractions of the picture, null for none; ghost: which of ghosts
export function drawPlan(canvas, view, ghost, id, now) {
  const scale = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const c = canvas.getContext("2d");
  c.clearRect(0, 0, width, height);
  if (!view) return;
  const points = view.path.map((point) => point && [point[0] * width, point[1] * height]);
  const thin = Math.max(2 * scale, width / 250);
  stroke(c, points, HALO, 2.4 * thin);
  stroke(c, points, PATH, thin);
  const passed = Math.floor((now - Number(BigInt(id) / 1000n) / 1000) / ROW);
  points.forEach((point, row) => point && row % 4 === 0 && dot(c, point, row > passed, thin));
  const lines = view.ghosts[ghost]?.map((point) => point && [point[0] * width, point[1] * height]);
  if (!lines) return;
  stroke(c, lines, HALO, 3 * thin);
  stroke(c, lines, GHOST, 1.4 * thin);
}

function stroke(c, points, color, width) {
  c.strokeStyle = color;
  c.lineWidth = width;
  c.lineCap = c.lineJoin = "round";
  c.beginPath();
  let pen = false;
  for (const point of points) {
    if (point) c[pen ? "lineTo" : "moveTo"](...point);
    pen = Boolean(point);
  }
  c.stroke();
}

// a waypoint still to come is filled, one in the past is a ring
function dot(c, [x, y], ahead, width) {
  c.beginPath();
  c.arc(x, y, 1.6 * width, 0, 2 * Math.PI);
  c.fillStyle = ahead ? PATH : HALO;
  c.fill();
}
