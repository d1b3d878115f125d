"""gwm: thin ROS 2 nodes and the command line around gwm_core."""
