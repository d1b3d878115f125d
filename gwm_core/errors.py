"""The error that a user can fix. The command line prints it as one line and exits with 2."""


class InputError(ValueError):
    """Bad input from a person or a file. The message says what would have been valid."""


def one_of(what: str, value: str, valid) -> str:
    """Return ``value`` if it is among ``valid``, else raise InputError naming the choices."""
    if value not in valid:
        raise InputError(f"unknown {what} '{value}': valid are {', '.join(sorted(valid))}")
    return value


def refuse_older_policy(folder, config: dict) -> None:
    """Raise InputError for the stored configuration of a policy that an earlier version made."""
    if "decoder_layers" in config:
        raise older_policy(folder)


def older_policy(folder) -> InputError:
    """The error of a folder with such a policy, or with the world model that was beside it."""
    return InputError(
        f"{folder} holds a policy of the older kind, without futures: train it anew with"
        " `gwm train policy`"
    )
