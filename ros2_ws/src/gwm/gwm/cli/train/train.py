"""``gwm train``."""

from __future__ import annotations

from gwm.cli.train import policy, scenes, success
from gwm.tools.terminal import verb


def add(verbs) -> None:
    """Declare the verbs."""
    example = "gwm train policy --data data/pick --out models/mine"
    kinds = verb(verbs, "train", "Train a network.", example, None)
    kinds = kinds.add_subparsers(metavar="WHAT", required=True)
    for part in (policy, scenes, success):
        part.add(kinds)
