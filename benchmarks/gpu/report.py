"""``gwm bench gpu``: all parts, a table, and a page that can be sent."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from gwm.tools.page_templates import render_page

from benchmarks.gpu.figures import Figure
from benchmarks.gpu.parts import PARTS, Result, run_part
from gwm_core.files.json_files import script_json, write_json


def bench_gpu(path: str | None, report: str | None, quick: bool) -> int:
    """Run every part, and print, write and render what it measured; 1 where one failed."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    results = []
    for part in PARTS:
        results.append(run_part(part, device, quick))
        _print(results[-1])
        figures = as_figures(results, device, quick)  # as far as it goes, after every part
        if path:
            write_json(path, figures)
        if report:
            Path(report).write_text(page(results, figures))
    return int(not all(result.passed for result in results))


def as_figures(results: list[Result], device: str, quick: bool) -> dict:
    """The results as JSON."""
    return {"device": device, "quick": quick, "parts": [asdict(result) for result in results]}


def page(results: list[Result], figures: dict) -> str:
    """The results as a page that needs nothing from elsewhere."""
    machine = {f.name: f.remark for r in results if r.part == "machine" for f in r.figures}
    gpu = machine.get("GPU", "")
    on = gpu.partition(",")[0] if figures["device"] == "cuda" else "a machine without a GPU"
    parts = [(result, [_cells(figure) for figure in result.figures]) for result in results]
    return render_page(
        "bench_gpu.html",
        title=f"gwm on {on}",
        head=("", "measured", "limit"),
        parts=parts,
        all_passed=all(result.passed for result in results),
        data=script_json(figures),
    )


def _print(result: Result) -> None:
    state = "not run" if result.skipped else "passed" if result.passed else "FAILED"
    reason = f": {result.trouble}" if result.trouble else ""
    print(f"\n{result.part}: {state} after {result.seconds:.0f} s{reason}", flush=True)
    for figure in result.figures:
        name, value, limit = _cells(figure)
        missed = "" if figure.passed else "  MISSED"
        print(f"  {name:56} {value}{f'  (limit {limit})' if limit else ''}{missed}")


def _cells(figure: Figure) -> tuple[str, str, str]:
    """Name, value and limit as text."""
    value = "" if figure.value is None else f"{figure.value:.4g} {figure.unit}".strip()
    text = "; ".join(part for part in (value, figure.remark) if part)
    return (
        figure.name,
        text,
        "" if figure.limit is None else f"{figure.limit:g} {figure.unit}".strip(),
    )
