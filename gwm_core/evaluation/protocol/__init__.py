"""Comparisons of policies that are fixed before their first trial."""
