"""Access to the console: tokens, the origin of a request, rate limits, and the operator's lease.

A request from this machine proves nothing. Any page in the operator's browser can open a socket to
127.0.0.1, and a domain name can be made to point there (sources: docs/console.md). So every request
is checked.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

OPERATOR, VIEWER = "operator", "viewer"
# [s] maximum age of the state that a command refers to: a frozen link must not deliver it later
LATE = 1.0
LEASE_TIME = 2.0  # [s] without a message of the operator, after which another may take over


def cookie_name(role: str, host: str) -> str:
    """Return the cookie's name of a role at a console's "address:port".

    Cookies know no ports, and one browser may have access to two consoles.
    """
    return f"gwm_{role}_{host.rpartition(':')[2]}"


@dataclass(frozen=True)
class Access:
    """The properties that a request must have.

    Attributes:
        tokens: token -> role.
        hosts: values of Host that are ours, ports included.
        scheme: http or https.
    """

    tokens: Mapping[str, str]
    hosts: tuple[str, ...]
    scheme: str = "http"

    def role(self, token: str) -> str:
        """Return the role of a token, or "". It takes the same time for every wrong token."""
        given, role = token.encode(), ""
        for valid, its_role in self.tokens.items():
            if hmac.compare_digest(valid.encode(), given):
                role = its_role
        return role

    def refuses(self, host: str, origin: str | None, token: str, socket: bool) -> tuple[int, str]:
        """Return HTTP status and reason for refusing a request; (0, "") for a valid one.

        Args:
            host: the request's Host.
            origin: of the page that made it. Pages always send one when they open a socket.
            token: of the address or the cookie.
            socket: whether the request opens a socket.
        """
        if host not in self.hosts:
            return (
                421,
                (
                    f"Host {host[:80]!r} is not this console, {self.origins[0]} is (through ssh -L:"
                    " the same port)"
                ),
            )
        if (origin is None and socket) or (origin is not None and origin not in self.origins):
            return 403, f"Origin {origin and origin[:80]!r} is not this console"
        if not self.role(token):
            return 401, "no valid token: open the address that was printed when the console started"
        return 0, ""

    @property
    def origins(self) -> tuple[str, ...]:
        """Origins of our own pages."""
        return tuple(f"{self.scheme}://{host}" for host in self.hosts)


class RateLimit:
    """Limits a client to ``rate`` messages a second, ``burst`` at once."""

    def __init__(self, rate: float, burst: float):
        self._rate, self._burst = rate, burst
        self._left = burst
        self._at: float | None = None

    def spend(self, now: float) -> bool:
        """Return whether one more message is allowed, and count it."""
        passed = 0.0 if self._at is None else max(now - self._at, 0.0)
        self._left, self._at = min(self._burst, self._left + self._rate * passed), now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class OperatorLease:
    """Gives control to one client, until it sent nothing for ``LEASE_TIME``."""

    def __init__(self):
        self.holder = 0  # id of a client, 0 = nobody
        self._heard = -float("inf")

    def take(self, client: int, now: float) -> bool:
        """Take a free lease or renew one's own. Returns whether the client has it."""
        if self.holder != client and now - self._heard <= LEASE_TIME:
            return False
        self.holder, self._heard = client, now
        return True

    def hand_over(self, client: int, now: float) -> None:
        """Make another client the holder."""
        self.holder, self._heard = client, now

    def give(self, client: int) -> None:
        """Give one's own lease back."""
        if self.holder == client:
            self.holder, self._heard = 0, -float("inf")
