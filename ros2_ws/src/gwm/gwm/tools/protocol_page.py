"""The report of a protocol as one HTML page: tables, plots, and pictures of failures."""

from __future__ import annotations

import base64
from pathlib import Path

from gwm.tools.page_templates import render_page
from gwm.tools.terminal import ProgressBar
from gwm_core.evaluation.protocol.definition import TrialOrder
from gwm_core.evaluation.protocol.journal import EPISODES, Journal, JournalEntry
from gwm_core.files.json_files import script_json

FAILURES_SHOWN = 3  # of every policy on every task, with pictures
Table = tuple[tuple, list[tuple]]  # header cells, rows of cells


def report_page(found: dict, pictures: list[tuple[str, list[bytes]]]) -> str:
    """Return the page of a report with captions and JPEG images of failures."""
    tasks = [(task, rows, _task_table(rows)) for task, rows in found["tasks"].items()]
    gallery = [
        (caption, [base64.b64encode(jpeg).decode() for jpeg in jpegs])
        for caption, jpegs in pictures
    ]
    return render_page(
        "report.html",
        name=found["name"],
        facts=_facts(found),
        tasks=tasks,
        pairs=_pair_table(found["pairs"]),
        gallery=gallery,
        data=script_json(found),
    )


def failure_pictures(
    plan: TrialOrder, journal: Journal, folder: Path, key: dict, unblind: bool, renderer: str
) -> list[tuple[str, list[bytes]]]:
    """Return captions and images of each policy's first failures on each task.

    The images are recorded ones, or those of a repeated simulation.
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
        (*whose, entry)
        for whose, entries in sorted(chosen.items())
        for entry in entries[:FAILURES_SHOWN]
    ]
    shown, bar = [], ProgressBar(len(few), "pictures")
    for task, name, entry in few:
        shown.append(
            (f"{task}, {name}, seed {entry.slot.seed}: {entry.outcome.note}", pictures(entry))
        )
        bar.step()
    return shown


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
    if test := found.get("sequential"):
        lines.append(f"sequential test: {test['decision']} after {test['trials']} starts")
    if second := found.get("second_rater"):
        lines.append(f"second rater: kappa {second['kappa']:.2f}, {second['rated']} trials")
    return "\n".join(lines)


def _task_table(rows: dict[str, dict]) -> Table:
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
        (low, high), (mean, lower, upper) = row["ci95"], row["posterior"]
        failures = "; ".join(f"{count}x {note}" for note, count in row["failures"].items())
        body.append(
            (
                name,
                f"{row['successes']}/{row['trials']}",
                f"{low:.3f}-{high:.3f}",
                f"{mean:.3f} [{lower:.3f}, {upper:.3f}]",
                number(row["score"], 0, 2),
                number(row["seconds"], 0, 1),
                row["letters"],
                row["interventions"],
                row["aborted"],
                row["violations"],
                number(row["latency_ms"], 0, 0),
                failures,
            )
        )
    return head, body


def _pair_table(pairs: list[dict]) -> Table:
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
            _p_value(p["p"]),
            _p_value(p["p_holm"]),
            f"{p['a_better']:.3f}",
        )
        for p in pairs
    ]
    return head, body


def number(value: float | None, width: int, digits: int) -> str:
    """Return a figure, or blanks where it is undefined."""
    return f"{'' if value is None else format(value, f'.{digits}f'):>{width}}"


def _p_value(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-4 else "< 0.0001"
