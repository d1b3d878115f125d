"use strict";
// Keys or a gamepad that steer, as joy_node would say it.

const BEAT = 50; // [ms]
const AXES = { w: [0, 1], s: [0, -1], a: [1, 1], d: [1, -1], r: [2, 1], f: [2, -1],
               u: [3, 1], o: [3, -1], i: [4, 1], k: [4, -1], j: [5, 1], l: [5, -1] };
const BUTTONS = { c: 1, v: 2, b: 3 };
const held = new Set(); // keys
let padStop = false;

// joy of whoever steers; the pad's second button stops where it does not
function drive() {
  const pad = [...navigator.getGamepads()].find((p) => p);
  const stop = Boolean(pad && pad.buttons[1] && pad.buttons[1].pressed && !$("drive").checked);
  if (stop && !padStop) send("stop");
  padStop = stop;
  if (!$("drive").checked) return;
  if (pad) return send("joy", standard(pad));
  const axes = [0, 0, 0, 0, 0, 0], buttons = [0, 0, 0, 0];
  for (const key of held) if (key in AXES) { axes[AXES[key][0]] += AXES[key][1]; buttons[0] = 1; } else buttons[BUTTONS[key]] = 1;
  send("joy", { axes, buttons });
}

// the browser's standard layout -> joy_node's of an Xbox pad: up and left positive, triggers and cross as axes
function standard(pad) {
  const [lx, ly, rx, ry] = pad.axes, b = pad.buttons.map((button) => Number(button.pressed));
  const cross = [(b[14] || 0) - (b[15] || 0), (b[12] || 0) - (b[13] || 0)];
  return { axes: [-lx, -ly, 1 - 2 * (b[6] || 0), -rx, -ry, 1 - 2 * (b[7] || 0), ...cross].map((a) => Math.max(-1, Math.min(1, a || 0))), buttons: b.slice(0, 6) };
}
