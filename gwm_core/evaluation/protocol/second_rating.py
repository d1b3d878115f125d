"""Agreement with a second rater of recorded trials."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError
from gwm_core.evaluation.protocol.journal import Journal
from gwm_core.evaluation.stats.agreement import kappa


def second_rating(journal: Journal, file: Path) -> dict:
    """Kappa with a second rater, from a CSV file (UTF-8) with columns number and success.

    Raises InputError with the line that rates no trial, or contradicts another line.
    """
    won = {entry.slot.number: entry.outcome.success for entry in journal.counted()}
    rated: dict[int, tuple[bool, int]] = {}  # number -> rating, and its line
    for line, number, rating in _ratings(file):
        if number not in won:
            raise InputError(f"{file}: line {line}: trial {number} was not made, or does not count")
        before, earlier = rated.setdefault(number, (rating, line))
        if before != rating:
            raise InputError(
                f"{file}: lines {earlier} and {line} contradict each other about trial {number}"
            )
    if not rated:
        raise InputError(f"{file} rates no trial: columns number and success (1 or 0) are wanted")
    first = np.array([won[number] for number in rated], bool)
    value, low, high = kappa(first, np.array([rating for rating, _ in rated.values()], bool))
    return {
        "rated": len(rated),
        "share": len(rated) / max(len(won), 1),
        "kappa": value,
        "ci95": [low, high],
    }


def _ratings(file: Path) -> Iterator[tuple[int, int, bool]]:
    """Line, number of the trial and rating of every row that is not blank."""
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{file} is no text in UTF-8: save it as CSV (UTF-8)") from None
    semicolons = bool(lines) and ";" in lines[0]  # spreadsheets where the comma is the decimal sign
    rows = csv.reader(lines, delimiter=";" if semicolons else ",")
    head = [name.strip().lower() for name in next(rows, [])]
    if not {"number", "success"} <= set(head):
        raise InputError(
            f"{file}: columns number and success are wanted in its first line, not"
            f" {', '.join(head)}"
        )
    columns = head.index("number"), head.index("success")
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        number, success = (cells[k] if k < len(cells) else "" for k in columns)
        if not number.isdecimal() or success not in ("0", "1"):
            raise InputError(
                f"{file}: line {rows.line_num}: a trial's number and success (1 or 0) are wanted in"
                f" columns number and success, not '{number}' and '{success}'"
            )
        yield rows.line_num, int(number), success == "1"
