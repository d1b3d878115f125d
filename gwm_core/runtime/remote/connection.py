"""A connection to a policy server: observations out, answers back, each within a time."""

from __future__ import annotations

import os
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from socket import SHUT_RDWR
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from gwm_core.errors import InputError
from gwm_core.runtime.remote.wire import MAX_BYTES, pack, unpack

TOKEN = "GWM_POLICY_TOKEN"  # environment variable  # noqa: S105
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CLOSING = 0.1  # [s] that a server has to say good-bye


class NoAnswer(Exception):
    """The server gave no answer that can be used. The text says why."""


@dataclass(frozen=True)
class ServerAddress:
    """Where a policy server listens.

    Attributes:
        url: ``ws://`` on this machine, ``wss://`` on another one.
        authority: file (PEM) of the certificates to trust instead of the system's; "": the latter.
    """

    url: str
    authority: str = ""

    def check(self, source: str) -> None:
        """Raise InputError, which begins with ``source``, where the address is no safe one."""
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
            (host or "").encode("idna")
        except ValueError as error:
            raise InputError(f"{source}: this is no address: {error}") from None
        secret = "@" in parts.netloc  # what is written there would appear in logs
        if parts.scheme not in ("ws", "wss") or not host or secret or parts.query or parts.fragment:
            raise InputError(f"{source}: ws://HOST:PORT or wss://HOST:PORT is wanted")
        if not self.encrypted and host not in LOOPBACK:
            raise InputError(
                f"{source}: {self.url} is not on this machine, so anyone on the way could move the"
                f" arm: wss:// and a token in {TOKEN} are wanted, or an SSH tunnel to 127.0.0.1"
            )
        if self.encrypted and not os.environ.get(TOKEN):
            raise InputError(f"{source}: {self.url} needs a token: {TOKEN} is not set")

    @property
    def encrypted(self) -> bool:
        """Whether the connection is."""
        return urlsplit(self.url).scheme == "wss"

    def options(self) -> dict:
        """Arguments of ``connect`` that say who is trusted, and who we are.

        A server of this machine gets no token: any of its users may listen there.
        """
        if not self.encrypted:
            return {}
        return {
            "additional_headers": {"Authorization": f"Api-Key {os.environ.get(TOKEN, '')}"},
            "ssl": ssl.create_default_context(cafile=self.authority or None),
        }


class PolicyConnection:
    """Connects when it is needed, and again after a failure. Use it in one thread."""

    def __init__(self, address: ServerAddress):
        self.address = address
        self._options: dict | None = None  # made once: reading certificates takes a while
        self._socket: ClientConnection | None = None
        self._metadata: dict = {}

    def metadata(self, timeout: float) -> dict:
        """What the server says of itself; connect for it if needed.

        Raises NoAnswer after ``timeout`` [s], and for anything that is no such server.
        """
        if self._socket is None:
            self._open(timeout)
        return self._metadata

    def infer(self, observation: dict, timeout: float) -> dict:
        """The server's answer within ``timeout`` [s], on a connection that is open.

        A connection whose answer is late or wrong is closed, and so is one on which the server
        spoke unasked. So no answer is ever taken for another one's.

        Raises NoAnswer as ``metadata``.
        """
        socket = self._socket
        # a server that reads nothing would hold up ``send``, which has no limit of its own
        late = threading.Event()
        limit = threading.Timer(timeout, _break, [socket, late])
        limit.start()
        try:
            if _has_spoken(socket):
                raise NoAnswer("the server spoke unasked")
            socket.send(pack(observation))
            return _read(socket, timeout)
        except NoAnswer:
            self.close()
            raise
        except (OSError, WebSocketException) as error:
            self.close()
            if late.is_set():
                raise NoAnswer(f"no answer within {timeout:g} s") from None
            raise NoAnswer(f"the connection ended ({_why(error)})") from None
        finally:
            limit.cancel()

    def close(self) -> None:
        """End the connection."""
        socket, self._socket, self._metadata = self._socket, None, {}
        if socket is not None:
            socket.close()

    def _open(self, timeout: float) -> None:
        if self._options is None:
            self._options = self.address.options()
        socket = None
        try:
            socket = connect(
                self.address.url,
                open_timeout=timeout,
                close_timeout=_CLOSING,
                ping_interval=None,  # a server that computes does not answer pings
                max_size=MAX_BYTES,
                compression=None,
                proxy=None,
                **self._options,
            )
            metadata = _read(socket, timeout)
        except (OSError, ValueError, WebSocketException, NoAnswer) as error:
            if socket is not None:
                socket.close()
            raise NoAnswer(f"no connection to {self.address.url} ({_why(error)})") from None
        self._socket, self._metadata = socket, metadata


def _has_spoken(socket: ClientConnection) -> bool:
    """Whether a message waits that nobody asked for."""
    try:
        socket.recv(timeout=0)
    except TimeoutError:
        return False
    return True


def _break(socket: ClientConnection, late: threading.Event) -> None:
    """End the connection below, so that what waits for it returns, and say so."""
    late.set()
    with suppress(OSError):  # it has ended already
        socket.socket.shutdown(SHUT_RDWR)


def _read(socket: ClientConnection, timeout: float) -> dict:
    try:
        answer = socket.recv(timeout=timeout)
    except TimeoutError:
        raise NoAnswer(f"no answer within {timeout:g} s") from None
    if isinstance(answer, str):  # as openpi's server tells its own errors
        lines = answer.strip().splitlines() or [""]
        raise NoAnswer(f"the server has failed: {lines[-1][:200]}")
    try:
        return unpack(answer)
    except ValueError as error:
        raise NoAnswer(str(error)) from None


def _why(error: Exception) -> str:
    return str(error).strip()[:200] or type(error).__name__
