"""Start, watch and end the process that controls the arm."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict

from gwm.hardware.fci import link
from gwm.hardware.fci.link import Link, RobotState
from gwm_core.control.stop_trajectory import Reference
from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json
from gwm_core.site.fci_settings import FciSettings

HANG = 0.1  # [s] without a word of a process in control, after which it is killed
NO_ANSWER = 10.0  # [s] to connect
RESTART = 1.0  # [s] from the end of a process to the next one
HINTS = {  # what the library says, and the remedy
    "refused": "activate FCI in Desk, and let no other client have the robot",
    "timeout": "is the address the robot's, and the cable in Control's port?",
    "no route": "is the address the robot's, and the cable in Control's port?",
    "incompatible": "another version of the robot's system needs another franky-control:"
    " docs/controllers.md",
    "realtime": "boot a PREEMPT_RT kernel, or set real_time: false in the site file's fci section",
    "real-time": "boot a PREEMPT_RT kernel, or set real_time: false in the site file's fci section",
    "scheduling": "give this user rtprio in /etc/security/limits.conf",
}


def check_installed() -> None:
    """Raise InputError where the library is missing."""
    if importlib.util.find_spec("franky") is None:
        raise InputError("controller:=fci needs franky-control: pip install 'gwm[fci]'")


class ControlProcess:
    """The process that controls the arm, started again whenever it ends.

    It owns no thread. ``poll`` is called about every 5 ms.

    Args:
        address: of the robot.
        settings: of the site.
        on_state: called with every new state.

    Attributes:
        trouble: why the arm does not follow, or "".
    """

    def __init__(self, address: str, settings: FciSettings, on_state: Callable[[RobotState], None]):
        self._address = address
        self._settings = settings
        self._on_state = on_state
        self._process: subprocess.Popen | None = None
        self._link: Link | None = None
        self._started_at = 0.0  # [s]
        self._heard_at: float | None = None  # [s]; None: not since its start
        self._ended_at = -RESTART  # [s]
        self._in_control = False
        self._answer: Callable[[str], None] | None = None  # of a recovery
        self._asked = False  # the process for it
        self.trouble = ""

    def send(self, reference: Reference) -> None:
        """Pass a reference on."""
        if self._link is not None:
            self._link.send(link.REFERENCE, link.pack_reference(reference))

    def leave(self) -> None:
        """Bring the arm to rest and leave control."""
        if self._link is not None:
            self._link.send(link.LEAVE)

    @property
    def in_control(self) -> bool:
        """Whether the arm follows the references."""
        return self._in_control

    @property
    def pid(self) -> int | None:
        """Of the process, while it runs."""
        return None if self._process is None else self._process.pid

    def recover(self, answer: Callable[[str], None]) -> None:
        """Recover the robot from its errors, once it is connected.

        ``answer(error)`` is called once, or never if another recovery begins before.
        """
        if self._asked:
            answer("a recovery is under way")
        else:
            self._answer = answer

    def poll(self, now: float) -> None:
        """Take what the process says, and start or kill it."""
        if self._process is None:
            if now - self._ended_at >= RESTART:
                self._start(now)
            return
        try:
            for kind, content in self._link.receive():
                self._take(kind, content, now)
        except EOFError:
            self._over("", now)
            return
        if self._heard_at is None and now - self._started_at > NO_ANSWER:
            text = f"no answer from {self._address} for {NO_ANSWER:.0f} s"
            self._over(f"{text}: another client may have the robot", now)
        elif self._in_control and now - self._heard_at > HANG:
            self._over(f"the control process hung for {HANG} s and was killed", now)
        elif self._heard_at is not None and self._answer is not None and not self._asked:
            self._asked = self._link.send(link.RECOVER)

    def _take(self, kind: bytes, content: bytes, now: float) -> None:
        if kind == link.STATE:
            if self._heard_at is None:  # the first of this process
                self.trouble = ""
            state = link.state_of(content)
            self._in_control = state.in_control
            self._on_state(state)
        elif kind == link.TROUBLE:
            self.trouble = content.decode()
        elif kind == link.RECOVERED:
            self._answered(content.decode())
        elif kind == link.FAILED:
            self.trouble = self._explained(content.decode())
        if kind != link.FAILED:
            self._heard_at = now

    def _explained(self, text: str) -> str:
        hint = next((hint for word, hint in HINTS.items() if word in text.lower()), "")
        return f"{text} ({hint})" if hint else text

    def _answered(self, error: str) -> None:
        answer, self._answer = self._answer, None
        self._asked = False
        if answer is not None:
            answer(error)

    def _start(self, now: float) -> None:
        ours, theirs = link.pair()
        module = "gwm.hardware.fci.control"
        settings = to_json(asdict(self._settings))
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno()), self._address, settings],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._link = Link(ours)
        self._started_at = now
        self._heard_at = None
        self._in_control = False

    def _over(self, trouble: str, now: float) -> None:
        """End the process, which has ended by itself or must."""
        self.close()
        self.trouble = trouble or self.trouble or "the control process ended"
        self._ended_at = now
        self._in_control = False
        if self._asked:
            self._answered(self.trouble)

    def close(self) -> None:
        """Kill the process: the robot stops by itself when its client is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._link.close()
            self._process = self._link = None
