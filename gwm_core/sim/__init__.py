"""The physics simulation that stands in for a Franka FR3 and two RealSense cameras."""

import os

# ``cameras`` loads the GL library that works here. MuJoCo's import loads the one named in MUJOCO_GL
# and fails where the machine lacks it (Gymnasium #726), though nothing may have to be drawn.
os.environ["MUJOCO_GL"] = "disable"
