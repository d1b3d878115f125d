"""``gwm demo``: run a few episodes of the whole stack over live ROS 2 topics, and print a table."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

from gwm.console.address import to_say
from gwm.graph.config import GraphConfig
from gwm.graph.process_list import processes
from gwm.process.session import INTERRUPTED, IdleLoop, ending, live
from gwm.process.usage import ProcessorShares
from gwm.ros.operator_client import GraphEnded, OperatorClient, RequestFailed
from gwm.tools.demo_report import DemoRun, demo_figures, message_counts, outcome_text, print_table
from gwm.tools.terminal import say_next
from gwm_core.address import is_remote
from gwm_core.data.contact_sheet import contact_sheet
from gwm_core.data.episode_info import list_unfinished
from gwm_core.errors import InputError, one_of
from gwm_core.files.json_files import write_json
from gwm_core.gate_status import State
from gwm_core.model.weights_file import read_weights
from gwm_core.runtime.bundle import is_bundle
from gwm_core.runtime.graphs.backends import choose
from gwm_core.runtime.graphs.compile import compiled, load
from gwm_core.runtime.imagined_world import GRAPHS
from gwm_core.sim.tasks import TIME_LIMIT, sample_layout

START_TIME = 180.0  # [s] for everything to come up on a slow machine


def run_demo(args, policy: str) -> int:
    """Run the demo. Returns 0 where every episode ended and no limit was violated."""
    figures, out = drive(args, policy)
    if args.json:
        write_json(args.json, figures)
    print_table(figures)
    if any(out.glob("episode_*[0-9]")):
        contact_sheet(out)
        say_next(f"gwm replay {out} --html replay.html")
    print(f"\nlog, summary.json and what was recorded: {out}")
    for path in list_unfinished(out):
        print(f"{path}.partial was not saved: `gwm data recover {path}.partial`")
    return figures["code"]


def drive(args, policy: str, idle_time: float = 0.0) -> tuple[dict, Path]:
    """Start the graph, run the episodes and end the graph.

    Args:
        idle_time: [s] that the graph does nothing before the first episode.

    Returns:
        the figures, and the folder with them in ``summary.json``. Failures are in ``trouble``,
        ``rows`` and the exit ``code``.
    """
    sample_layout(args.task, args.seed, args.difficulty)
    config = GraphConfig(
        task=args.task, policy=policy, imagination=args.imagination, controller=args.controller
    )
    nodes = processes(config)
    imagine = any(node.name == "imagination" for node in nodes)
    _check_policy(policy, args.task, imagine)
    out = Path(args.out) / time.strftime("%Y%m%d-%H%M%S")
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"cannot write to {args.out}: {error.strerror}; choose another --out"
        ) from None
    nodes = processes(replace(config, record=str(out)))
    run, idle = DemoRun(), IdleLoop()
    with ending() as end, idle, live(nodes, out / "nodes.log") as (operator, supervisor):
        run.begun = True
        if any(node.name == "sim_cameras" for node in nodes):
            operator.required_nodes += ("sim_cameras",)
        operator.say = lambda text: _say(args, f"  {text}")
        _start(run, operator, supervisor, args, out / "console.url")
        _wait_idle(run, operator, supervisor, idle_time)
        _episodes(run, operator, supervisor, args)
    if not run.begun:
        raise end.error
    figures = demo_figures(operator, args, run, idle.figures) | {
        "trouble": end.trouble,
        "respawns": supervisor.respawns,
    }
    all_ended = figures["episodes"] == args.episodes and not any(row["trouble"] for row in run.rows)
    well = all_ended and not figures["gate"]["violations"]
    figures["code"] = (
        INTERRUPTED if end.code == INTERRUPTED else supervisor.code or end.code or int(not well)
    )
    write_json(out / "summary.json", figures)
    return figures, out


def _check_policy(policy: str, task: str, imagine: bool) -> None:
    """Raise InputError where the policy lacks the task; compile what is not compiled yet."""
    if policy == "expert" or is_remote(policy):
        return
    folder = Path(policy)
    one_of("task", task, read_weights(folder, "policy").config.tasks)
    if not is_bundle(folder):
        return
    graphs = {"chunk": "auto"}
    if imagine:
        graphs |= dict.fromkeys(GRAPHS, "coarse")
    for name, precision in graphs.items():
        runtime = choose("auto", precision)
        if not compiled(folder, name, *runtime):
            print(f"compiling {name} for this machine, once ...", flush=True)
            load(folder, name, *runtime, threads=1)


def _say(args, text: str, end: str = "\n") -> None:
    live = sys.stdout.isatty() and not args.headless
    if live:
        print(f"\r\033[K{text}", end=end, flush=True)
    elif end == "\n":
        print(text, flush=True)


def _start(run: DemoRun, operator: OperatorClient, supervisor, args, page: Path) -> None:
    """Wait for the graph. Raises RequestFailed where it does not come up."""
    poll = supervisor.poll_all
    _say(args, "starting simulation, policy, gate and recorder ...")
    if not operator.wait("start", lambda: operator.ready, START_TIME, poll):
        raise RequestFailed(f"not ready after {START_TIME:.0f} s: {', '.join(operator.missing)}")
    _say(
        args,
        f"ready: renderer {operator.simulation['renderer']}, policy"
        f" {operator.reports['policy']['policy']}",
    )
    if page.exists():
        _say(args, f"watch, hold and stop it at {to_say(page)}")
    run.before = _rest_and_count(operator, poll)


def _wait_idle(run: DemoRun, operator: OperatorClient, supervisor, seconds: float) -> None:
    """Measure the graph while it does nothing."""
    if seconds:
        shares = ProcessorShares(lambda: supervisor.processes)
        operator.wait("the idle time", lambda: False, seconds, supervisor.poll_all)
        run.cores["idle"] = shares.until_now()


def _episodes(run: DemoRun, operator: OperatorClient, supervisor, args) -> None:
    """Run all episodes and count messages after them. Raises RequestFailed at the graph's end."""
    poll = supervisor.poll_all
    shares = ProcessorShares(lambda: supervisor.processes)
    for number in range(args.episodes):
        seed = args.seed + number
        label = f"episode {number + 1}/{args.episodes} seed {seed}"
        run.rows.append(
            {"seed": seed, "success": None, "seconds": None, "why": "interrupted", "trouble": False}
        )
        try:
            _episode(run.rows[-1], operator, args, label, poll)
        except RequestFailed as error:
            run.rows[-1] |= {"why": str(error), "trouble": True}
            if isinstance(error, GraphEnded):
                raise
        _say(args, f"{label}: {outcome_text(run.rows[-1])}")
        run.cores["episodes"] = shares.until_now()
    operator.request("gate/stop", poll)
    operator.require("rest", lambda: operator.state is State.DISARMED, 5.0, poll)
    run.after = _rest_and_count(operator, poll)


