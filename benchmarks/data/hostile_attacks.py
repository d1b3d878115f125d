"""Ways to damage a small dataset: random bytes, edits of its JSON, and attacks on an episode."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gwm_core.data.episode_info import INFO
from gwm_core.files.checksums import sha256
from gwm_core.interop.untrusted import SUMS

VALUES = (
    None,
    True,
    -1,
    0,
    1,
    7,
    10**9,
    2**63,
    10**400,
    0.5,
    1e308,
    "",
    "x",
    "../../../etc/passwd",
    "/etc/passwd",
    "a/../b",
    "{video_key:>999999999}",
    "A" * 100_000,
    [],
    {},
    [[]],
    [0] * 1000,
    {"a": {"b": []}},
    "\x00",
    "\ud800",
)


def sign(root: Path) -> None:
    """Update the hashes to the current files, as an attacker would."""
    if (root / SUMS).is_file():
        names = [
            line.partition("  ")[2]
            for line in (root / SUMS).read_text(errors="replace").splitlines()
        ]
        good = [name for name in names if (root / name).is_file()]
        (root / SUMS).write_text("".join(f"{sha256(root / name)}  {name}\n" for name in good))
    if (root / INFO).is_file():
        try:
            info = json.loads((root / INFO).read_text())
            info["sha256"] = {
                name: sha256(root / name) for name in info["sha256"] if (root / name).is_file()
            }
            (root / INFO).write_text(json.dumps(info))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return


def damage(rng, root: Path) -> str:
    """Damage one file at random; returns a description."""
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
    path = files[rng.integers(len(files))]
    data = bytearray(path.read_bytes())
    kind, size = int(rng.integers(9)), len(data)
    at = int(rng.integers(max(size, 1)))
    if rng.random() < 0.5:  # most structure is in headers and footers
        at = min(at % 512, size) if rng.random() < 0.5 else max(size - 1 - at % 2048, 0)
    if kind <= 2 and size:
        for _ in range((1, 3, 30)[kind]):
            data[min(at + int(rng.integers(64)) * (kind > 0), size - 1)] ^= 1 << int(
                rng.integers(8)
            )
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        data[at : at + 64] = bytes(len(data[at : at + 64]))
    elif kind == 5:
        data[at : at + 8] = b"\xff" * len(data[at : at + 8])
    elif kind == 6:
        data[at:at] = data[at // 2 : at // 2 + int(rng.integers(1, 4096))]
    elif kind == 7:
        del data[at : at + int(rng.integers(1, 256))]
    else:
        path.unlink()
        return f"{path.name} removed"
    path.write_bytes(bytes(data))
    return f"{path.name} damaged, kind {kind} at {at} of {size}"


def edit_json(rng, root: Path) -> str:
    """Replace or remove one value of a JSON file."""
    files = (
        sorted(path for path in root.rglob("*.json*") if path.is_file()) if root.is_dir() else []
    )
    if not files:
        return damage(rng, root)
    path = files[rng.integers(len(files))]
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    line = int(rng.integers(len(lines)))
    value = json.loads(lines[line])
    positions = list(_positions(value))
    holder, key = positions[rng.integers(len(positions))]
    chosen = VALUES[rng.integers(len(VALUES))]
    if rng.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
    elif rng.random() < 0.1:
        holder[key] = float(rng.choice([np.nan, np.inf]))
    else:
        holder[key] = chosen
    lines[line] = json.dumps(value)
    path.write_text("\n".join(lines) + "\n")
    return f"{path.name}: {key} is {str(chosen)[:20]!r}"


def _positions(value):
    """Holder and key of every value; of a list only the first three are entered."""
    for key in range(len(value)) if isinstance(value, list) else list(value):
        yield value, key
        if isinstance(value[key], (dict, list)) and not (isinstance(value, list) and key > 2):
            yield from _positions(value[key])


def write_text(name: str, text: str) -> Callable[[Path], None]:
    """Replace the content of a file."""
    return lambda root: (root / name).write_text(text)


def link_elsewhere(pattern: str) -> Callable[[Path], None]:
    """Put a file outside the dataset and a link in its place."""

    def attack(root: Path) -> None:
        path = sorted(root.glob(pattern))[0]
        target = root.parent / f"outside-{root.name}-{path.name}"
        shutil.move(path, target)
        path.symlink_to(target)

    return attack


EPISODE: dict[str, Callable[[Path], None]] = {
    "bag linked to elsewhere": link_elsewhere("bag/*.mcap"),
    "giant JSON": write_text(INFO, " " * (80 << 20)),
    "deep JSON": write_text(INFO, "[" * 1_000_000),
    "NaN in JSON": (
        lambda root: (root / INFO).write_text((root / INFO).read_text().replace("1.0", "NaN"))
    ),
}
