"""Intervals and tests. numpy and scipy alone."""
