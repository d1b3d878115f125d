// The keyboard. Escape stops from everywhere; in a field that is written into, no other key acts.

import { URGENT, send } from "/link.js";
import { $ } from "/known.js";
import { AXES, BUTTONS, held, keyRepeats, releaseKeys, tapped } from "/drive.js";
import { end, save } from "/episode.js";
import { enlargeCamera, toggleOverlay } from "/stage.js";

const written = (target) => target.matches("input:not([type=range]):not([type=checkbox])");
const steers = () => $("drive").checked;

export function bindKeys(cameras) {
  window.addEventListener("blur", releaseKeys); // no release reaches the page from there on
  document.addEventListener("keydown", (event) => down(event, cameras()), true);
  document.addEventListener("keyup", (event) => {
    held.delete(event.key.toLowerCase());
    if (event.key === " " && !written(event.target)) event.preventDefault(); // some browsers click
  }, true);
}

function press(key) {
  held.add(key);
  tapped.add(key);
}

function down(event, cameras) {
  if (event.key === "Escape") return send("stop");
  if (written(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  const focused = event.target.id;
  if (key === " " || (key === "enter" && URGENT.includes(focused))) {
    event.preventDefault();
    if (!event.repeat) send(focused === "stop" ? "stop" : "hold"); // of the focused one; else hold
    return;
  }
  if (event.repeat) return held.has(key) && keyRepeats();
  const elsewhere = !event.target.matches("[role=tab], input[type=range]");
  if (event.key === "ArrowRight" && elsewhere) save(true);
  else if (event.key === "ArrowLeft" && elsewhere) end("redo", {});
  else if (steers() && (key in AXES || key in BUTTONS)) press(key);
  else if (key === "i") toggleOverlay();
  else if (cameras[Number(key) - 1]) enlargeCamera(cameras[Number(key) - 1]);
}
