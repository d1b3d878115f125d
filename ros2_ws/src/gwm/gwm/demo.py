"""``gwm demo``: the whole stack over live ROS 2 topics, a few episodes, and a table of what happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from gwm import messages
from gwm.graph import environment, graph, refuse_mixed_ros
from gwm.node import RELIABLE, now_ns
from gwm.supervise import Supervisor
from gwm_core import topics
from gwm_core.control.judge import judge
from gwm_core.data.episode import read_episode
from gwm_core.errors import InputError, one_of
from gwm_core.evaluate.statistics import interval
from gwm_core.sim.tasks import TIME_LIMIT, sample_layout

START_TIME = 90.0  # [s] for everything to come up on a slow machine


class GraphOver(RuntimeError):
    """The graph ended while the demo was running."""


class Operator(Node):
    """Stands where a person would: homes, arms, starts and ends episodes, and watches."""

    def __init__(self):
        super().__init__("operator")
        self.status: dict[str, str] = {}
        self.reports: dict[str, dict[str, str]] = {}
        self.result: dict = {}
        self.latencies: dict[int, float] = {}
        self.commands: list[tuple] = []
        self._episode = self.create_publisher(String, topics.SIM_EPISODE, RELIABLE)
        self.create_subscription(DiagnosticArray, topics.STATUS, self._on_status, RELIABLE)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_report, RELIABLE)
        self.create_subscription(String, topics.SIM_RESULT, self._on_result, RELIABLE)
        self.create_subscription(JointState, topics.COMMAND, self._on_command, RELIABLE)
        wishes = ("gate/arm", "gate/home", "gate/hold", "recorder/start", "recorder/save")
        self._wishes = {name: self.create_client(Trigger, name) for name in wishes}
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def _on_status(self, message) -> None:
        self.status = messages.read_diagnostics(message)["gate"]
        plan, latency = int(self.status["plan"]), float(self.status["latency_ms"])
        if plan and latency:
            self.latencies[plan] = latency

    def _on_report(self, message) -> None:
        self.reports |= messages.read_diagnostics(message)

    def _on_result(self, message) -> None:
        self.result = json.loads(message.data)

    def _on_command(self, m) -> None:
        self.commands.append((m.position[:7], m.velocity[:7], m.effort[:7], m.header.frame_id == "latched"))

    def wait(self, what: str, until, limit: float, poll) -> bool:
        """Spin until ``until()`` holds; False after ``limit`` seconds. Raises GraphOver when the graph ends."""
        deadline = time.monotonic() + limit
        while not until():
            self._executor.spin_once(timeout_sec=0.05)
            if over := poll():
                raise GraphOver(f"{over} while waiting for {what}")
            if time.monotonic() > deadline:
                return False
        return True

    def wish(self, name: str, poll) -> None:
        """Call a Trigger service; a refusal is an error that carries its reason."""
        client = self._wishes[name]
        self.wait(name, client.service_is_ready, 10.0, poll)
        future = client.call_async(Trigger.Request())
        if not self.wait(name, future.done, 15.0, poll):
            raise GraphOver(f"{name} did not answer")
        if not future.result().success:
            raise GraphOver(f"{name}: {future.result().message}")

    def lay(self, task: str, seed: int, difficulty: str) -> None:
        """Ask the simulation for an episode's layout."""
        wish = {"task": task, "seed": seed, "difficulty": difficulty}
        self._episode.publish(String(data=json.dumps(wish)))


