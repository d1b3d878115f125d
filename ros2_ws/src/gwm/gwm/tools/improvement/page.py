"""The report of improved policies as one HTML page, which needs nothing from elsewhere."""

from __future__ import annotations

import base64

from gwm.tools.page_templates import render_page
from gwm.tools.protocol_page import number
from gwm_core.files.json_files import script_json

Table = tuple[tuple, list[tuple]]  # header cells, rows of cells
_COLUMNS = 6  # pictures beside one another


def improvement_page(figures: dict, pictures: list[tuple[str, list[bytes]]]) -> str:
    """Return the page of ``report.json``'s figures, with captions and JPEG images of trials."""
    rounds = figures["rounds"]
    strips = [
        (caption, [base64.b64encode(jpeg).decode() for jpeg in jpegs])
        for caption, jpegs in pictures
    ]
    return render_page(
        "improve.html",
        title=f"{figures['task']}: a policy improved by practice",
        facts=facts(figures),
        stopped=figures["stopped"],
        rates=[
            (f"{kind.capitalize()} success", rows, _rate_table(rows))
            for kind in ("real", "imagined")
            if (rows := rate_rows(rounds, kind))
        ],
        differences=_difference_table(rounds),
        learning=_learning_table(rounds),
        pictures=strips,
        columns=max([_COLUMNS, *(len(jpegs) for _, jpegs in strips)]),
        data=script_json(figures),
    )


def facts(figures: dict) -> str:
    """Return a few lines that say what came of the rounds."""
    lines = [f"starting policy: {figures['policy']}"]
    if both := figures["overall"]:
        (before, after), (low, high) = (both["before"], both["after"]), both["ci95"]
        lines.append(
            f"real success: {_count(before)} before, {_count(after)} after"
            f" {_rounds(len(figures['rounds']))}; difference {100 * both['difference']:+.1f} points"
            f" [{100 * low:+.1f}, {100 * high:+.1f}] 95 %, McNemar p = {both['p']:.3f}"
        )
    if (kept := figures["kept"]) is not None:
        lines.append(
            f"kept: the policy of round {kept}, which has the most successes on these starts"
            if kept
            else "kept: the starting policy, since no round has more successes on these starts"
        )
    return "\n".join(lines)


def rate_rows(rounds: list[dict], kind: str) -> dict[str, dict]:
    """Return the rates of every policy, by its name: "real" or "imagined" ones."""
    rows = {}
    for found in rounds:
        if both := found.get(kind):
            number = found["round"]
            if kind == "imagined":
                rows[f"round {number}: old policy"] = both["before"]
                rows[f"round {number}: new policy"] = both["after"]
            else:
                rows |= {} if rows else {"starting policy": both["before"]}
                rows[f"round {number}"] = both["after"]
    return rows


def _rate_table(rows: dict[str, dict]) -> Table:
    head = (
        "policy",
        "succeeded",
        "95 %",
        "median s to success",
        "s for each success",
        "gate stops",
        "chunks refused",
        "limit violations",
    )
    body = [
        (
            name,
            _count(row),
            "{:.3f}-{:.3f}".format(*row["ci95"]),
            number(row["seconds"], 0, 1),
            number(row["seconds_per_success"], 0, 1),
            _causes(row["stops"]),
            _causes(row["refused"]),
            row["violations"],
        )
        for name, row in rows.items()
    ]
    return head, body


def _difference_table(rounds: list[dict]) -> Table:
    head = (
        "round",
        "real difference, points [95 %]",
        "p",
        "imagined difference, points [95 %]",
        "change of time to success [s]",
    )
    body = [
        (
            found["round"],
            _difference(found["real"]),
            f"{found['real']['p']:.3f}",
            _difference(found["imagined"]),
            "" if found["real"]["seconds"] is None else f"{found['real']['seconds']:+.1f}",
        )
        for found in rounds
        if found.get("real")
    ]
    return head, body


def _learning_table(rounds: list[dict]) -> Table:
    head = (
        "round",
        "trials that succeeded",
        "AUC of the success model",
        "plans kept",
        "mean value",
        "advantage of those kept",
        "change of plans [mm]",
    )
    body = []
    for found in rounds:
        check, practice = found["success_model"], found.get("practice", {})
        unseen = check["successes"] + check["failures"]
        advantage = practice.get("advantage")
        body.append(
            (
                found["round"],
                _count(found),
                f"{check['auc']:.2f} on {unseen} trials",
                f"{practice['plans']} from {practice['starts']} starts" if practice else "none",
                number(practice.get("value"), 0, 2),
                "" if advantage is None else f"{advantage:+.3f}",
                number(found.get("plan_distance_mm"), 0, 1),
            )
        )
    return head, body


def _count(row: dict) -> str:
    return f"{row['successes']}/{row['trials']}"


def _rounds(count: int) -> str:
    return f"{count} round{'s' * (count != 1)}"


def _causes(counts: dict[str, int]) -> str:
    return ", ".join(f"{count}x {cause}" for cause, count in counts.items()) or "0"


def _difference(both: dict) -> str:
    low, high = both["ci95"]
    return f"{100 * both['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
