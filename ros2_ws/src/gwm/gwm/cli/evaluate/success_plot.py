"""A picture of ``gwm eval pretraining``: success over the number of demonstrations."""

from __future__ import annotations

from gwm.tools.page_templates import render_page

# of Okabe and Ito's palette, which colour-blind people tell apart
PLAIN_COLOR, JOINT_COLOR = "#d55e00", "#0072b2"


def success_plot(task: str, trials: int, rows: list[dict]) -> str:
    """An SVG of the rows that ``pretraining_study.compare`` gives.

    A point is a training, and the lines join their means.
    """
    kinds = (
        ("joint", JOINT_COLOR, ("after predictions", "of other episodes")),
        ("plain", PLAIN_COLOR, ("demonstrations", "alone")),
    )
    curves = [
        {"label": label, "color": color, "rates": [row[f"{kind}_by_seed"] for row in rows]}
        for kind, color, label in kinds
    ]
    return render_page(
        "success_curves.svg",
        title=f"Success at {task}, {trials} trials of each policy",
        below="demonstrations of the task",
        demos=[row["demos"] for row in rows],
        curves=curves,
    )
