// Short tones for what happens to an episode. They can be muted.

import { $ } from "/known.js";

const TONES = { // [Hz], each for 90 ms
  tick: [660], start: [660, 880], success: [660, 880, 1100], failure: [440, 330], discard: [330],
};
const LENGTH = 0.09, VOLUME = 0.15; // [s], of 1
let audio = null;

export function bindSounds() {
  $("sounds").checked = localStorage.getItem("sounds") !== "off";
  $("sounds").onchange = () => localStorage.setItem("sounds", $("sounds").checked ? "on" : "off");
}

export function sound(name) {
  if (!$("sounds").checked || !window.AudioContext) return;
  audio = audio || new AudioContext();
  TONES[name].forEach((frequency, k) => {
    const tone = audio.createOscillator();
    const gain = audio.createGain();
    const begin = audio.currentTime + k * LENGTH;
    tone.frequency.value = frequency;
    gain.gain.setValueAtTime(VOLUME, begin);
    gain.gain.exponentialRampToValueAtTime(0.001, begin + LENGTH);
    tone.connect(gain).connect(audio.destination);
    tone.start(begin);
    tone.stop(begin + LENGTH);
  });
}
