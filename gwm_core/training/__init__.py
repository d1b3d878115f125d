"""Demonstrations, datasets and the training of every network."""
