"""``gwm eval protocol``: a comparison that was fixed before its first trial, and its report as one
page.
"""

from __future__ import annotations

import base64
import html
from pathlib import Path
from string import Template

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
from gwm_core.evaluation.protocol.journal import EPISODES, Journal, JournalEntry
from gwm_core.evaluation.protocol.report import (
    compare_with_predicted_rates,
    detectable_differences,
    summarize,
)
from gwm_core.evaluation.protocol.second_rating import second_rating
from gwm_core.files.json_files import to_json, write_json

PAGE = Path(__file__).with_name("pages") / "report.html"
SHOWN = 3  # failures of every policy on every task whose pictures are in the report
_WIDTH, _BAR = 420, 22  # [pixels] of a plot, and of a row in it


def run(
    source: Path,
    out: Path | None,
    processes: int,
    renderer: str,
    live: dict | None = None,
    by_hand: bool = False,
) -> tuple[Path, str, int]:
    """Begin a protocol, or go on with one, and make its trials: in simulation, or over the live
    graph.

    Args:
        live: arguments of the graph. by_hand: a person lays and rates, in simulation too.

    Returns:
        the folder of the protocol, what went wrong with the live graph ("" for nothing), and the
        exit code.
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
    """Write report.json and report.html into the folder, under codes or names; prints the table."""
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
    pictures = _gallery(plan, journal, folder, key, unblind, renderer)
    (folder / "report.html").write_text(_page(found, pictures))
    print(f"{folder / 'report.html'}")
    return found


def imagine(folder: Path, model: str, processes: int, renderer: str) -> dict:
    """The same trials inside the world model: rates beside those of the trials that were made;
    writes imagined.json.
    """
    from gwm_core.evaluation.policy_eval_in_world_model import run_trials_in_world_model

    plan = open_plan(folder)
    journal, key = Journal(plan, folder), read_key(plan, folder)
    told = not journal.waiting()
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
        name = key[slot.code] if told else slot.code
        won.setdefault(str(slot.task), {}).setdefault(name, []).append(trial.success)
    rates = {
        task: {name: sum(w) / len(w) for name, w in rows.items()} for task, rows in won.items()
    }
    found = compare_with_predicted_rates(
        summarize(plan, journal, key if told else {code: code for code in key}), rates
    )
    found |= {"model": model, "rates": rates}
    for task, rows in rates.items():
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
    write_json(folder / "imagined.json", found)
    return found


def _text(found: dict) -> str:
    lines = []
    for task, rows in found["tasks"].items():
        lines.append(f"{task:24}{'won':>9}  {'95 %':>13}  {'score':>5}  {'s':>5}  differs")
        for name, row in rows.items():
            low, high = row["ci95"]
            figures = f"{_number(row['score'], 5, 2)}  {_number(row['seconds'], 5, 1)}"
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
        seen = found["sequential"]
        lines.append(f"sequential: {seen['decision']} after {seen['trials']} starts")
    if "second_rater" in found:
        second = found["second_rater"]
        lines.append(
            f"second rater: kappa {second['kappa']:.2f} [{second['ci95'][0]:.2f},"
            f" {second['ci95'][1]:.2f}] on {100 * second['share']:.0f} % of the trials"
        )
    return "\n".join(lines)


def _gallery(
    plan: TrialOrder, journal: Journal, folder: Path, key: dict, unblind: bool, renderer: str
) -> list[tuple[str, list[bytes]]]:
    """Captions and pictures of the first failures of every policy on every task: as recorded, or as
    simulated again.
    """
    from gwm_core.data.contact_sheet import stills
    from gwm_core.evaluation.simulated_trials import trial_images

    def pictures(entry: JournalEntry) -> list[bytes]:
        if not (folder / EPISODES).exists():
            return trial_images(plan, entry, key, renderer)
        episode = folder / EPISODES / entry.outcome.episode
        return stills(episode) if entry.outcome.episode and episode.exists() else []

    chosen: dict[tuple[str, str], list[JournalEntry]] = {}
    for entry in journal.counted():
        code = entry.slot.code
        if not entry.outcome.success:
            chosen.setdefault((str(entry.slot.task), key[code] if unblind else code), []).append(
                entry
            )
    few = [
        (*whose, entry) for whose, entries in sorted(chosen.items()) for entry in entries[:SHOWN]
    ]
    shown, bar = [], ProgressBar(len(few), "pictures")
    for task, name, entry in few:
        shown.append(
            (f"{task}, {name}, seed {entry.slot.seed}: {entry.outcome.note}", pictures(entry))
        )
        bar.step()
    return shown


def _page(found: dict, pictures: list[tuple[str, list[bytes]]]) -> str:
    gallery = "".join(
        f"<figure><figcaption>{html.escape(caption)}</figcaption>"
        + "".join(
            f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
            for jpeg in jpegs
        )
        + "</figure>"
        for caption, jpegs in pictures
    )
    tasks = "".join(
        f"<h2>{html.escape(task)}</h2>{_plot(rows)}{_table(rows)}"
        for task, rows in found["tasks"].items()
    )
    parts = {
        "name": html.escape(found["name"]),
        "tasks": tasks,
        "pairs": _pairs(found["pairs"]),
        "gallery": gallery or "none",
        "facts": html.escape(_facts(found)),
        "data": to_json(found).replace("</", "<\\/"),
    }
    return Template(PAGE.read_text()).substitute(parts)


def _facts(found: dict) -> str:
    lines = [
        (
            f"{found['made']} of {found['planned']} trials made; {found['repeated']} repeated for"
            " the hardware's sake"
        ),
        (
            f"protocol {found['sha256']}, fixed before the first trial; stop: {found['stop']},"
            f" alpha {found['alpha']}"
        ),
    ]
    if seen := found.get("sequential"):
        lines.append(f"sequential test: {seen['decision']} after {seen['trials']} starts")
    if second := found.get("second_rater"):
        lines.append(f"second rater: kappa {second['kappa']:.2f}, {second['rated']} trials")
    return "\n".join(lines)


def _plot(rows: dict[str, dict]) -> str:
    """Rates as dots on their 95 % intervals."""
    height = _BAR * len(rows) + 20
    marks = "".join(
        f'<line x1="{_WIDTH * k / 4}" x2="{_WIDTH * k / 4}" y1="0" y2="{height - 16}"'
        f' class="grid"/><text x="{_WIDTH * k / 4}" y="{height - 3}">{25 * k} %</text>'
        for k in range(5)
    )
    for k, row in enumerate(rows.values()):
        y, (low, high) = _BAR * (k + 0.5), row["ci95"]
        rate = row["successes"] / max(row["trials"], 1)
        marks += (
            f'<line x1="{_WIDTH * low}" x2="{_WIDTH * high}" y1="{y}" y2="{y}" class="interval"/>'
            f'<circle cx="{_WIDTH * rate}" cy="{y}" r="5"/>'
        )
    names = "".join(f"<li>{html.escape(name)}</li>" for name in rows)
    return (
        f'<div class="plot"><ul>{names}</ul><svg viewBox="-10 0 {_WIDTH + 40}'
        f' {height}">{marks}</svg></div>'
    )


def _table(rows: dict[str, dict]) -> str:
    head = (
        "policy",
        "won",
        "95 %",
        "posterior mean [95 %]",
        "score",
        "median s",
        "letters",
        "interventions",
        "aborted",
        "limit violations",
        "frame to command [ms]",
        "how it failed",
    )
    body = []
    for name, row in rows.items():
        (low, high), (mean, least, most) = row["ci95"], row["posterior"]
        failures = "; ".join(f"{count}x {note}" for note, count in row["failures"].items())
        body.append(
            (
                name,
                f"{row['successes']}/{row['trials']}",
                f"{low:.3f}-{high:.3f}",
                f"{mean:.3f} [{least:.3f}, {most:.3f}]",
                _number(row["score"], 0, 2),
                _number(row["seconds"], 0, 1),
                row["letters"],
                row["interventions"],
                row["aborted"],
                row["violations"],
                _number(row["latency_ms"], 0, 0),
                failures,
            )
        )
    return _grid(head, body)


def _pairs(pairs: list[dict]) -> str:
    head = (
        "task",
        "pair",
        "starts",
        "differ",
        "difference, points [95 %]",
        "p",
        "p, corrected (Holm)",
        "P(first better)",
    )
    body = [
        (
            p["task"],
            f"{p['a']} - {p['b']}",
            p["trials"],
            p["differ"],
            f"{100 * p['difference']:+.1f} [{100 * p['ci95'][0]:+.1f}, {100 * p['ci95'][1]:+.1f}]",
            _p(p["p"]),
            _p(p["p_holm"]),
            f"{p['a_better']:.3f}",
        )
        for p in pairs
    ]
    return _grid(head, body)


def _number(value: float | None, width: int, digits: int) -> str:
    """A figure, or blanks where it is undefined."""
    return f"{'' if value is None else format(value, f'.{digits}f'):>{width}}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-4 else "< 0.0001"


def _grid(head, body) -> str:
    def row(cells, kind: str) -> str:
        return (
            "<tr>"
            + "".join(f"<{kind}>{html.escape(str(cell))}</{kind}>" for cell in cells)
            + "</tr>"
        )

    return f"<table>{row(head, 'th')}{''.join(row(cells, 'td') for cells in body)}</table>"
