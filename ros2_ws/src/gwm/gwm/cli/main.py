"""The ``gwm`` command. Bad input is one line on stderr and exit 2."""

from __future__ import annotations

import os
import signal
import sys
from argparse import Namespace
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from importlib.metadata import version
from pathlib import Path

from gwm.cli import collect, completion, deploy, futures, improve, run, scene, sim_robot, site
from gwm.cli.bench import bench
from gwm.cli.completion import complete
from gwm.cli.data import data
from gwm.cli.evaluate import evaluate
from gwm.cli.train import train
from gwm.graph.config import PRECISIONS, RUNTIMES, TASKS
from gwm.tools.terminal import Parser, as_called, escape_names, said_by_system, without_number
from gwm_core.errors import InputError, one_of
from gwm_core.files.json_files import STDOUT
from gwm_core.workers import cluster

CHOICES = {  # of all verbs, checked before imports that take seconds
    "task": TASKS,
    "difficulty": ("nominal", "hard"),
    "backend": RUNTIMES,
    "precision": PRECISIONS,
}
# arguments of verbs with --ray that name folders to read
_READ = ("data", "futures", "episodes", "policy", "model", "vae", "begin", "perturb", "calibrate")


def _parser() -> Parser:
    parser = Parser(
        prog=as_called("gwm"),
        description="Gaussian World Models on a Franka arm: simulate, collect, train, run.",
    )
    parser.add_argument("--version", action="version", version=f"gwm {version('gwm')}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    learn, use = (
        (collect, train, improve, evaluate),
        (data, deploy, futures, scene, bench, site, sim_robot, completion),
    )
    for group in (run, *learn, *use):
        group.add(verbs)
    return parser


def _expand_home(value):
    """Expand a leading ~, as in --out=~/x, which no shell expands."""
    if isinstance(value, list):
        return [_expand_home(part) for part in value]
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~") else value


def _workers(args) -> AbstractContextManager:
    """Where the verb's jobs run: on the cluster of --ray, or here."""
    if not getattr(args, "ray", None):
        return nullcontext()
    named = [getattr(args, name, None) or [] for name in _READ]
    words = [word for value in named for word in (value if isinstance(value, list) else [value])]
    out = getattr(args, "out", None)
    read = [Path(word) for word in words if isinstance(word, str)]
    return cluster.joined(args.ray, Path(out) if out else None, read)


def main() -> int:
    """Entry point."""
    escape_names()
    args = Namespace()
    try:
        parser = _parser()
        complete(parser)
        args, args.passed_on = parser.parse_known_args()
        if args.passed_on and args.run is not run.test:
            args.parser.refuse(args.passed_on)
        for name, value in vars(args).items():
            setattr(args, name, _expand_home(value))
            if name in CHOICES and value is not None:
                one_of(name, value, CHOICES[name])
        to_stdout = getattr(args, "json", None) == STDOUT  # then text for people goes to stderr
        with redirect_stdout(sys.stderr) if to_stdout else nullcontext(), _workers(args):
            code = args.run(args)
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # the reader stopped, as `head` does
        # Python flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
        return 128 + signal.SIGPIPE
    except InputError as error:
        print(f"gwm: {as_called(without_number(str(error)))}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"gwm: {said_by_system(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if getattr(args, "resumes", False):
            kept = "what was saved is kept, and the same command goes on there"
            print(f"\ngwm: interrupted; {kept}", file=sys.stderr)
        return 130
