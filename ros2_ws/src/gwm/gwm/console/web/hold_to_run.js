// The deadman button: a heartbeat while it is pressed.

import { contact, send } from "/link.js";
import { $, why } from "/known.js";
import { BEAT, releaseKeys } from "/drive.js";

let beating = 0;

export function bindRun() {
  $("run").onpointerdown = press;
  $("run").onpointerup = $("run").onpointercancel = window.onblur = letGo;
  document.onvisibilitychange = () => {
    if (document.hidden) letGo();
  };
}

function press(event) {
  if (why("beat")) return;
  $("run").setPointerCapture(event.pointerId);
  $("run").classList.add("pressed");
  send("beat");
  clearInterval(beating);
  beating = setInterval(() => send("beat"), BEAT);
}

function release() {
  clearInterval(beating);
  beating = 0;
  $("run").classList.remove("pressed");
}

function letGo() {
  release();
  releaseKeys();
}

// Every 100 ms: let go where nothing would be obeyed.
export function checkRun() {
  $("run").disabled = Boolean(why("beat"));
  $("run").title = why("beat");
  if (!contact() || why("beat")) release();
  if (!contact()) releaseKeys();
}
