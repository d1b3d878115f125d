"""A node that reads topics at the rate of its loop, instead of being woken by every message."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from gwm.ros.node import take_waiting

LIMIT = 5  # small messages of one topic in one call


class PollingNode(Node):
    """A node with subscriptions that no executor waits for.

    However many messages come, one call takes a bounded number of each topic. A message costs only
    what taking it costs.
    """

    def __init__(self, name: str, **more):
        self._polled: dict[Subscription, tuple[Callable, int]] = {}
        super().__init__(name, **more)

    @property
    def subscriptions(self) -> Iterator[Subscription]:
        """Those that an executor waits for."""
        return (one for one in super().subscriptions if one not in self._polled)

    def poll_topic(
        self, kind: type, topic: str, take: Callable, qos: QoSProfile, limit: int = LIMIT
    ) -> None:
        """Read a topic: ``take_messages`` calls ``take(message)``, ``limit`` times at most."""
        self._polled[self.create_subscription(kind, topic, take, qos)] = take, limit

    def take_messages(self) -> None:
        """Take what waits, topic by topic in the order of ``poll_topic``."""
        for subscription, (take, limit) in self._polled.items():
            for message in take_waiting(subscription, limit):
                take(message)
