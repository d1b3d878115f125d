"""The questions of ``gwm setup`` on a terminal; answers may also come from a pipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import cv2

from gwm.tools.setup.found_cameras import FoundCamera, current_joints
from gwm_core.errors import InputError, one_of
from gwm_core.geometry.limits import PROFILES, Workspace
from gwm_core.site.site_draft import DEFAULTS, MOUNTS, camera_pose, check_answers, first_pose
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
    kind = ask("robot: fr3 or panda", "fr3", lambda a: one_of("robot", a, ROBOTS))

    def robot_at(answer: str) -> dict:
        return _checked("robot", {"type": kind, "ip": "" if answer == LEAVE_OUT else answer})

    robot = ask("address of the arm's control box, - for none yet", LEAVE_OUT, robot_at)
    low = ask("lowest corner of the workspace, x y z [m]", _default("low"), _metres)

    def box_to(answer: str) -> dict:
        return _checked("workspace", {"low": low, "high": _metres(answer)})

    workspace = ask("highest corner", _default("high"), box_to)
    cameras: dict[str, dict] = {}
    for number, camera in enumerate(found):
        cameras |= _ask_camera(questions, number, camera, workspace, pictures, cameras)
    home = ask("home: default, or now for where the arm stands", "default", _home)
    name = ask("profile: desk, lab or full", "desk", lambda a: one_of("profile", a, PROFILES))

    def at_most(answer: str) -> dict:
        return _checked("profile", {"name": name, "tcp_speed": float(answer)})

    profile = ask("most speed of the tool [m/s]", "0.1", at_most)
    return {
        "robot": robot,
        "cameras": cameras,
        "workspace": workspace,
        "home": home,
        "profile": profile,
    }


def _checked(key: str, value):
    """Return an answer. Raises InputError where a site file would refuse it."""
    check_answers({key: value})
    return value


def _ask_camera(
    questions: Questions,
    number: int,
    camera: FoundCamera,
    box: dict,
    pictures: Path,
    taken: Collection[str],
) -> dict:
    """Return {name: answers}, or nothing for a camera that is left out."""
    ask = questions.ask
    height, width = camera.image.shape[:2]
    what = f"serial {camera.serial}" if camera.serial else camera.prefix
    file = pictures / f"camera_{number + 1}.jpg"
    _write(file, camera.image)
    print(f"camera {number + 1}: {what}, {width} x {height}, its picture is {file}")
    entry = {"prefix": camera.prefix, "serial": camera.serial}

    def named(answer: str) -> str:
        if answer in taken:
            raise InputError(f"another camera is called {answer}")
        if answer != LEAVE_OUT:
            _checked("cameras", {answer: entry | {"mount": "hand"}})
        return answer

    default, eye, target = first_pose(number)
    own = camera.prefix.rpartition("/")[2]
    name = ask("its name, - to leave it out", default if camera.serial else own, named)
    if name == LEAVE_OUT:
        return {}
    entry["mount"] = ask(
        "on a stand (base) or on the hand", "base", lambda a: one_of("mount", a, MOUNTS)
    )
    while entry["mount"] == "base":
        entry["eye"] = eye = ask("where it is, x y z [m] from the base", _words(eye), _metres)

        def looking_at(answer: str, eye=eye) -> list[float]:
            point = _metres(answer)
            camera_pose(name, entry | {"eye": eye, "target": point})
            return point

        entry["target"] = target = ask("the point it looks at", _words(target), looking_at)
        workspace = Workspace(tuple(box["low"]), tuple(box["high"]))
        drawn = draw_workspace(camera.image, camera.K, camera_pose(name, entry), workspace)
        _write(pictures / f"{name}_workspace.jpg", drawn)
        print(f"the workspace as it sees it then: {pictures / f'{name}_workspace.jpg'}")
        if ask("is that roughly right? yes or no", "yes", _yes):
            break
    return {name: entry}


def _write(file: Path, image) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(file), image[..., ::-1]):
        raise InputError(f"cannot write {file}")


def _default(end: str) -> str:
    return _words(DEFAULTS["workspace"][end])


def _words(row: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in row)


def _metres(answer: str) -> list[float]:
    row = [float(word) for word in answer.replace(",", " ").split()]
    if len(row) != 3 or not all(map(math.isfinite, row)):
        raise ValueError(f"three numbers are wanted, got '{answer}'")
    return row


def _yes(answer: str) -> bool:
    return one_of("answer", answer.lower(), ("yes", "no")) == "yes"


def _home(answer: str) -> list[float]:
    if one_of("answer", answer, ("default", "now")) == "now":
        return current_joints()
    return DEFAULTS["home"]
