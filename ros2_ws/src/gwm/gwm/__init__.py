"""gwm: thin ROS 2 nodes and the command line around gwm_core."""

import os
import signal

if os.environ.get("GWM_END_WITH_PARENT"):  # a node that is told to end while it still imports just ends
    signal.signal(signal.SIGINT, signal.SIG_DFL)
