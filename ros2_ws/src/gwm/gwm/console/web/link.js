"use strict";
// The page's side of the socket: what came and how old it is; what was wished for and what came of it.
// STOP and HOLD leave with the press, are sent again until they are answered, and first of all on a new connection.

const QUIET = 500, UNCONFIRMED = 300, OFTEN = 10, RARELY = 2000, SAMPLES = 50, KEPT = 50; // [ms], [ms], times, [ms]
const URGENT = ["stop", "hold"], UNTOLD = ["here", "beat", "joy"];
const link = { socket: null, frame: 0, heard: performance.now(), clocks: [], lost: "", broken: "" };
const wishes = []; // {id, what, at, ok: null until it is answered, text, ...}, the newest last
let wished = 0;

const quiet = () => performance.now() - link.heard; // [ms] since the last state
const contact = () => link.socket?.readyState === WebSocket.OPEN && quiet() <= QUIET;
// [ms] by the clock of the stamps: the offset of the message that was the least time on its way
const serverTime = () => link.clocks.length ? performance.now() + Math.max(...link.clocks) : NaN;

function connect(onState, onPicture) {
  const base = location.pathname === "/look" ? "/look" : "";
  const socket = link.socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${base}/socket`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    link.frame = 0;
    link.clocks = [];
    for (const wish of wishes) if (wish.ok === null) transmit(wish);
  };
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") return onPicture(data);
    const message = JSON.parse(data);
    if ("answer" in message) return answered(message);
    link.clocks = [...link.clocks.slice(1 - SAMPLES), message.now - performance.now()];
    onState(message);
    link.frame = message.frame;
    link.heard = performance.now();
    link.lost = "";
    socket.send(JSON.stringify({ do: "here", frame: link.frame })); // only now the next frame is sent
  };
  socket.onclose = () => {
    for (const wish of wishes) if (wish.ok === null && !URGENT.includes(wish.what)) settle(wish, false, "the connection was lost before an answer came: look at what was done");
    ask();
    setTimeout(() => connect(onState, onPicture), 1000);
  };
}

// why it was closed: another start of the graph has another address
async function ask() {
  const answer = await fetch("/console.css").catch(() => null);
  if (answer) link.lost = answer.status === 401 ? "this page's address is no longer valid; reload it to be told where the new one is" : "";
}

function send(what, more = {}) {
  const urgent = URGENT.includes(what);
  if (UNTOLD.includes(what)) {
    if (contact()) link.socket.send(JSON.stringify({ do: what, frame: link.frame, ...more }));
    return null;
  }
  const wish = (urgent && wishes.find((w) => w.what === what && w.ok === null)) || noted(what, more);
  if (urgent || contact()) transmit(wish); else settle(wish, false, "not sent: no contact");
  return wish;
}

function noted(what, more = {}) {
  const wish = { id: ++wished, what, more, at: performance.now(), tried: -Infinity, times: 0, ok: null, text: "", done: null };
  wishes.push(wish);
  const old = wishes.findIndex((w) => w.ok !== null);
  if (wishes.length > KEPT && old >= 0) wishes.splice(old, 1);
  return wish;
}

function transmit(wish) {
  if (link.socket?.readyState !== WebSocket.OPEN) return;
  link.socket.send(JSON.stringify({ do: wish.what, id: wish.id, frame: link.frame, ...wish.more }));
  wish.tried = performance.now();
  wish.times += 1;
}

function answered({ answer, ok, text }) {
  const wish = wishes.find((w) => w.id === answer && w.ok === null);
  if (wish) settle(wish, ok, `${ok ? "done" : "refused"}${text ? `: ${text}` : ""}`);
}

function settle(wish, ok, text) {
  wish.ok = ok;
  wish.text = text;
  if (ok && wish.done) wish.done();
}

// every 100 ms: what must be heard is said again
function repeat() {
  for (const wish of wishes) {
    const after = wish.times < OFTEN ? UNCONFIRMED : RARELY;
    if (wish.ok === null && URGENT.includes(wish.what) && performance.now() - wish.tried > after) transmit(wish);
  }
}

const seconds = (ms) => `${(ms / 1000).toFixed(ms < 10000 ? 1 : 0)} s`;

function told(wish) {
  const waits = `${wish.times ? "sent" : "not sent yet"}, no answer for ${seconds(performance.now() - wish.at)}`;
  return `${wish.what}: ${wish.ok === null ? waits : wish.text}`;
}
