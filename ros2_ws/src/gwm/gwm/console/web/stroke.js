// A line through points of a canvas, which breaks off where a point is null.

export function stroke(c, points, color, width, dash = []) {
  c.strokeStyle = color;
  c.lineWidth = width;
  c.lineCap = c.lineJoin = "round";
  c.setLineDash(dash);
  c.beginPath();
  let pen = false;
  for (const point of points) {
    if (point) c[pen ? "lineTo" : "moveTo"](...point);
    pen = Boolean(point);
  }
  c.stroke();
}
