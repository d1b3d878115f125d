"""Datasets of other libraries, written and read."""
