// What the operator asks for. A request that would be refused is reported, not sent.

import { URGENT, addRequest, contact, send, settle } from "/link.js";
import { $, known, why } from "/known.js";

const AGAIN = 300; // [ms] from a press to its click

export function act(what, more = {}, done = null) {
  const reason = why(what);
  const request = reason ? addRequest(what, more) : send(what, more);
  request.done = done;
  const text = reason === "no contact" ? "not sent: no contact" : `refused: ${reason}`;
  if (reason) settle(request, false, text);
  return request;
}

// A button that would be refused is disabled and says why.
export function allow(button, what) {
  const reason = why(what);
  button.disabled = Boolean(reason);
  button.title = reason;
}

// Buttons of which one is chosen. A list that opens would keep Esc to itself.
export function choices(parent, options, pick) {
  parent.replaceChildren(...options.map(([value, text]) => {
    const button = document.createElement("button");
    button.value = value;
    button.textContent = text;
    button.onclick = () => pick(value);
    return button;
  }));
}

export function chosen(parent, value) {
  for (const button of parent.children) button.setAttribute("aria-pressed", button.value === value);
}

// By pointer with the press, and by everything else that clicks: keys, switches, screen readers.
export function bindUrgent() {
  for (const what of URGENT) {
    let pressed = -Infinity;
    $(what).onpointerdown = () => {
      pressed = performance.now();
      send(what);
    };
    $(what).onclick = () => {
      if (performance.now() - pressed > AGAIN) send(what); // a press and its click are one
    };
  }
}

// Ask for control of the robot, or give it to the page that asks.
export function bindControl() {
  $("ask").onclick = () => send("ask");
  $("give").onclick = () => send("give", { to: known.state.asked });
}

export function showControl() {
  const control = contact() ? known.state?.control : "";
  $("ask").hidden = control !== "other";
  const asked = control === "yours" ? known.state.asked : 0;
  $("give").hidden = !asked;
  if (asked) $("give").textContent = `Page ${asked} asks for control: give it`;
  document.body.dataset.control = control || "";
}
