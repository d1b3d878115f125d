"""Checks of files, for pre-commit and the test suite: `file_checks.py RULE FILE...`."""

import sys
from pathlib import Path

LARGEST = 1_000_000  # [bytes]


def end_of_file(path: Path) -> bool:
    """Whether a text ends with exactly one newline, or is empty."""
    content = path.read_bytes()
    return not content or (content.endswith(b"\n") and not content.endswith(b"\n\n"))


def large_files(path: Path) -> bool:
    """Whether a file is small enough for the repository."""
    return path.stat().st_size <= LARGEST


RULES = {"end-of-file": end_of_file, "large-files": large_files}

if __name__ == "__main__":
    rule = RULES[sys.argv[1]]
    wrong = [name for name in sys.argv[2:] if not rule(Path(name))]
    print("\n".join(f"{name}: {sys.argv[1]}" for name in wrong), end="\n" if wrong else "")
    sys.exit(bool(wrong))
