// Received pictures: the newest of each name, its age, and the plan that an imagined one is of.

import { contact, serverTime } from "/link.js";
import { gate, known } from "/known.js";

const OLD = 1000; // [ms] beyond which a live picture is no longer the present
const STEP = 100_000_000n; // [ns] between imagined pictures
const shown = {}; // name -> {stamp [ns], url}

// bytes: a name, a stamp [ns], a zero byte and a JPEG
export function receive(data) {
  const bytes = new Uint8Array(data);
  const end = bytes.indexOf(0);
  const [name, stamp] = new TextDecoder().decode(bytes.subarray(0, end)).split(" ");
  const jpeg = new Blob([bytes.subarray(end + 1)], { type: "image/jpeg" });
  const old = shown[name];
  shown[name] = { stamp: BigInt(stamp), url: URL.createObjectURL(jpeg) };
  for (const image of document.images) {
    if (image.dataset.name === name) image.src = shown[name].url;
  }
  if (old) setTimeout(() => URL.revokeObjectURL(old.url), 200);
}

// Let an <img> show the newest picture of a name.
export function attach(image, name) {
  image.dataset.name = name;
  if (shown[name]) image.src = shown[name].url;
  else image.removeAttribute("src");
}

// the id of the plan an imagined picture is of, "" for no picture
export function planOf(image) {
  const [, step] = image.dataset.name.match(/^h(\d+)\//) || [];
  const one = shown[image.dataset.name];
  return step && one ? String(one.stamp - BigInt(step) * STEP) : "";
}

// the one plan that all these imagined pictures are of, "" while they are of several or missing
export function commonPlan(images) {
  const plans = new Set([...images].map(planOf));
  return plans.size === 1 ? [...plans][0] : "";
}

// how the plan of an imagined picture stands: it waits, it runs, or it is an earlier one
export function standing(plan) {
  if (plan && plan === gate().waiting) return "waits";
  return plan && plan === gate().plan ? "runs" : "earlier";
}

// {passed [ms], old}: how old a picture is, and whether it must not be acted on. An imagined one is
// as old as the observation it was made from.
export function ageOf(image) {
  const one = shown[image.dataset.name];
  if (!one) return { passed: NaN, old: true };
  const plan = planOf(image);
  const stamp = plan ? BigInt(plan) : one.stamp;
  const passed = serverTime() - Number(stamp / 1000n) / 1000;
  const late = plan
    ? standing(plan) === "earlier" && passed > known.state?.plan_ms
    : passed > OLD;
  return { passed, old: !contact() || late };
}

export const aged = ({ passed }) =>
  Number.isNaN(passed) ? "none yet" : `${(passed / 1000).toFixed(passed < 995 ? 2 : 1)} s old`;
