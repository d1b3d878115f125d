"""The error that a user can fix. The command line prints it as one line and exits with 2."""

from difflib import get_close_matches


class InputError(ValueError):
    """Bad input from a person or a file. The message says what would have been valid."""


def meant(word: str, valid) -> str:
    """The end of "unknown word": the valid one that looks like it, and a colon."""
    words = [str(one) for one in valid]
    longer = [one for one in words if word and one.startswith(str(word))]
    near = longer or get_close_matches(str(word), words, 1, 0.65)
    return f": is {near[0]} meant?" if near else ":"


def one_of(what: str, value: str, valid) -> str:
    """Return ``value`` if it is among ``valid``, else raise InputError naming the choices."""
    if value not in valid:
        raise InputError(
            f"unknown {what} '{value}'{meant(value, valid)} valid are {', '.join(sorted(valid))}"
        )
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
