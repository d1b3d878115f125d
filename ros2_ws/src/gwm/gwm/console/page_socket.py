"""The protocol between pages and the node behind the console. It knows nothing of ROS.

The socket carries JSON both ways, and pictures as a name, a stamp, a zero byte and a JPEG. A frame
is a few pictures and the state. The next frame is sent after the page confirmed this one, so a slow
page skips frames and shows the newest. Commands are numbered, name the frame that they refer to,
and are answered. STOP and HOLD pass every limit, whatever the frame's age and whoever has the
lease.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from fastapi import WebSocket, WebSocketDisconnect

from gwm.console.access import LATE, OPERATOR, OperatorLease, RateLimit
from gwm_core.files.json_files import to_json

ANYONE = ("stop", "hold")  # open to every page
FREQUENT = ("here", "beat", "joy")  # not logged, not answered; here: a frame was received
MAX_MESSAGE = 8192  # [bytes]
# Messages a second, and at once.
COMMAND_RATE = (20.0, 40.0)
FREQUENT_RATE = (80.0, 160.0)
URGENT_RATE = (200.0, 400.0)
ASK_TIME = 20.0  # [s] for which a page asks for control
PERIOD = 0.1  # [s] between frames, at least
MAX_PICTURES = 6  # of a frame, the live ones first
Answer = Callable[[bool, str], None]  # whether it was done, and the text for the operator


class ConsoleBackend(Protocol):
    """The node behind the server. Its methods are called from the server's thread."""

    pictures: dict[str, tuple[int, bytes]]  # name -> stamp [ns], JPEG
    viewer_port: int  # on 127.0.0.1, of the server of the 3D scene; 0 = none

    def state(self) -> dict:
        """Return what the page shows; "now" [ms] is the time by the clock of the stamps."""

    def act(self, command: dict, answer: Answer) -> None:
        """Do what the operator asks for.

        Args:
            command: its "do" names it.
            answer: called, from any thread, once the outcome is known.

        Raises:
            ValueError: it is no command, or it is refused.
        """


@dataclass
class OpenPage:
    """A socket that is open."""

    id: int
    socket: WebSocket
    role: str
    frame: int = 0  # the last one sent
    # [s] when the state of the last two frames was read
    taken: dict[int, float] = field(default_factory=dict)
    received: asyncio.Event = field(default_factory=asyncio.Event)  # the last frame
    answers: asyncio.Queue = field(default_factory=asyncio.Queue)


