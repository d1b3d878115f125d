"""The questions of ``gwm setup`` on a terminal; answers may also come from a pipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2

from gwm.tools.setup.found_cameras import FoundCamera, current_joints
from gwm_core.errors import InputError, one_of
from gwm_core.geometry.limits import PROFILES, Workspace
from gwm_core.site.site_draft import DEFAULTS, MOUNTS, POSES, camera_pose
from gwm_core.site.workspace_view import draw_workspace
from gwm_core.topics import ROBOTS

LEAVE_OUT = "-"


class Questions:
    """Asks one question after the other.

    Args:
        read: returns the answer to a prompt; raises EOFError when there are no more.
        defaults: take every default without asking.
    """

    def __init__(self, read: Callable[[str], str], defaults: bool = False):
        self._read = read
        self._defaults = defaults

    def ask(self, text: str, default: str, check: Callable[[str], object]):
        """Return what ``check`` makes of the answer; an empty one is the default.

        A wrong answer is asked again with the reason.
        """
        if self._defaults:
            return check(default)
        while True:
            try:
                answer = self._read(f"{text} [{default}]: ").strip() or default
            except EOFError:
                raise InputError(
                    f"no answer to '{text}': --yes takes every default without asking"
                ) from None
            try:
                return check(answer)
            except (InputError, ValueError) as error:
                print(f"  {error}")


def ask_all(questions: Questions, found: Sequence[FoundCamera], pictures: Path) -> dict:
    """Return the answers for ``site_draft``. Pictures of the cameras are written to a folder."""
    ask = questions.ask
    robot = {
        "type": ask("robot: fr3 or panda", "fr3", lambda a: one_of("robot", a, ROBOTS)),
        "ip": ask("address of the arm's control box, - for none yet", LEAVE_OUT, _left_out),
    }
    low = ask("lowest corner of the workspace, x y z [m]", _joined("low"), _metres)
    high = ask("highest corner", _joined("high"), _metres)
    workspace = Workspace(tuple(low), tuple(high))
    cameras = {}
    for number, camera in enumerate(found):
        if entry := _ask_camera(questions, number, camera, workspace, pictures):
            cameras |= entry
    home = ask("home: default, or now for where the arm stands", "default", _home)
    name = ask("profile: desk, lab or full", "desk", lambda a: one_of("profile", a, PROFILES))
    speed = ask("most speed of the tool [m/s]", "0.1", float)
    return {
        "robot": robot,
        "cameras": cameras,
        "workspace": {"low": low, "high": high},
        "home": home,
        "profile": {"name": name, "tcp_speed": speed},
    }


def _ask_camera(
    questions: Questions, number: int, camera: FoundCamera, box: Workspace, pictures: Path
) -> dict:
    """Return {name: answers}, or nothing for a camera that is left out."""
    ask = questions.ask
    height, width = camera.image.shape[:2]
    what = f"serial {camera.serial}" if camera.serial else camera.prefix
    file = pictures / f"camera_{number + 1}.jpg"
    _write(file, camera.image)
    print(f"camera {number + 1}: {what}, {width} x {height}, its picture is {file}")
    named, eye, target = POSES[min(number, len(POSES) - 1)]
    own = camera.prefix.rpartition("/")[2]
    name = ask("its name, - to leave it out", named if camera.serial else own, str)
    if name == LEAVE_OUT:
        return {}
    entry = {"prefix": camera.prefix, "serial": camera.serial}
    entry["mount"] = ask(
        "on a stand (base) or on the hand", "base", lambda a: one_of("mount", a, MOUNTS)
    )
    while entry["mount"] == "base":
        entry["eye"] = eye = ask("where it is, x y z [m] from the base", _words(eye), _metres)
        entry["target"] = target = ask("the point it looks at", _words(target), _metres)
        drawn = draw_workspace(camera.image, camera.K, camera_pose(name, entry), box)
        _write(pictures / f"{name}_workspace.jpg", drawn)
        print(f"the workspace as it sees it then: {pictures / f'{name}_workspace.jpg'}")
        if ask("is that roughly right? yes or no", "yes", _yes):
            break
    return {name: entry}


def _write(file: Path, image) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(file), image[..., ::-1]):
        raise InputError(f"cannot write {file}")


def _joined(end: str) -> str:
    return _words(DEFAULTS["workspace"][end])


def _words(row: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in row)


def _metres(answer: str) -> list[float]:
    row = [float(word) for word in answer.replace(",", " ").split()]
    if len(row) != 3:
        raise ValueError(f"three numbers are wanted, got {len(row)}")
    return row


def _left_out(answer: str) -> str:
    return "" if answer == LEAVE_OUT else answer


def _yes(answer: str) -> bool:
    return one_of("answer", answer.lower(), ("yes", "no")) == "yes"


def _home(answer: str) -> list[float]:
    if one_of("answer", answer, ("default", "now")) == "now":
        return current_joints()
    return DEFAULTS["home"]
