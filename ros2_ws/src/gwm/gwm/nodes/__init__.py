"""The ROS 2 nodes, one per process."""
