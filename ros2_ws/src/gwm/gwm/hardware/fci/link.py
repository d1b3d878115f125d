"""Datagrams between the node and the process that controls the arm."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gwm_core.control.stop_trajectory import Reference

_LONGEST = 4096  # bytes
_REFERENCE = struct.Struct("<21d")
_STATE = struct.Struct("<d14dBBd")

# to the process that controls the arm
REFERENCE, RECOVER, LEAVE = b"R", b"C", b"L"
# from it
STATE, ALIVE, TROUBLE, RECOVERED, FAILED = b"S", b"A", b"T", b"D", b"F"


class RobotState(NamedTuple):
    """What the robot reports."""

    time: float  # [s] of the robot's clock
    q: np.ndarray  # (7,) [rad]
    dq: np.ndarray  # (7,) [rad/s]
    mode: int  # as in gwm_core.control.recovery.MODES
    in_control: bool
    success_rate: float  # of the commands, 0 to 1


class Link:
    """One end of the connection. Sending never blocks; what does not fit is lost."""

    def __init__(self, end: socket.socket):
        end.setblocking(False)
        self._end = end

    def send(self, kind: bytes, content: bytes = b"") -> bool:
        """Send a datagram. Returns whether it went out."""
        try:
            self._end.send(kind + content)
        except (BlockingIOError, ConnectionError):
            return False
        return True

    def say(self, kind: bytes, text: str) -> bool:
        """Send a text."""
        return self.send(kind, text.encode()[: _LONGEST - 1])

    def receive(self) -> Iterator[tuple[bytes, bytes]]:
        """All datagrams that wait: kind and content.

        Raises EOFError when the other end is closed.
        """
        while True:
            try:
                datagram = self._end.recv(_LONGEST)
            except BlockingIOError:
                return
            except ConnectionError as error:
                raise EOFError from error
            if not datagram:
                raise EOFError
            yield datagram[:1], datagram[1:]

    def close(self) -> None:
        """Close this end."""
        self._end.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def pack_reference(reference: Reference) -> bytes:
    """Content of a ``REFERENCE``."""
    return _REFERENCE.pack(*np.concatenate(reference))


def reference_of(content: bytes) -> Reference:
    """The inverse of ``pack_reference``."""
    return Reference(*np.array(_REFERENCE.unpack(content)).reshape(3, 7))


def pack_state(state: RobotState) -> bytes:
    """Content of a ``STATE``."""
    return _STATE.pack(
        state.time, *state.q, *state.dq, state.mode, state.in_control, state.success_rate
    )


def state_of(content: bytes) -> RobotState:
    """The inverse of ``pack_state``."""
    time, *values = _STATE.unpack(content)
    q, dq = np.array(values[:14]).reshape(2, 7)
    return RobotState(time, q, dq, values[14], bool(values[15]), values[16])
