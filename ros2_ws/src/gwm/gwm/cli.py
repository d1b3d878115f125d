"""The ``gwm`` command. Bad input is one line on stderr and exit 2; everything else is in ``gwm.verbs``."""

from __future__ import annotations

import sys

from gwm.terminal import Parser
from gwm.verbs import bench, calibrate, data, deploy, futures, learn, run, scene, site
from gwm_core.errors import InputError


def _parser() -> Parser:
    parser = Parser(prog="gwm", description="Gaussian World Models on a Franka arm: simulate, collect, train, run.")
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
        return args.run(args)
    except (InputError, OSError) as error:
        print(f"gwm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