def run_demo(args, policy: str) -> int:
    """Run the demo as the command line asks; returns the exit code."""
    refuse_mixed_ros()
    sample_layout(args.task, args.seed, args.difficulty)
    _check_policy(policy, args.task)
    out = Path(args.out) / time.strftime("%Y%m%d-%H%M%S")
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot write to {args.out}: {error.strerror}; choose another --out") from None
    nodes = graph(task=args.task, policy=policy, record=str(out))
    os.environ.update(environment())
    log = open(out / "nodes.log", "w")  # noqa: SIM115  lives as long as the graph
    supervisor = Supervisor(nodes, log)
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    operator = Operator()
    supervisor.start()
    idle = subprocess.Popen([sys.executable, "-m", "gwm.idle"], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        rows, before = _episodes(operator, supervisor, args)
        after = _counts(operator)
    except GraphOver as error:
        log.flush()
        tail = (out / "nodes.log").read_text().strip().splitlines()[-3:]
        raise InputError(f"the demo stopped: {error}; last lines of {out / 'nodes.log'}: " + " | ".join(tail)) from None
    finally:
        idle.terminate()
        supervisor.stop()
        operator.destroy_node()
        rclpy.try_shutdown()
    figures = _figures(operator, args, rows, before, after, json.loads(idle.communicate()[0]))
    figures["respawns"] = supervisor.respawns
    (out / "summary.json").write_text(json.dumps(figures, indent=1) + "\n")
    contact_sheet(out)
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")
    _table(figures, out)
    return 0


def _check_policy(policy: str, task: str) -> None:
    if policy != "expert":
        from gwm_core.model.checkpoint import load_policy

        one_of("task", task, load_policy(Path(policy)).config.tasks)


def _say(args, text: str, end: str = "\n") -> None:
    live = sys.stdout.isatty() and not args.headless
    if live:
        print(f"\r\033[K{text}", end=end, flush=True)
    elif end == "\n":
        print(text, flush=True)


def _episodes(operator: Operator, supervisor: Supervisor, args) -> tuple[list[dict], dict]:
    _say(args, "starting simulation, policy, gate and recorder ...")
    poll = supervisor.poll

    def ready() -> bool:
        reports = operator.reports
        return bool(operator.status) and all(
            reports.get(name, {}).get("ready") == "True" for name in ("sim", "policy")
        ) and "recorder" in reports

    if not operator.wait("start", ready, START_TIME, poll):
        missing = {"gate": operator.status, **{n: operator.reports.get(n) for n in ("sim", "policy", "recorder")}}
        raise GraphOver(f"not ready after {START_TIME:.0f} s: {[n for n, r in missing.items() if not r]}")
    _say(args, f"ready: renderer {operator.reports['sim']['renderer']}, policy {operator.reports['policy']['message']}")
    operator.wish("gate/arm", poll)
    before, rows = _counts(operator), []
    for i in range(args.episodes):
        seed = args.seed + i
        operator.wish("gate/home", poll)
        operator.wait("home", lambda: operator.status.get("cause") == "at home", 20.0, poll)
        operator.lay(args.task, seed, args.difficulty)
        operator.wait("layout", lambda: operator.result.get("seed") == seed, 5.0, poll)
        operator.wish("recorder/start", poll)
        operator.wish("gate/arm", poll)

        def over() -> bool:
            r = operator.result
            _say(args, f"episode {i + 1}/{args.episodes} seed {seed} {operator.status.get('state')} "
                       f"{r.get('seconds', 0):.1f} s, latency {operator.status.get('latency_ms')} ms", end="")
            return r.get("success") or r.get("seconds", 0) > TIME_LIMIT

        operator.wait("the episode", over, 3 * TIME_LIMIT, poll)
        operator.wish("gate/hold", poll)
        operator.wait("hold", lambda: operator.status.get("state") == "HOLD", 5.0, poll)
        operator.wish("recorder/save", poll)
        operator.wish("gate/arm", poll)
        rows.append(dict(operator.result))
        word = "success" if operator.result["success"] else "FAILED"
        _say(args, f"episode {i + 1}/{args.episodes} seed {seed}: {word} after {operator.result['seconds']:.1f} s")
    operator.wish("gate/hold", poll)
    settled = now_ns(operator)
    operator.wait("counts", lambda: now_ns(operator) - settled > 1.2e9, 3.0, poll)
    return rows, before


def _counts(operator: Operator) -> dict[str, dict[str, int]]:
    """Messages sent and received so far, by topic."""
    sim, policy = operator.reports["sim"], operator.reports["policy"]
    counts = {
        key[5:]: {"sent": int(value), "received": int(policy[f"received {key[5:]}"])}
        for key, value in sim.items()
        if key.startswith("sent ")
    }
    sent = int(operator.status["sent"])
    counts[topics.TARGET_JOINT] = {"sent": sent, "received": int(sim[f"received {topics.TARGET_JOINT}"])}
    counts[topics.COMMAND] = {"sent": sent, "received": len(operator.commands)}
    return counts


def _figures(operator: Operator, args, rows, before, after, idle) -> dict:
    q, dq, ddq, latched = (np.array(column) for column in zip(*operator.commands))
    verdict = judge(q, dq, ddq, latched)
    won, latency = sum(r["success"] for r in rows), sorted(operator.latencies.values())
    status = operator.status
    return {
        "task": args.task, "difficulty": args.difficulty, "seed": args.seed,
        "policy": operator.reports["policy"]["message"], "renderer": operator.reports["sim"]["renderer"],
        "episodes": len(rows), "successes": won, "ci95": list(interval(won, len(rows))),
        "seconds": [r["seconds"] for r in rows],
        "failed_seeds": [r["seed"] for r in rows if not r["success"]],
        "latency_ms": {
            "p50": float(np.percentile(latency, 50)), "p99": float(np.percentile(latency, 99)), "plans": len(latency),
            "deciles": [round(float(x), 1) for x in np.percentile(latency, range(0, 101, 10))],
        },
        "stages_ms": {k: float(v) for k, v in operator.reports["policy"].items() if k.endswith("_ms")},
        "gate": {
            "rate_hz": float(status["rate_hz"]), "late_fraction": int(status["late"]) / int(status["periods"]),
            "idle_late_fraction": idle["late_fraction"], "violations": verdict.total, "samples": verdict.samples,
            "limit_use": {k: round(v, 3) for k, v in verdict.use.items()},
            "stops": {k[6:]: int(v) for k, v in status.items() if k.startswith("stops ")},
            "refused": {k[8:]: int(v) for k, v in status.items() if k.startswith("refused ")},
        },
        "topics": {t: {k: after[t][k] - before[t][k] for k in after[t]} for t in after},
        "sim_slipped_s": float(operator.reports["sim"]["slipped_s"]),
    }  # fmt: skip


def contact_sheet(out: Path, columns: int = 6) -> Path | None:
    """A picture: one row per episode, frames of the first camera from begin to end."""
    import cv2

    rows = []
    for folder in sorted(out.glob("episode_*"))[:8]:
        if folder.name.endswith(".partial"):
            continue
        episode = read_episode(folder)
        camera = next(iter(episode.info["cameras"]))
        stream = episode.images[camera, "color"]
        picks = [stream[int(i)][1] for i in np.linspace(0, len(stream) - 1, columns)]
        images = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in picks]
        images = [image[: int(image.shape[0] * 0.92)] for image in images]
        word = "success" if episode.info.get("success") else "failed"
        text = f"seed {episode.info.get('seed')}: {word}, {episode.info.get('seconds', 0):.1f} s"
        cv2.putText(images[0], text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        rows.append(np.hstack([cv2.resize(image, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA) for image in images]))
    if not rows:
        return None
    cv2.imwrite(str(out / "contact_sheet.png"), np.vstack(rows))
    return out / "contact_sheet.png"


def _table(f: dict, out: Path) -> None:
    gate, latency = f["gate"], f["latency_ms"]
    lines = [
        ("successes", f"{f['successes']}/{f['episodes']}  [{f['ci95'][0]:.2f}, {f['ci95'][1]:.2f}] 95 %"),
        ("latency, frame to first command", f"p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms ({latency['plans']} plans)"),
        ("gate", f"{gate['rate_hz']:.2f} Hz, {100 * gate['late_fraction']:.2f} % of periods over 15 ms "
                 f"(idle loop beside it: {100 * gate['idle_late_fraction']:.2f} %)"),
        ("judge", f"{gate['violations']} violations in {gate['samples']} commands"),
        ("stops", ", ".join(f"{k} {v}" for k, v in gate["stops"].items()) or "none"),
    ]  # fmt: skip
    lines += [(t, f"{n['sent'] - n['received']} lost of {n['sent']}") for t, n in f["topics"].items()]
    width = max(len(name) for name, _ in lines)
    print(f"\n{f['task']} ({f['difficulty']}), policy {f['policy']}, simulation")
    print("\n".join(f"  {name:<{width}}  {text}" for name, text in lines))
    print(f"\nlog, summary.json and contact_sheet.png: {out}")
