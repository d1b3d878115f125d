"""The configuration of a run, its processes and their restarts. Standard library only."""
