"""Kinematics and limits of the arm, its collision capsules, and the pinhole camera."""
