// Keys or a gamepad that steer, as joy_node would publish them.

import { send } from "/link.js";

export const BEAT = 50; // [ms]
export const AXES = {
  w: [0, 1], s: [0, -1], a: [1, 1], d: [1, -1], r: [2, 1], f: [2, -1],
  u: [3, 1], o: [3, -1], i: [4, 1], k: [4, -1], j: [5, 1], l: [5, -1],
};
export const BUTTONS = { c: 1, v: 2, b: 3 };
const GIVE_BACK = "b";
export const held = new Set(); // keys
export const tapped = new Set(); // those pressed since the last message, held or not
const REPEATS = 200; // [ms] within which a held key repeats
let padStop = false;
let repeatedAt = -Infinity;
let beat = 0;

export function releaseKeys() {
  held.clear();
  tapped.clear();
}

export const keyRepeats = () => {
  repeatedAt = performance.now();
};

// The joystick message of whoever steers. The pad's second button stops where it does not steer.
export function drive(steers) {
  const pad = [...navigator.getGamepads()].find((p) => p);
  const stop = Boolean(pad?.buttons[1]?.pressed && !steers);
  if (stop && !padStop) send("stop");
  padStop = stop;
  const pressed = new Set([...held, ...tapped]);
  tapped.clear();
  if (!steers) return;
  if (pad) return send("joy", standard(pad));
  // A joystick that does not change is taken for a lost one. A key that is held repeats, and one
  // whose release got lost does not: only the former counts as a change, on an axis of its own. Of
  // two keys the system repeats one, so nobody knows of the other.
  const repeats = held.size === 1 && performance.now() - repeatedAt < REPEATS;
  beat = repeats ? 1 - beat : 0;
  const axes = [0, 0, 0, 0, 0, 0, beat];
  const buttons = [0, 0, 0, 0];
  for (const key of pressed) {
    if (key in AXES) {
      const [axis, sign] = AXES[key];
      axes[axis] += sign;
    } else {
      buttons[BUTTONS[key]] = 1;
    }
  }
  buttons[0] = Number(pressed.size > 0 && !pressed.has(GIVE_BACK)); // the clutch
  send("joy", { axes, buttons });
}

// The browser's standard layout -> joy_node's of an Xbox pad: up and left positive, triggers and
// cross as axes.
function standard(pad) {
  const [lx, ly, rx, ry] = pad.axes;
  const b = pad.buttons.map((button) => Number(button.pressed));
  const trigger = (n) => 1 - 2 * (b[n] || 0);
  const cross = [(b[14] || 0) - (b[15] || 0), (b[12] || 0) - (b[13] || 0)];
  const axes = [-lx, -ly, trigger(6), -rx, -ry, trigger(7), ...cross];
  return { axes: axes.map((a) => Math.max(-1, Math.min(1, a || 0))), buttons: b.slice(0, 6) };
}
