// The page's side of the socket: received states and their age, requests and their outcomes.
// STOP and HOLD are sent with the press, repeated until they are answered, and sent first on a new
// connection.

export const QUIET = 500; // [ms] without a state, after which there is no contact
export const UNCONFIRMED = 300; // [ms] after which STOP or HOLD is sent again
export const URGENT = ["stop", "hold"];
const OFTEN = 10, RARELY = 2000; // times at that interval, then [ms]
const SAMPLES = 50, MAX_REQUESTS = 50;
const UNANSWERED = ["here", "beat", "joy"];

export const link = { socket: null, frame: 0, heard: performance.now(), clocks: [], lost: "" };
// {id, what, more, at, tried, times, ok: null until it is answered, text, done}, the newest last
export const requests = [];
let requestCount = 0;

export const quiet = () => performance.now() - link.heard; // [ms] since the last state
export const contact = () => link.socket?.readyState === WebSocket.OPEN && quiet() <= QUIET;
export const seconds = (ms) => `${(ms / 1000).toFixed(ms < 10000 ? 1 : 0)} s`;

// [ms] by the clock of the stamps, with the offset of the message that was the fastest
export function serverTime() {
  return link.clocks.length ? performance.now() + Math.max(...link.clocks) : NaN;
}

export function connect(onState, onPicture) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const base = location.pathname === "/look" ? "/look" : "";
  const socket = new WebSocket(`${scheme}://${location.host}${base}/socket`);
  link.socket = socket;
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
    socket.send(JSON.stringify({ do: "here", frame: link.frame })); // only now the next one comes
  };
  socket.onclose = () => {
    const open = requests.filter((r) => r.ok === null && !URGENT.includes(r.what));
    const lost = "the connection was lost before an answer came: look at what was done";
    for (const request of open) settle(request, false, lost);
    ask();
    setTimeout(() => connect(onState, onPicture), 1000);
  };
}

// Find out why the socket was closed: another start of the graph has another address.
async function ask() {
  const answer = await fetch("/console.css").catch(() => null);
  if (!answer) return;
  const gone = "this page's address is no longer valid; reload it to be told where the new one is";
  link.lost = answer.status === 401 ? gone : "";
}

export function send(what, more = {}) {
  const urgent = URGENT.includes(what);
  if (UNANSWERED.includes(what)) {
    const message = { do: what, frame: link.frame, ...more };
    if (contact()) link.socket.send(JSON.stringify(message));
    return null;
  }
  const waits = urgent && requests.find((r) => r.what === what && r.ok === null);
  const request = waits || addRequest(what, more);
  if (urgent || contact()) transmit(request);
  else settle(request, false, "not sent: no contact");
  return request;
}

export function addRequest(what, more = {}) {
  requestCount += 1;
  const request = {
    id: requestCount, what, more, at: performance.now(), tried: -Infinity, times: 0, ok: null,
    text: "", done: null,
  };
  requests.push(request);
  const old = requests.findIndex((r) => r.ok !== null);
  if (requests.length > MAX_REQUESTS && old >= 0) requests.splice(old, 1);
  return request;
}

function transmit(request) {
  if (link.socket?.readyState !== WebSocket.OPEN) return;
  const { what, id, more } = request;
  link.socket.send(JSON.stringify({ do: what, id, frame: link.frame, ...more }));
  request.tried = performance.now();
  request.times += 1;
}

function answered({ answer, ok, text }) {
  const request = requests.find((r) => r.id === answer && r.ok === null);
  if (request) settle(request, ok, `${ok ? "done" : "refused"}${text ? `: ${text}` : ""}`);
}

export function settle(request, ok, text) {
  request.ok = ok;
  request.text = text;
  request.answeredAt = performance.now();
  if (ok && request.done) request.done();
}

// Every 100 ms: repeat urgent requests without an answer.
export function repeat() {
  for (const request of requests) {
    const after = request.times < OFTEN ? UNCONFIRMED : RARELY;
    const waits = request.ok === null && URGENT.includes(request.what);
    if (waits && performance.now() - request.tried > after) transmit(request);
  }
}

export function describe(request) {
  const age = seconds(performance.now() - request.at);
  const waits = `${request.times ? "sent" : "not sent yet"}, no answer for ${age}`;
  return `${request.what}: ${request.ok === null ? waits : request.text}`;
}
