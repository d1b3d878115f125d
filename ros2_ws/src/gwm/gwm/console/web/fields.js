// What the task wants to know of every episode, before its verdict. Entries stay for the next one.

import { $, known } from "/known.js";
import { choices, chosen } from "/commands.js";

let drawn = ""; // names and choices
const entries = new Map();

export function showFields({ fields }) {
  if (drawn !== JSON.stringify(fields)) build(fields);
}

function enter(name, value) {
  entries.set(name, value);
  known.unfilled = [...entries].filter(([, filled]) => !filled).map(([of]) => of);
}

function build(fields) {
  drawn = JSON.stringify(fields);
  entries.clear();
  known.unfilled = [];
  $("fields").replaceChildren(...Object.entries(fields).map(([name, options]) => {
    enter(name, options.length ? "" : stored(name));
    const field = document.createElement("span");
    field.className = "field row";
    field.append(`${name} `, options.length ? group(name, options) : entry(name));
    return field;
  }));
}

function group(name, options) {
  const parent = document.createElement("span");
  parent.className = "choices";
  parent.setAttribute("role", "group");
  parent.setAttribute("aria-label", name);
  const pick = (value) => {
    enter(name, value);
    chosen(parent, value);
  };
  choices(parent, options.map((value) => [value, value]), pick);
  pick(options.includes(stored(name)) ? stored(name) : "");
  return parent;
}

function entry(name) {
  const input = document.createElement("input");
  input.maxLength = 60; // as of a field in a site file
  input.autocomplete = "off";
  input.setAttribute("aria-label", name);
  input.value = entries.get(name);
  input.oninput = () => enter(name, input.value.trim());
  input.onkeydown = (event) => event.key === "Enter" && !event.isComposing && input.blur();
  return input;
}

const stored = (name) => localStorage.getItem(`field ${name}`) ?? "";

// what goes with a verdict
export function filledIn() {
  for (const [name, value] of entries) localStorage.setItem(`field ${name}`, value);
  return entries.size ? { fields: Object.fromEntries(entries) } : {};
}
