"""Errors and warnings of an episode in one list."""

from gwm_core.data.checks import findings


def problems(path):
    found = findings(path)
    return [*found.errors, *found.warnings]
