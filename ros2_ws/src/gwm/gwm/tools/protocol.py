"""``gwm eval protocol``: a comparison fixed before its first trial, and its report."""

from __future__ import annotations

from pathlib import Path

from gwm.graph.config import GraphConfig
from gwm.tools.protocol_page import failure_pictures, number, report_page
from gwm.tools.terminal import ProgressBar
from gwm_core.errors import InputError
from gwm_core.evaluation.protocol.definition import (
    PLAN,
    TrialOrder,
    begin,
    open_plan,
    read_key,
    read_protocol,
)
from gwm_core.evaluation.protocol.journal import Journal
from gwm_core.evaluation.protocol.report import (
    compare_with_predicted_rates,
    detectable_differences,
    outcomes_beside_imagined,
    summarize,
)
from gwm_core.evaluation.protocol.second_rating import second_rating
from gwm_core.evaluation.stats.agreement import rate_agreement
from gwm_core.files.json_files import write_json


def run(
    source: Path,
    out: Path | None,
    processes: int,
    renderer: str,
    live: GraphConfig | None = None,
    by_hand: bool = False,
) -> tuple[Path, str, int]:
    """Begin or continue a protocol, and run its trials in simulation or over the live graph.

    Args:
        source: the protocol's file, or the folder of one that has begun.
        out: folder for a new one; None: named like the file.
        processes: for simulated trials.
        renderer: for simulated trials.
        live: configuration of the live graph; None: without ROS.
        by_hand: a person places the objects and rates, in simulation too.

    Returns:
        the folder of the protocol, the trouble of the live graph ("" for none), and the exit code.
    """
    from gwm_core.evaluation.simulated_trials import check_tasks, weights_of
    from gwm_core.evaluation.simulated_trials import run as make

    if source.is_dir():
        folder, plan = source, open_plan(source)
        begin(plan.protocol, weights_of(plan.protocol), folder)
    else:
        protocol = read_protocol(source)
        if live is None:
            check_tasks(protocol)
        folder = out or source.with_suffix("")
        plan = begin(protocol, weights_of(protocol), folder)
    journal = Journal(plan, folder)
    _announce(plan, journal, folder)
    if live is not None:
        from gwm.process.session import ending
        from gwm.tools.protocol_live import run_live

        with ending() as end:
            run_live(plan, journal, folder, live, by_hand)
        return folder, end.trouble, end.code
    bar = ProgressBar(len(plan.slots), "trials")
    bar.to(len(journal.counted()))
    make(plan, journal, folder, processes, renderer, bar.step)
    return folder, "", 0


def _announce(plan: TrialOrder, journal: Journal, folder: Path) -> None:
    protocol = plan.protocol
    print(
        f"{folder / PLAN}: {len(protocol.policies)} policies,"
        f" {', '.join(map(str, protocol.tasks))}, {protocol.trials} starts each, {protocol.stop},"
        f" sha256 {plan.sha256}"
    )
    print(
        f"with {protocol.trials} trials of each, 80 % of such differences are found (one pair, not"
        " corrected):"
    )
    for rate, other in detectable_differences(protocol.trials, protocol.alpha):
        print(f"  {100 * rate:.0f} % against {100 * other:.0f} % or more")
    if journal.entries:
        print(f"{len(journal.counted())} of {len(plan.slots)} trials are made already")


def report(folder: Path, unblind: bool, second: Path | None, renderer: str) -> dict:
    """Write report.json and report.html into the folder, and print the table.

    Policies have codes, or names where ``unblind``.
    """
    plan = open_plan(folder)
    journal, key = Journal(plan, folder), read_key(plan, folder)
    found = summarize(plan, journal, key if unblind else {code: code for code in key})
    waiting = 0 if found.get("sequential", {}).get("over") else len(journal.waiting())
    if unblind and waiting:
        raise InputError(
            f"{waiting} trials are still to be made: names are told when all of them are"
        )
    if second is not None:
        found["second_rater"] = second_rating(journal, second)
    found["waiting"] = waiting
    print(_text(found))
    write_json(folder / "report.json", found)
    pictures = failure_pictures(plan, journal, folder, key, unblind, renderer)
    (folder / "report.html").write_text(report_page(found, pictures))
    print(f"{folder / 'report.html'}")
    return found


