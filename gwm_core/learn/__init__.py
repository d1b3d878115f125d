"""Demonstrations, datasets, training."""
