"""Limits, kinematics, tracking, gate and judge. Nothing in here imports torch."""
