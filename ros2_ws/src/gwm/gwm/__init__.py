"""gwm: thin ROS 2 nodes and the command line around gwm_core."""

import importlib.util
import os
import signal
import sys
from pathlib import Path

# under ROS's own Python, which has none of our packages
if importlib.util.find_spec("gwm_core") is None:
    _root = Path(__file__).resolve().parents[4]  # of the repository, when run from it
    if not (_root / "gwm_core").is_dir():
        raise ModuleNotFoundError(
            "gwm was built without gwm_core, which a plain `colcon build` does not install: run"
            " `./gwm doctor` in the repository once, then `cd ros2_ws && ../.venv/bin/python -m"
            " colcon build --symlink-install`"
        )
    sys.path.append(str(_root))

# before torch loads: threads that spin while they wait take the core from those they wait for
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if any(word.startswith("gwm.") and word.endswith("_node") for word in sys.orig_argv):
    from gwm.graph.environment import end_with_parent

    # a node that is told to end while it still imports just ends
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    end_with_parent()  # before imports that take seconds, in which the starter may end
