// The setup page: collects the answers, and shows the workspace as each camera would see it.

const $ = (id) => document.getElementById(id);
const DATA = JSON.parse($("data").textContent);
const PAUSE = 250; // [ms] after the last key, before a picture is drawn anew
let timer = 0;

const words = (row) => row.map(Number).join(" ");
const numbers = (text) => text.trim().split(/[\s,]+/).map((word) => word === "" ? NaN : Number(word));

function options(select, names, chosen) {
  select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
}

function field(parent, text, kind, value) {
  const label = parent.appendChild(document.createElement("label"));
  label.append(`${text} `);
  const input = label.appendChild(document.createElement(kind));
  if (kind === "input") {
    input.value = value;
    input.autocomplete = "off";
  }
  return input;
}

// {entry(): [name, answers] or null, show()} of a camera
function cameraForm(camera, number) {
  const box = $("cameras").appendChild(document.createElement("fieldset"));
  const what = camera.serial ? `serial ${camera.serial}` : camera.prefix;
  box.appendChild(document.createElement("legend")).textContent = `Camera ${number + 1}: ${what}`;
  const row = box.appendChild(document.createElement("div"));
  row.className = "camera";
  const image = row.appendChild(document.createElement("img"));
  image.alt = `picture of camera ${number + 1} with the workspace drawn into it`;
  const form = row.appendChild(document.createElement("div"));
  const use = field(form, "use it", "input", "");
  use.type = "checkbox";
  use.checked = true;
  const name = field(form, "name", "input", camera.name);
  const mount = field(form, "it is on a stand (base) or on the hand", "select");
  options(mount, DATA.mounts, "base");
  const eye = field(form, "it is at x y z", "input", words(camera.eye));
  const target = field(form, "it looks at x y z", "input", words(camera.target));
  const answers = () => ({
    prefix: camera.prefix, serial: camera.serial, mount: mount.value,
    ...(mount.value === "base" ? { eye: numbers(eye.value), target: numbers(target.value) } : {}),
  });
  const show = async () => {
    eye.disabled = target.disabled = mount.value === "hand";
    const body = JSON.stringify({ camera: answers(), workspace: workspace() });
    const answer = await fetch(`/picture/${number}`, { method: "POST", body });
    if (!answer.ok) return say(await answer.text(), true);
    say("", false);
    const old = image.src;
    image.src = URL.createObjectURL(await answer.blob());
    if (old) URL.revokeObjectURL(old);
  };
  return { entry: () => use.checked ? [name.value, answers()] : null, show };
}

const workspace = () => ({ low: numbers($("low").value), high: numbers($("high").value) });

function say(text, bad) {
  $("said").textContent = text;
  $("said").className = bad ? "bad" : "";
}

function all() {
  return {
    robot: { type: $("type").value, ip: $("ip").value.trim() },
    cameras: Object.fromEntries(forms.map((form) => form.entry()).filter(Boolean)),
    workspace: workspace(),
    home: numbers($("home").value),
    profile: { name: $("profile").value, tcp_speed: Number($("speed").value) },
  };
}

async function write() {
  const names = forms.map((form) => form.entry()?.[0]).filter((name) => name !== undefined);
  if (new Set(names).size < names.length) return say("two cameras have one name", true);
  const answer = await fetch("/site", { method: "POST", body: JSON.stringify(all()) });
  say(await answer.text(), !answer.ok);
  $("write").disabled = answer.ok;
}

async function now() {
  const answer = await fetch("/home", { method: "POST", body: "{}" });
  if (answer.ok) $("home").value = words(await answer.json());
  else say(await answer.text(), true);
}

const { defaults } = DATA;
options($("type"), DATA.robots, defaults.robot.type);
options($("profile"), DATA.profiles, defaults.profile.name);
$("low").value = words(defaults.workspace.low);
$("high").value = words(defaults.workspace.high);
$("home").value = words(defaults.home);
$("speed").value = defaults.profile.tcp_speed;
const forms = DATA.cameras.map(cameraForm);
const show = () => forms.forEach((form) => form.show());
document.querySelector("main").addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(show, PAUSE);
});
$("write").onclick = write;
$("now").onclick = now;
show();
