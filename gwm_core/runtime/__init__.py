"""What runs beside the robot: planner, policy, its predictions, and the bundles it is loaded
from.
"""
