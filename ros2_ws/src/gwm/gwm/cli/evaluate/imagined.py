"""``gwm eval imagined`` and ``gwm eval outcomes``: trials as a policy predicts them."""

from __future__ import annotations

from pathlib import Path

from gwm.cli import futures, options
from gwm.tools.terminal import DeferredProgressBar, positive, renderer, shipped, verb, writable
from gwm_core.files.json_files import write_json


def add_eval(kinds) -> None:
    """Declare the kinds."""
    p = verb(
        kinds,
        "imagined",
        "Run the trials of a protocol in predicted scenes, before or beside the real ones.",
        "gwm eval imagined runs/compare",
        evaluate_imagined,
    )
    p.add_argument("folder", help="of a protocol that has begun")
    options.model(p)
    options.processes(p)

    p = verb(
        kinds,
        "outcomes",
        "Replay the commands of recorded episodes in predictions: does the policy see which of"
        " them failed?",
        "gwm eval outcomes --data data/weak --json outcomes.json",
        evaluate_outcomes,
    )
    options.folders(p, "data", "episodes with a verdict", required=True)
    options.model(p)
    options.json_file(p, "write the probabilities of every step to FILE")


def evaluate_imagined(args) -> int:
    from gwm.tools import protocol

    protocol.imagine(
        Path(args.folder),
        args.model or shipped(),
        positive("processes", args.processes),
        renderer(),
    )
    return 0


def evaluate_outcomes(args) -> int:
    from dataclasses import asdict

    from gwm_core.evaluation.replayed_outcomes import OutcomeReplay, outcome_table, replay_outcomes
    from gwm_core.evaluation.stats.success_rates import interval
    from gwm_core.runtime.imagined_world import cpu_world

    writable(args.json)
    model = args.model or shipped()
    replay = OutcomeReplay(cpu_world(Path(model)))
    futures.refuse_seen_by(Path(model), Path(args.data))
    outcomes = replay_outcomes(replay, Path(args.data), DeferredProgressBar("replay"))
    table = outcome_table(outcomes)
    print(f"{'really':12}{'episodes':>10}   called a success [95 %]")
    for name, row in table.items():
        rates = ", ".join(
            f"{row[how]} {what} [{low:.2f}, {high:.2f}]"
            for how, what in (("observed", "as observed"), ("imagined", "as replayed"))
            for low, high in [interval(row[how], row["episodes"])]
        )
        print(f"{name:12}{row['episodes']:10}   {rates}")
    if args.json:
        episodes = [asdict(outcome) for outcome in outcomes]
        write_json(
            args.json, {"data": args.data, "model": model, "table": table, "episodes": episodes}
        )
    return 0
