"""Provenance of an episode: task, robot, operator, policy, calibration and versions."""

from __future__ import annotations

import hashlib
import platform
import secrets
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gwm_core.files.json_files import to_json
from gwm_core.site import Site

_PACKAGES = ("gwm", "torch", "mujoco", "rosbags", "opencv-python-headless")
_SALT = ".salt"  # in the folder of the episodes


def provenance(site: Site, robot: str, task: str, policy: str, operator: str, record: Path) -> dict:
    """The fields that a recorder writes into every episode.json.

    The policy is named by a salted code (``policy_code``), so a person who rates an episode cannot
    tell which policy it is.
    """
    cameras = {name: camera.to_dict() for name, camera in site.cameras.items()}
    code = policy_code(policy, record) if policy else "teleop"
    return {
        "task": task,
        "robot": robot,
        "operator": operator,
        "policy": code,
        "unusable": [],
        "cameras": cameras,
        "calibration": hashlib.sha256(to_json(cameras, sort_keys=True).encode()).hexdigest()[:16],
        "versions": versions(),
        **(site.tasks[task].to_episode() if task in site.tasks else {}),
    }


def policy_code(policy: str, record: Path, make: bool = True) -> str:
    """A code of a policy within one folder of episodes; it differs in another folder.

    The salt is a file of the folder. Where it is missing, it is made here, or the code is "".
    """
    file = record / _SALT
    if not file.exists():
        if not make:
            return ""
        record.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(16))
    files = [Path(policy) / "manifest.json", Path(policy)]  # the latter is a server's contract
    content = next((file.read_bytes() for file in files if file.is_file()), policy.encode())
    return hashlib.sha256(file.read_bytes() + content).hexdigest()[:12]


def versions() -> dict[str, str]:
    """Versions of Python, of some packages, and of the source where it is a git checkout."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    here = Path(__file__).parent
    try:
        command = ["git", "-C", here, "describe", "--always", "--dirty"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            found["source"] = done.stdout.strip()
    except FileNotFoundError:  # no git: the version has to do
        pass
    return found
