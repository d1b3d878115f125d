"""The gate: the one place that decides what the arm is commanded."""
