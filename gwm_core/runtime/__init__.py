"""What runs beside the robot: planner, policy, world model, and the bundles they are loaded
from.
"""
