"""An idle 100 Hz loop, which measures the machine's own lateness. Prints JSON at its end."""

from __future__ import annotations

import signal
import time

from gwm.graph.environment import end_with_parent
from gwm_core.control.loop_timing import PeriodMonitor
from gwm_core.files.json_files import to_json


def main() -> None:
    """Loop until SIGTERM or SIGINT."""
    end_with_parent()
    over = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.append(True))
    pace = PeriodMonitor()
    due = time.monotonic()
    while not over:
        pace.tick(time.monotonic())
        due = max(due + pace.period, time.monotonic() - pace.period)
        time.sleep(max(0.0, due - time.monotonic()))
    figures = {
        "rate_hz": pace.rate_hz,
        "late_fraction": pace.late_fraction,
        "periods": pace.periods,
    }
    print(to_json(figures | {"longest_ms": 1e3 * pace.longest}))


if __name__ == "__main__":
    main()
