"""Services that answer later, while the executor goes on.

rclpy's own way is a coroutine, which EventsExecutor does not run.
"""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from std_srvs.srv import Trigger


class LateAnswer:
    """The answer to one request. ``give`` it once, in the executor's thread."""

    def __init__(self, response: Trigger.Response):
        self._response = response
        self._given = False
        self._send: Callable[[Trigger.Response], None] | None = None

    def give(self, success: bool, message: str) -> None:
        """Answer."""
        self._response.success = success
        self._response.message = message
        self._given = True
        self._answer()

    def send_by(self, send: Callable[[Trigger.Response], None]) -> None:
        """Name the way to the client."""
        self._send = send
        self._answer()

    def _answer(self) -> None:
        if self._given and self._send is not None:
            self._send(self._response)


def serve_later(node: Node, name: str, serve: Callable[[LateAnswer], None]) -> None:
    """Offer a Trigger service. ``serve`` may give the answer after it has returned."""

    def begin(_, response: Trigger.Response) -> LateAnswer:
        answer = LateAnswer(response)
        serve(answer)
        return answer

    service = node.create_service(Trigger, name, begin)
    send = service.send_response
    service.send_response = lambda answer, header: answer.send_by(
        lambda response: send(response, header)
    )
