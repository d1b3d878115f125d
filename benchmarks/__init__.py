"""Measurements against a named reference in the same run. ``gwm bench`` runs them from the
repository.
"""

import os
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[1])
# for the processes that a benchmark starts
if _ROOT not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
