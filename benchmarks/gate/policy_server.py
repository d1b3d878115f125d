"""A policy server by openpi's protocol, whose answers can be made wrong.

It packs and unpacks by code of its own, written from openpi's ``msgpack_numpy``.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress

import msgpack
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from gwm_core.runtime.remote.wire import MAX_BYTES

FAULTS = (
    "killed",
    "hung",
    "slow",
    "short",
    "narrow",
    "not finite",
    "degrees",
    "too large",
    "compressed",
    "in words",
    "another contract",
    "deaf",  # it reads nothing
)
ALL_FAULTS = (*FAULTS, "said twice")  # after which every second answer is an older one's


def packed(value) -> bytes:
    """A message as openpi's server packs it."""
    return msgpack.packb(value, default=_map_of)


def unpacked(data: bytes):
    """A message as openpi's server reads it."""
    return msgpack.unpackb(data, object_hook=_array_of)


def _map_of(array: np.ndarray) -> dict:
    content = array.tobytes(), array.dtype.str, array.shape
    return {b"__ndarray__": True, **dict(zip((b"data", b"dtype", b"shape"), content))}


def _array_of(value: dict):
    if b"__ndarray__" not in value:
        return value
    return np.ndarray(value[b"shape"], np.dtype(value[b"dtype"]), value[b"data"])


class PolicyServer:
    """Serves ``act`` on a free port of this machine, inside a ``with``.

    Args:
        act: observation -> actions (H, D). metadata: sent to every new client.

    Attributes:
        fault: "" or one of ``ALL_FAULTS``; of "killed" see ``stop`` and ``start``.
        slowness: [s] of the fault "slow".
        observations: that came.
    """

    def __init__(self, act: Callable[[dict], np.ndarray], metadata: dict | None = None):
        self._act, self._metadata = act, metadata or {}
        self.fault, self.slowness = "", 1.0
        self.observations: list[dict] = []
        self._server: Server | None = None
        self._clients: set[ServerConnection] = set()
        self._port, self._running = 0, False

    def __enter__(self) -> PolicyServer:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"ws://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the port of before where there was one."""
        self._server = serve(
            self._talk, "127.0.0.1", self._port, compression=None, max_size=None, close_timeout=0.1
        )
        self._running = True
        self._port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Die, as seen from the other side."""
        self._running = False
        if self._server is not None:
            self._server.shutdown()
            self._server = None
        for client in list(self._clients):
            client.socket.close()

    def _talk(self, client: ServerConnection) -> None:
        self._clients.add(client)
        try:
            client.send(packed(self._metadata | self._wrong_metadata()))
            while self._running:
                if self.fault == "deaf":
                    time.sleep(0.01)
                    continue
                with suppress(TimeoutError):
                    message = client.recv(timeout=0.02)
                    if self.fault == "deaf":
                        continue
                    self.observations.append(unpacked(message))
                    answer = self._answer(self.observations[-1])
                    for _ in range(2 if self.fault == "said twice" else 1):
                        if answer is not None:
                            client.send(answer)
        except (ConnectionClosed, OSError):
            pass  # the other side went away, or ``stop`` was called
        finally:
            self._clients.discard(client)

    def _wrong_metadata(self) -> dict:
        return {"action_dim": 3} if self.fault == "another contract" else {}

    def _answer(self, observation: dict) -> bytes | str | None:
        actions = np.array(self._act(observation))
        match self.fault:
            case "hung" | "killed":
                return None
            case "slow":
                time.sleep(self.slowness)
            case "short":
                actions = actions[:1]
            case "narrow":
                actions = actions[:, :-1]
            case "not finite":
                actions[len(actions) // 2, 0] = np.nan
            case "degrees":
                actions[:, :7] = np.degrees(actions[:, :7])
            case "too large":
                return bytes(MAX_BYTES + 1)
            case "compressed":
                return zlib.compress(packed({"actions": actions}))
            case "in words":
                return 'Traceback ...\nValueError: no image "wrist"'
        return packed({"actions": actions, "server_timing": {"infer_ms": 1.0}})
