"""Recording episodes of a live robot."""
