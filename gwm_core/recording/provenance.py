"""Where an episode comes from: what has to be known of it in a year."""

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


def about(site: Site, robot: str, task: str, policy: str, operator: str, record: Path) -> dict:
    """What every episode.json of a recorder says.

    The policy stands in it by a salted code (``policy_code``): whoever rates an episode does not
    know whose it is.
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
        **(site.tasks[task].to_dict() if task in site.tasks else {}),
    }


def policy_code(policy: str, record: Path) -> str:
    """The same for the same policy in one folder of episodes, and different in another. Makes the
    folder's salt.
    """
    file = record / _SALT
    if not file.exists():
        record.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(16))
    manifest = Path(policy) / "manifest.json"
    content = manifest.read_bytes() if manifest.is_file() else policy.encode()
    return hashlib.sha256(file.read_bytes() + content).hexdigest()[:12]


def versions() -> dict[str, str]:
    """Of Python, the packages that matter, and the source where it is a git checkout."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    here = Path(__file__).parent
    try:
        command = ["git", "-C", here, "describe", "--always", "--dirty"]
        told = subprocess.run(command, check=False, capture_output=True, text=True)
        if told.returncode == 0:
            found["source"] = told.stdout.strip()
    except FileNotFoundError:  # no git: the version has to do
        pass
    return found