class PageSockets:
    """Serves every open page. ``log`` gets every command and every refusal."""

    def __init__(self, backend: ConsoleBackend, log: Callable[[dict], None]):
        self._backend = backend
        self._log = log
        self._lease, self._ids = OperatorLease(), count(1)
        self._asking = 0  # id of the page that asks for control; 0: none
        self._asked_at = 0.0  # [s]
        self.clients = 0

    async def serve(self, socket: WebSocket, role: str) -> None:
        """Serve a page with access until it leaves or is cut off."""
        await socket.accept()
        page = OpenPage(next(self._ids), socket, role)
        self.clients += 1
        self._log(
            {"client": page.id, "event": "connected", "role": role, "address": socket.client.host}
        )
        jobs = [
            asyncio.create_task(job(page))
            for job in (self._receive, self._send_frames, self._send_answers)
        ]
        reason = None
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                reason = job.result()  # an error ends the socket, not only the frames
        except WebSocketDisconnect:
            pass
        finally:
            for job in jobs:
                job.cancel()
            self.clients -= 1
            self._lease.give(page.id)
            self._asking = 0 if self._asking == page.id else self._asking
            self._log(
                {"client": page.id, "event": "left"} | ({"dropped": reason} if reason else {})
            )
        if reason:
            await socket.close(1008, reason)

    async def _receive(self, page: OpenPage) -> str:
        """Obey a page's messages. Returns why the page is cut off."""
        commands, frequent, urgent = (
            RateLimit(*COMMAND_RATE),
            RateLimit(*FREQUENT_RATE),
            RateLimit(*URGENT_RATE),
        )
        while True:
            text, now = await page.socket.receive_text(), time.monotonic()
            if len(text) > MAX_MESSAGE:
                return f"a message of {len(text)} bytes; {MAX_MESSAGE} are the most"
            command = _command(text)
            if command is None:
                return 'no JSON object with "do"'
            what = command["do"]
            budget = urgent if what in ANYONE else frequent if what in FREQUENT else commands
            enough = not budget.spend(now)
            if not enough or what in ANYONE:
                self._obey(page, what, command, now)
            if enough:
                return "too many messages"

    def _obey(self, page: OpenPage, what: str, command: dict, now: float) -> None:
        number, frame = command.pop("id", None), command.pop("frame", None)
        number = number if isinstance(number, int) else None
        if what == "here" and frame == page.frame:
            page.received.set()
        if what == "ask" and page.role == OPERATOR:
            return self._ask_for_control(page, number, command, now)
        reason = "" if what in ANYONE else self._refuses(page, what, frame, now)
        loop = asyncio.get_running_loop()

        def answer(done: bool, text: str) -> None:
            loop.call_soon_threadsafe(self._answered, page, number, done, text)

        if not reason and what == "give":
            reason = self._give_control(page, command, answer, now)
        elif not reason and what != "here":
            try:
                self._backend.act(command, answer)
            except ValueError as error:
                reason = str(error)
        if what not in FREQUENT:
            self._log(
                {"client": page.id, "command": command} | ({"refused": reason} if reason else {})
            )
            if reason:
                page.answers.put_nowait({"answer": number, "ok": False, "text": reason})

    def _asker(self, now: float) -> int:
        """Return the id of the page that asks for control, 0 for none."""
        if now - self._asked_at > ASK_TIME or self._asking == self._lease.holder:
            self._asking = 0
        return self._asking

    def _ask_for_control(self, page: OpenPage, number, command: dict, now: float) -> None:
        """Note that a page asks for control. The first one that asks is asked for."""
        first = self._asker(now) in (0, page.id)
        if first:
            self._asking, self._asked_at = page.id, now
        self._log({"client": page.id, "command": command})
        text = f"page {page.id} asks for control" if first else "another page asks already"
        page.answers.put_nowait({"answer": number, "ok": first, "text": text})

    def _give_control(self, page: OpenPage, command: dict, answer: Answer, now: float) -> str:
        """Give the lease to the page that asks for it. Returns why not, or ""."""
        asker = self._asker(now)
        if not asker or asker == page.id or command.get("to") != asker:
            return "no such page asks for control"
        self._lease.hand_over(asker, now)
        self._asking = 0
        answer(True, "another page has control now")
        return ""

    def _refuses(self, page: OpenPage, what: str, frame, now: float) -> str:
        """Return why a page must not command this now, or "". It renews the page's lease."""
        if page.role != OPERATOR:
            return "this page only shows"
        if not self._lease.take(page.id, now):
            return "another page has control"
        taken = page.taken.get(frame) if isinstance(frame, int) else None
        if what != "here" and (taken is None or now - taken > LATE):
            return f"too late: what the page showed then was over {LATE:g} s old"
        return ""

    def _answered(self, page: OpenPage, number, done: bool, text: str) -> None:
        """Log and send an answer, in the server's thread."""
        if not done:
            self._log({"client": page.id, "answer": number, "refused": text})
        page.answers.put_nowait({"answer": number, "ok": done, "text": text})

    async def _send_answers(self, page: OpenPage) -> None:
        while True:
            await page.socket.send_text(to_json(await page.answers.get()))

    async def _send_frames(self, page: OpenPage) -> None:
        """Send frames, each after the page confirmed the one before.

        A frame that is not sent yet can still become the newest.
        """
        shown: dict[str, int] = {}
        while True:
            begun = time.monotonic()
            for name, stamp, jpeg in self._new_pictures(shown):
                await page.socket.send_bytes(f"{name} {stamp}".encode() + b"\0" + jpeg)
            control = (
                "view"
                if page.role != OPERATOR
                else "yours"
                if self._lease.holder in (0, page.id)
                else "other"
            )
            page.frame += 1
            page.taken = {
                page.frame - 1: page.taken.get(page.frame - 1, -math.inf),
                page.frame: time.monotonic(),
            }
            page.received.clear()
            asker = self._asker(begun)
            state = self._backend.state() | {
                "control": control,
                "asked": 0 if asker == page.id else asker,
                "frame": page.frame,
            }
            await page.socket.send_text(to_json(state))
            await page.received.wait()
            await asyncio.sleep(max(PERIOD - (time.monotonic() - begun), 0.0))

    def _new_pictures(self, shown: dict[str, int]) -> list[tuple[str, int, bytes]]:
        """Return the pictures of the next frame: name, stamp, JPEG."""
        new = [
            (name, stamp, jpeg)
            for name, (stamp, jpeg) in list(self._backend.pictures.items())
            if shown.get(name) != stamp
        ]
        new = sorted(new, key=lambda picture: not picture[0].startswith("live/"))[:MAX_PICTURES]
        shown |= {name: stamp for name, stamp, _ in new}
        return new


def _command(text: str) -> dict | None:
    """Read a JSON object with text under "do", else None."""
    try:
        command = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return command if isinstance(command, dict) and isinstance(command.get("do"), str) else None
