"""``gwm demo``, ``up``, ``teleop``, ``doctor`` and ``test``."""

from __future__ import annotations

import argparse
import os
import textwrap

from gwm.cli.completion import graph_arguments
from gwm.graph.config import CONTROLLERS
from gwm.tools.terminal import (
    CALLED,
    POLICIES,
    TASKS,
    natural,
    positive,
    shipped,
    verb,
    writable,
    writable_folder,
)
from gwm_core.files.json_files import STDOUT


def add(verbs) -> None:
    """Declare the verbs."""
    _add_demo(verbs)
    _add_up(verbs)
    _add_others(verbs)


def _add_demo(verbs) -> None:
    p = verb(
        verbs,
        "demo",
        "Run the whole stack against the simulation over ROS 2, and print a table.",
        "gwm demo --episodes 5",
        demo,
    )
    p.add_argument("--episodes", type=int, default=5, help="episodes to run (default 5)")
    p.add_argument("--task", default="pick_place", help=f"{TASKS} (default pick_place)")
    p.add_argument("--difficulty", default="nominal", help="nominal or hard")
    p.add_argument("--seed", type=int, default=9000, help="first seed (default 9000)")
    p.add_argument("--policy", default=None, help=f"{POLICIES} (default: shipped)")
    p.add_argument(
        "--controller",
        default="crisp",
        help=f"{', '.join(CONTROLLERS)} (default crisp): docs/controllers.md",
    )
    p.add_argument(
        "--no-imagination",
        dest="imagination",
        action="store_false",
        help="do not predict the outcome of chunks",
    )
    p.add_argument("--headless", action="store_true", help="plain lines, no live status line")
    p.add_argument("--out", default="runs", help="folder for logs (default runs)")
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE")


def _add_up(verbs) -> None:
    p = verb(
        verbs, "up", "Start the graph and leave it running until Ctrl-C.", "gwm up robot:=sim", up
    )
    p.formatter_class, p.usage = (
        argparse.RawDescriptionHelpFormatter,
        "%(prog)s [-h] [NAME:=VALUE ...]",
    )
    p.description += f"\n\n{_arguments()}"
    p.add_argument(
        "arguments",
        nargs="*",
        metavar="NAME:=VALUE",
        help="as above; bringup.launch.py has the same",
    ).completer = graph_arguments


def _add_others(verbs) -> None:
    verb(
        verbs,
        "teleop",
        "Move the arm with this terminal's keyboard, beside `gwm up mode:=teleop"
        " device:=keyboard`.",
        "gwm teleop",
        teleop,
    )

    p = verb(
        verbs,
        "doctor",
        "Report what works on this machine, and how to mend what does not.",
        "gwm doctor",
        doctor,
    )
    p.add_argument(
        "--json", nargs="?", const=STDOUT, metavar="FILE", help="JSON alone, to FILE or stdout"
    )

    verb(verbs, "test", "Run the tests; further arguments go to pytest.", "gwm test -k gate", test)


def _arguments() -> str:
    """The arguments of the graph: name, default, meaning."""
    from gwm.graph.arguments import defaults, descriptions

    texts = descriptions()
    lines = []
    for name, value in defaults().items():
        shown = str(value).lower() if isinstance(value, bool) else value
        lines += textwrap.wrap(
            f"{name}:={shown}  {texts[name]}",
            100,
            initial_indent="  ",
            subsequent_indent=" " * 6,
            break_on_hyphens=False,
        )
    return "arguments and their defaults:\n" + "\n".join(lines)


def demo(args) -> int:
    from gwm.graph.config import GraphConfig
    from gwm.graph.environment import refuse_mixed_ros
    from gwm.graph.process_list import processes

    refuse_mixed_ros()
    positive("episodes", args.episodes)
    natural("seed", args.seed)
    writable(args.json)
    policy = args.policy or shipped()
    processes(GraphConfig(task=args.task, policy=policy, controller=args.controller))
    writable_folder(args.out)
    from gwm.tools.demo import run_demo

    return run_demo(args, policy)


def up(args) -> int:
    from gwm.graph.arguments import parse, preflight
    from gwm.graph.process_list import processes

    config = parse(args.arguments)
    nodes = processes(config)
    preflight(config)
    from gwm.process.supervisor import up

    return up(nodes)


def teleop(args) -> int:
    from gwm.graph.environment import refuse_mixed_ros

    refuse_mixed_ros()
    from gwm.tools.keyboard import drive

    return drive()


def doctor(args) -> int:
    writable(args.json)
    from gwm.doctor.report import report

    return report(args.json)


def test(args) -> int:
    import pytest

    from gwm.graph.environment import ROOT

    os.chdir(ROOT)
    os.environ.pop(CALLED, None)  # tests expect output that says gwm
    if args.passed_on:
        return int(pytest.main(args.passed_on))
    live = "tests/ros"  # in real time, and therefore alone
    # One process per core, with one thread each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    brief = ["-m", "not long"]
    parallel = [*brief, "--ignore", live, "--numprocesses", "auto", "--dist", "loadfile"]
    return int(pytest.main(parallel)) or int(pytest.main([*brief, live]))