def _rest_and_count(operator: OperatorClient, poll) -> dict[str, dict[str, int]]:
    """Count messages with the gate disarmed and the cameras off, when none is on its way."""
    operator.enable_cameras(False)
    operator.wait("the last counts", lambda: False, 1.5, poll)
    counts = message_counts(operator)
    operator.enable_cameras(True)
    return counts


def _episode(row: dict, operator: OperatorClient, args, label: str, poll) -> None:
    """Home, place the objects, record, run until success or the time limit, hold, save.

    It fills ``row`` as it proceeds.
    """
    operator.home(poll)
    operator.reset_simulation(args.task, row["seed"], args.difficulty)
    operator.require("layout", lambda: operator.result.get("seed") == row["seed"], 5.0, poll)
    operator.record(poll)
    operator.arm(poll)

    def over() -> bool:
        seconds, status = operator.result["seconds"], operator.status
        _say(
            args,
            f"{label} {status.state.name} {seconds:.1f} s, latency {status.latency_ms:.2f} ms",
            end="",
        )
        return operator.result["success"] or seconds > TIME_LIMIT or status.state is State.FAULT

    operator.require("end of the episode", over, 3 * TIME_LIMIT, poll)
    fault = operator.state is State.FAULT
    row["success"] = operator.result["success"] and not fault
    row["seconds"] = operator.result["seconds"]
    row["why"] = (
        f"fault: {operator.status.cause}" if fault else "" if row["success"] else "not done in time"
    )
    operator.hold(poll)
    operator.request("recorder/save", poll)
