"""The ``gwm`` command. Bad input is one line on stderr and exit 2; everything else is in ``gwm.verbs``."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext, redirect_stdout
from importlib.metadata import version

from gwm.terminal import Parser, as_called, said_by_system
from gwm.verbs import bench, calibrate, data, deploy, futures, learn, run, scene, site
from gwm_core.errors import InputError
from gwm_core.json_files import STDOUT


def _parser() -> Parser:
    parser = Parser(
        prog=as_called("gwm"), description="Gaussian World Models on a Franka arm: simulate, collect, train, run."
    )
    parser.add_argument("--version", action="version", version=f"gwm {version('gwm')}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for group in (run, learn, data, deploy, futures, scene, bench, calibrate, site):
        group.add(verbs)
    return parser


def main() -> int:
    """Entry point."""
    try:
        parser = _parser()
        args, args.passed_on = parser.parse_known_args()
        if args.passed_on and args.run is not run.test:
            parser.error(f"unrecognized arguments: {' '.join(args.passed_on)}")
        for name, value in vars(args).items():
            if isinstance(value, str) and value.startswith("~"):  # --out=~/x, which no shell expands
                setattr(args, name, os.path.expanduser(value))
        to_stdout = getattr(args, "json", None) == STDOUT  # then what people read goes to stderr
        with redirect_stdout(sys.stderr) if to_stdout else nullcontext():
            return args.run(args)
    except InputError as error:
        print(f"gwm: {as_called(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"gwm: {said_by_system(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
