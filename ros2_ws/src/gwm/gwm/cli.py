"""The ``gwm`` command. Bad input is one line on stderr and exit 2; everything else is in the verbs' modules."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from gwm_core.errors import InputError

DEMO_POLICY = "models/demo"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise InputError(f"{message} (see `{self.prog} --help`)")


def _verb(verbs, name: str, help_: str, example: str, run):
    parser = verbs.add_parser(
        name, help=help_, description=help_, epilog=f"example: {example}", formatter_class=argparse.HelpFormatter
    )
    parser.set_defaults(run=run)
    return parser


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _parser() -> _Parser:
    parser = _Parser(prog="gwm", description="Gaussian World Models on a Franka arm: simulate, collect, train, run.")
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=_Parser)
    tasks = "lift, pick_place or stack"

    p = _verb(verbs, "demo", "Run the whole stack against the simulation over ROS 2 and print a table.",
              "gwm demo --episodes 5", _demo)  # fmt: skip
    p.add_argument("--episodes", type=int, default=5, help="episodes to run (default 5)")
    p.add_argument("--task", default="pick_place", help=f"{tasks} (default pick_place)")
    p.add_argument("--difficulty", default="nominal", help="nominal or hard")
    p.add_argument("--seed", type=int, default=9000, help="first seed (default 9000)")
    p.add_argument("--policy", default=None, help="policy folder, or expert for the scripted one (default: shipped)")
    p.add_argument("--headless", action="store_true", help="plain lines, no live status line")
    p.add_argument("--out", default="runs", help="folder for logs (default runs)")
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE")

    p = _verb(verbs, "up", "Start the graph and leave it running until Ctrl-C.", "gwm up robot:=sim", _up)
    p.add_argument("arguments", nargs="*", metavar="NAME:=VALUE", help="the same arguments as bringup.launch.py")

    p = _verb(verbs, "collect", "Record demonstrations of the scripted expert in simulation, without ROS.",
              "gwm collect --task pick_place --episodes 200 --out data/pick --seed 0", _collect)  # fmt: skip
    p.add_argument("--task", required=True, help=tasks)
    p.add_argument("--episodes", type=int, default=200)
    p.add_argument("--out", required=True, help="folder for the episodes; an interrupted collection goes on")
    p.add_argument("--seed", type=int, default=0, help="first seed; 0-3999 are for training")
    p.add_argument("--difficulty", default="nominal", help="nominal or hard")
    p.add_argument("--processes", type=int, default=_cores())

    kinds = _verb(verbs, "train", "Train a network.", "gwm train policy --data data/pick --out models/mine", None)
    kinds = kinds.add_subparsers(metavar="WHAT", required=True, parser_class=_Parser)
    p = _verb(kinds, "policy", "Train a policy on recorded episodes; an interrupted run goes on.",
              "gwm train policy --data data --config demo --out models/mine", _train)  # fmt: skip
    p.add_argument("--data", nargs="+", required=True, help="folders with episodes")
    p.add_argument("--out", required=True, help="folder for the trained policy")
    p.add_argument("--config", default="demo", help="demo or tiny")
    p.add_argument("--iterations", type=int, help="instead of the configuration's")
    p.add_argument("--batch", type=int, help="instead of the configuration's")
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument("--processes", type=int, default=_cores(), help="for lifting the images")

    kinds = _verb(verbs, "eval", "Measure success.", "gwm eval policy --task lift --trials 20", None)
    kinds = kinds.add_subparsers(metavar="WHAT", required=True, parser_class=_Parser)
    p = _verb(kinds, "policy", "Success rate in simulation without ROS, deterministic for a seed.",
              "gwm eval policy --task pick_place --trials 100 --seed 5000 --json out.json", _eval)  # fmt: skip
    p.add_argument("--task", required=True, help=tasks)
    p.add_argument("--trials", type=int, default=100)
    p.add_argument("--seed", type=int, default=5000, help="first seed; 4000-4099 choose, 5000 and up report")
    p.add_argument("--difficulty", default="nominal", help="nominal or hard")
    p.add_argument("--policy", default=None, help="policy folder, or expert (default: shipped)")
    p.add_argument("--latency", default="measured", help="milliseconds, or measured (default)")
    p.add_argument("--replan-every", type=int, default=4, help="rows between observations (default 4)")
    p.add_argument("--processes", type=int, default=_cores())
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE")

    p = _verb(verbs, "calibrate", "Find where a camera is with a ChArUco board and write it into the site file, whose "
              "comments and other entries stay; or check that it still is there (exit 0 yes, 1 no).",
              "gwm calibrate --camera front --mount base, then gwm calibrate --check --camera front",
              _calibrate)  # fmt: skip
    p.add_argument("--camera", metavar="NAME", help="in the site file; one that is not there yet is added")
    p.add_argument("--mount", help="base: fixed camera, board on the hand; hand: camera on the hand, fixed board")
    p.add_argument("--views", metavar="DIR", help="saved views (docs/calibration.md); else they are taken live")
    p.add_argument("--board", default="7x5:0.04:0.03:DICT_4X4_50", help="COLUMNSxROWS:SQUARE:MARKER:DICTIONARY [m]")
    p.add_argument("--site", metavar="PATH", help="site file (default ~/.config/gwm/site.yaml)")
    p.add_argument("--prefix", help="topic prefix of a camera that is added (default camera/NAME)")
    p.add_argument("--check", action="store_true", help="look at one view, by the arm's own body or by a board")
    p.add_argument("--board-pose", metavar="POSE", help="with --check: x,y,z,roll,pitch,yaw of the board in the base "
                   "frame [m, degrees], or 'stored' for where the calibration found it")  # fmt: skip
    p.add_argument("--print-board", metavar="FILE.png", help="write the board as an A4 page and end")
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE")

    p = _verb(verbs, "doctor", "Say what works on this machine and how to mend what does not.", "gwm doctor", _doctor)
    p.add_argument("--json", action="store_true", help="print JSON")

    _verb(verbs, "test", "Run the tests; what follows is passed on to pytest.", "gwm test -k gate", _test)
    return parser


def _shipped() -> str:
    from gwm.graph import share

    return str(share(DEMO_POLICY))


def _renderer() -> str:
    from gwm_core.sim.camera import choose_renderer

    return choose_renderer()


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise InputError(f"--{name} must be 1 or more, got {value}")
    return value


def _writable(path: str | None) -> None:
    """Raise InputError now rather than lose the figures of a long run."""
    if path:
        existed = Path(path).exists()
        try:
            with open(path, "a"):
                pass
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None
        if not existed:
            Path(path).unlink()


class _Bar:
    """A progress bar on a terminal, a plain line every tenth elsewhere."""

    def __init__(self, total: int, what: str):
        from tqdm import tqdm

        self._plain, self._total, self._done, self._what = not sys.stderr.isatty(), total, 0, what
        self._bar = tqdm(total=total, desc=what, disable=self._plain)

    def to(self, done: int, note: str = "") -> None:
        if self._plain and (done * 10 // self._total > self._done * 10 // self._total or done == self._total):
            print(f"{self._what}: {done}/{self._total} {note}", file=sys.stderr, flush=True)
        self._bar.update(done - self._done)
        self._bar.set_postfix_str(note)
        self._done = done

    def step(self, note: str = "") -> None:
        self.to(self._done + 1, note)


def _demo(args) -> int:
    from gwm.graph import refuse_mixed_ros

    refuse_mixed_ros()
    _positive("episodes", args.episodes)
    _writable(args.json)
    from gwm.demo import run_demo

    return run_demo(args, args.policy or _shipped())


def _up(args) -> int:
    from gwm.graph import graph, parse, refuse_mixed_ros

    refuse_mixed_ros()
    nodes = graph(**parse(args.arguments))
    from gwm.supervise import up

    return up(nodes)


def _collect(args) -> int:
    from gwm_core.learn.collect import CollectConfig, collect

    config = CollectConfig(
        args.task, Path(args.out), _positive("episodes", args.episodes), args.seed, args.difficulty, _renderer()
    )
    bar = _Bar(args.episodes, f"collect {args.task}")
    failed = collect(config, _positive("processes", args.processes), lambda ok: bar.step())
    print(f"{args.episodes - failed} episodes in {args.out}, {failed} left out because the expert failed")
    return 0


def _train(args) -> int:
    import torch

    from gwm_core.learn.dataset import load_samples
    from gwm_core.learn.train import train
    from gwm_core.model.config import named_config

    if args.device not in ("cpu", "cuda") or (args.device == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"device '{args.device}' is not there: valid are cpu{', cuda' * torch.cuda.is_available()}")
    policy_config, config = named_config(args.config)
    if args.iterations is not None:
        config = replace(config, iterations=_positive("iterations", args.iterations))
    if args.batch is not None:
        config = replace(config, batch=_positive("batch", args.batch))
    try:
        Path(args.out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {args.out}: {error.strerror}; choose another --out") from None
    bar: list[_Bar] = []

    def lifted(done: int, total: int) -> None:
        bar or bar.append(_Bar(total, "lift"))
        bar[0].to(done)

    samples = load_samples(
        [Path(d) for d in args.data],
        policy_config.tasks,
        policy_config.lift,
        _positive("processes", args.processes),
        lifted,
    )
    learning = _Bar(config.iterations, "train")

    def learned(done: int, total: int, figures: dict) -> None:
        learning.to(done, " ".join(f"{name} {value:.4g}" for name, value in figures.items()))

    command = "gwm train policy " + " ".join(sys.argv[3:])
    figures = train(samples, policy_config, config, Path(args.out), {"command": command}, args.device, learned)
    print(f"{args.out}: held-out position error {figures['position_mm']:.1f} mm")
    return 0


def _eval(args) -> int:
    import time

    from gwm_core.evaluate.statistics import interval
    from gwm_core.learn.evaluate import EvalConfig, evaluate
    from gwm_core.rollout import MEASURED_LATENCY, trials_hash

    _writable(args.json)
    latency = MEASURED_LATENCY
    if args.latency != "measured":
        try:
            latency = (float(args.latency) / 1000,)
        except ValueError:
            raise InputError(f"--latency takes milliseconds or 'measured', got '{args.latency}'") from None
        if not 0 <= latency[0] <= 0.45:
            raise InputError(f"--latency must lie in 0-450 ms, got {args.latency}")
    config = EvalConfig(
        args.task, args.policy or _shipped(), _positive("trials", args.trials), args.seed, args.difficulty,
        latency, _positive("replan-every", args.replan_every), _renderer(),
    )  # fmt: skip
    bar, begun, won = _Bar(args.trials, f"eval {args.task}"), time.monotonic(), []
    trials = evaluate(
        config, _positive("processes", args.processes), lambda t: (won.append(t.success), bar.step(f"{sum(won)} ok"))
    )
    seconds = (time.monotonic() - begun) / len(trials)
    low, high = interval(sum(won), len(won))
    figures = {
        "task": args.task, "difficulty": args.difficulty, "policy": config.policy, "seed": args.seed,
        "trials": len(won), "successes": sum(won), "ci95": [low, high], "seconds_per_trial": seconds,
        "violations": sum(t.violations for t in trials), "failed_seeds": [t.seed for t in trials if not t.success],
        "trials_hash": trials_hash(trials),
    }  # fmt: skip
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{args.task} {args.difficulty}: {sum(won)}/{len(won)} = {sum(won) / len(won):.3f} [{low:.3f}, {high:.3f}] "
          f"95 %, {seconds:.1f} s per trial, {figures['violations']} judge violations")  # fmt: skip
    return 0


def _calibrate(args) -> int:
    _writable(args.json)
    from gwm.calibrate import run_calibrate

    return run_calibrate(args)


def _doctor(args) -> int:
    from gwm.doctor import report

    return report(as_json=args.json)


def _test(args) -> int:
    import pytest

    from gwm.graph import ROOT

    os.chdir(ROOT)
    return int(pytest.main(args.passed_on))


def main() -> int:
    """Entry point."""
    try:
        parser = _parser()
        args, args.passed_on = parser.parse_known_args()
        if args.passed_on and args.run is not _test:
            parser.error(f"unrecognized arguments: {' '.join(args.passed_on)}")
        return args.run(args)
    except InputError as error:
        print(f"gwm: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"gwm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
