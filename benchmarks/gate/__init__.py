"""The gate without ROS: fuzzing, and every fault that can be simulated."""
