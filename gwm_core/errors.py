"""The error that a user can fix. The command line prints it as one line and exits with 2."""


class InputError(ValueError):
    """Bad input from a person or a file. The message says what would have been valid."""


def one_of(what: str, value: str, valid) -> str:
    """Return ``value`` if it is among ``valid``, else raise InputError naming the choices."""
    if value not in valid:
        raise InputError(f"unknown {what} '{value}': valid are {', '.join(sorted(valid))}")
    return value
