"""Who may tell the arm what through the console: tokens, where a request comes from, how much of
it, and the one lease.

Being on this machine is no proof of anything: any page in the operator's browser can open a socket
to 127.0.0.1, and a name that its author controls can be made to point there (facts and sources:
docs/console.md). So all of it is checked.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

OPERATOR, VIEWER = "operator", "viewer"
# [s] the state a command answers to may be old: a link that froze must not deliver it afterwards
LATE = 1.0
LEASE_TIME = 2.0  # [s] without a word from the operator, after which another may take over


def cookie_name(role: str, host: str) -> str:
    """Of a role at a console's "address:port": cookies know no ports, and one browser may be let in
    twice.
    """
    return f"gwm_{role}_{host.rpartition(':')[2]}"


@dataclass(frozen=True)
class Access:
    """What a request must carry.

    Attributes:
        tokens: token -> role.
        hosts: values of Host that are ours, ports included.
        scheme: http or https.
    """

    tokens: Mapping[str, str]
    hosts: tuple[str, ...]
    scheme: str = "http"

    def role(self, token: str) -> str:
        """The role of a token, or "". Takes the same time for every wrong one."""
        given, role = token.encode(), ""
        for known, its_role in self.tokens.items():
            if hmac.compare_digest(known.encode(), given):
                role = its_role
        return role

    def refuses(self, host: str, origin: str | None, token: str, socket: bool) -> tuple[int, str]:
        """HTTP status and reason for refusing a request; (0, "") where it is in order.

        Args:
            origin: of the page that made it. Pages always send one with a socket, and with nothing
                a form could send.
            socket: whether a socket is to be opened.
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
    """Messages a client may send: ``rate`` a second, ``burst`` at once."""

    def __init__(self, rate: float, burst: float):
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, None

    def spend(self, now: float) -> bool:
        """Whether one more is allowed."""
        passed = 0.0 if self._at is None else max(now - self._at, 0.0)
        self._left, self._at = min(self._burst, self._left + self._rate * passed), now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class OperatorLease:
    """One operator at a time: the first to speak has it, until nothing was heard of them for
    ``LEASE_TIME``.
    """

    def __init__(self):
        self.holder = 0  # id of a client, 0 = nobody
        self._heard = -float("inf")

    def take(self, client: int, now: float) -> bool:
        """Whether a client has it; a free one is taken, one's own is renewed."""
        if self.holder != client and now - self._heard <= LEASE_TIME:
            return False
        self.holder, self._heard = client, now
        return True

    def give(self, client: int) -> None:
        """Give it back, where it is one's own."""
        if self.holder == client:
            self.holder, self._heard = 0, -float("inf")
