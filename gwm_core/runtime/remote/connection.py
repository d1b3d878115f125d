"""A connection to a policy server: observations out, answers back, each within a time."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
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
        except ValueError as error:
            raise InputError(f"{source}: {self.url}: {error}") from None
        if parts.scheme not in ("ws", "wss") or not host or parts.username or parts.query:
            raise InputError(f"{source}: ws://HOST:PORT or wss://HOST:PORT is wanted: {self.url}")
        if parts.scheme == "ws" and host not in LOOPBACK:
            raise InputError(
                f"{source}: {self.url} is not on this machine, so anyone on the way could move the"
                f" arm: wss:// and a token in {TOKEN} are wanted, or an SSH tunnel to 127.0.0.1"
            )
        if parts.scheme == "wss" and not os.environ.get(TOKEN):
            raise InputError(f"{source}: {self.url} needs a token: {TOKEN} is not set")

    def options(self) -> dict:
        """Arguments of ``connect`` that say who is trusted, and who we are."""
        token = os.environ.get(TOKEN, "")
        headers = {"Authorization": f"Api-Key {token}"} if token else {}
        if not self.url.startswith("wss:"):
            return {"additional_headers": headers}
        trusted = ssl.create_default_context(cafile=self.authority or None)
        return {"additional_headers": headers, "ssl": trusted}


class PolicyConnection:
    """Connects when it is needed, and again after a failure. Use it in one thread."""

    def __init__(self, address: ServerAddress):
        self.address = address
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
        """The server's answer. A connection whose answer is late or wrong is closed, so that this
        answer is never taken for another one's.

        Raises NoAnswer as ``metadata``.
        """
        self.metadata(timeout)
        try:
            self._socket.send(pack(observation))
            return self._read(timeout)
        except NoAnswer:
            self.close()
            raise
        except (OSError, WebSocketException) as error:
            self.close()
            raise NoAnswer(f"the connection ended ({_why(error)})") from None

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self, timeout: float) -> None:
        try:
            self._socket = connect(
                self.address.url,
                open_timeout=timeout,
                close_timeout=_CLOSING,
                ping_interval=None,  # a server that computes does not answer pings
                max_size=MAX_BYTES,
                compression=None,
                proxy=None,
                **self.address.options(),
            )
            self._metadata = self._read(timeout)
        except (OSError, WebSocketException) as error:  # TimeoutError and SSLError are OSErrors
            self.close()
            raise NoAnswer(f"no connection to {self.address.url} ({_why(error)})") from None
        except NoAnswer:
            self.close()
            raise

    def _read(self, timeout: float) -> dict:
        try:
            answer = self._socket.recv(timeout=timeout)
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
