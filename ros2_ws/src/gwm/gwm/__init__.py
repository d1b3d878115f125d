"""gwm: thin ROS 2 nodes and the command line around gwm_core."""

import signal
import sys

if any(word.startswith("gwm.") and word.endswith("_node") for word in sys.orig_argv):
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a node that is told to end while it still imports just ends
