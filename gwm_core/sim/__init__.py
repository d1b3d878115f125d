"""The physics simulation that stands in for a Franka FR3 and two RealSense cameras."""
