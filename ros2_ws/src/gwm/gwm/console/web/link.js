"use strict";
// The page's side of the socket: received states and their age, requests and their outcomes.
// STOP and HOLD are sent with the press, repeated until they are answered, and sent first on a new connection.

const QUIET = 500, UNCONFIRMED = 300, OFTEN = 10, RARELY = 2000, SAMPLES = 50, MAX_REQUESTS = 50; // [ms], [ms], times, [ms]
const URGENT = ["stop", "hold"], UNANSWERED = ["here", "beat", "joy"];
const link = { socket: null, frame: 0, heard: performance.now(), clocks: [], lost: "", broken: "" };
const requests = []; // {id, what, at, ok: null until it is answered, text, ...}, the newest last
let requestCount = 0;

const quiet = () => performance.now() - link.heard; // [ms] since the last state
const contact = () => link.socket?.readyState === WebSocket.OPEN && quiet() <= QUIET;
// [ms] by the clock of the stamps, with the offset of the message that was the fastest
const serverTime = () => link.clocks.length ? performance.now() + Math.max(...link.clocks) : NaN;

function connect(onState, onPicture) {
  const base = location.pathname === "/look" ? "/look" : "";
  const socket = link.socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${base}/socket`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    link.frame = 0;
    link.clocks = [];
    for (const request of requests) if (request.ok === null) transmit(request);
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
    for (const request of requests) if (request.ok === null && !URGENT.includes(request.what)) settle(request, false, "the connection was lost before an answer came: look at what was done");
    ask();
    setTimeout(() => connect(onState, onPicture), 1000);
  };
}

// Find out why the socket was closed: another start of the graph has another address.
async function ask() {
  const answer = await fetch("/console.css").catch(() => null);
  if (answer) link.lost = answer.status === 401 ? "this page's address is no longer valid; reload it to be told where the new one is" : "";
}

function send(what, more = {}) {
  const urgent = URGENT.includes(what);
  if (UNANSWERED.includes(what)) {
    if (contact()) link.socket.send(JSON.stringify({ do: what, frame: link.frame, ...more }));
    return null;
  }
  const request = (urgent && requests.find((w) => w.what === what && w.ok === null)) || addRequest(what, more);
  if (urgent || contact()) transmit(request); else settle(request, false, "not sent: no contact");
  return request;
}

function addRequest(what, more = {}) {
  const request = { id: ++requestCount, what, more, at: performance.now(), tried: -Infinity, times: 0, ok: null, text: "", done: null };
  requests.push(request);
  const old = requests.findIndex((w) => w.ok !== null);
  if (requests.length > MAX_REQUESTS && old >= 0) requests.splice(old, 1);
  return request;
}

function transmit(request) {
  if (link.socket?.readyState !== WebSocket.OPEN) return;
  link.socket.send(JSON.stringify({ do: request.what, id: request.id, frame: link.frame, ...request.more }));
  request.tried = performance.now();
  request.times += 1;
}

function answered({ answer, ok, text }) {
  const request = requests.find((w) => w.id === answer && w.ok === null);
  if (request) settle(request, ok, `${ok ? "done" : "refused"}${text ? `: ${text}` : ""}`);
}

function settle(request, ok, text) {
  request.ok = ok;
  request.text = text;
  if (ok && request.done) request.done();
}

// Every 100 ms: repeat urgent requests without an answer.
function repeat() {
  for (const request of requests) {
    const after = request.times < OFTEN ? UNCONFIRMED : RARELY;
    if (request.ok === null && URGENT.includes(request.what) && performance.now() - request.tried > after) transmit(request);
  }
}

const seconds = (ms) => `${(ms / 1000).toFixed(ms < 10000 ? 1 : 0)} s`;

function describe(request) {
  const waits = `${request.times ? "sent" : "not sent yet"}, no answer for ${seconds(performance.now() - request.at)}`;
  return `${request.what}: ${request.ok === null ? waits : request.text}`;
}