def imagine(folder: Path, model: str, processes: int, renderer: str) -> dict:
    """Run the same trials inside the world model, and write imagined.json.

    The rates stand beside those of the trials so far.
    """
    from gwm_core.evaluation.policy_eval_in_world_model import run_trials_in_world_model

    plan = open_plan(folder)
    journal, key = Journal(plan, folder), read_key(plan, folder)
    named = not journal.waiting()  # codes are kept until all trials are made
    jobs = [
        (
            model,
            plan.protocol.policies[key[s.code]],
            s.task.task,
            s.task.difficulty,
            s.seed,
            renderer,
        )
        for s in plan.slots
    ]
    bar = ProgressBar(len(jobs), "imagine")
    trials = run_trials_in_world_model(jobs, processes, bar.step)
    won: dict[str, dict[str, list[bool]]] = {}
    for slot, trial in zip(plan.slots, trials):
        name = key[slot.code] if named else slot.code
        won.setdefault(str(slot.task), {}).setdefault(name, []).append(trial.success)
    rates = {
        task: {name: sum(w) / len(w) for name, w in rows.items()} for task, rows in won.items()
    }
    found = compare_with_predicted_rates(
        summarize(plan, journal, key if named else {code: code for code in key}), rates
    )
    found |= {"model": model, "rates": rates}
    imagined = {slot.number: trial.success for slot, trial in zip(plan.slots, trials)}
    outcomes = outcomes_beside_imagined(plan, journal, imagined)
    if outcomes and len(plan.protocol.policies) > 1:
        found |= rate_agreement(outcomes) | {"starts": sum(real.shape[1] for real, _ in outcomes)}
    _print_agreement(found)
    write_json(folder / "imagined.json", found)
    return found


def _print_agreement(found: dict) -> None:
    """Print the rates of ``imagine``, and how they agree with the real ones."""
    for task, rows in found["rates"].items():
        print(
            f"{task}: imagined "
            + ", ".join(f"{name} {rate:.2f}" for name, rate in sorted(rows.items()))
        )
    for point in found["points"]:
        print(
            f"{point['task']:24}{point['policy']:22} imagined {point['imagined']:.2f}  real"
            f" {point['real']:.2f}"
        )
    for name in ("pearson", "spearman"):
        if name in found:
            value, low, high = found[name]
            print(f"{name} {value:.2f} [{low:.2f}, {high:.2f}] 95 %, {len(found['points'])} points")
    for name, label, digits in (
        ("mmrv", "mean maximum rank violation", 3),
        ("error_points", "mean absolute error in points", 1),
    ):
        if name in found:
            value, low, high = (f"{number:.{digits}f}" for number in found[name])
            print(f"{label} {value} [{low}, {high}] 95 %, {found['starts']} starts")


def _text(found: dict) -> str:
    lines = []
    for task, rows in found["tasks"].items():
        lines.append(f"{task:24}{'won':>9}  {'95 %':>13}  {'score':>5}  {'s':>5}  differs")
        for name, row in rows.items():
            low, high = row["ci95"]
            figures = f"{number(row['score'], 5, 2)}  {number(row['seconds'], 5, 1)}"
            lines.append(
                f"  {name:22}{row['successes']:4}/{row['trials']:<4}  {low:.3f}-{high:.3f}  "
                f"{figures}  {row['letters']}"
            )
    for pair in found["pairs"]:
        low, high = pair["ci95"]
        lines.append(
            f"{pair['task']}: {pair['a']} - {pair['b']} = {100 * pair['difference']:+.1f} points "
            f"[{100 * low:+.1f}, {100 * high:+.1f}] 95 %, p = {pair['p_holm']:.3f} (corrected)"
        )
    if "sequential" in found:
        test = found["sequential"]
        lines.append(f"sequential: {test['decision']} after {test['trials']} starts")
    if "second_rater" in found:
        second = found["second_rater"]
        lines.append(
            f"second rater: kappa {second['kappa']:.2f} [{second['ci95'][0]:.2f},"
            f" {second['ci95'][1]:.2f}] on {100 * second['share']:.0f} % of the trials"
        )
    return "\n".join(lines)
