"""The console's web server: one page, one socket, and the checks before either. It knows nothing of ROS.

The socket carries JSON both ways, and pictures as frames of a name, a zero byte and a JPEG. Pictures are not queued: a
client that is slow misses some. STOP and HOLD pass before every limit and whoever has the lease.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Protocol

import uvicorn
import websockets
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse, Response

from gwm_core.control.access import OPERATOR, Access, Budget, Lease
from gwm_core.json_files import to_json

PAGE = Path(__file__).with_name("web")
FILES = {"console.js": "text/javascript", "console.css": "text/css"}
COOKIE = "gwm_console"
ANYONE = ("stop", "hold")  # whoever sees danger
FREQUENT = ("here", "beat", "joy")  # not written down
BIGGEST = 4096  # [bytes] of a message
MOST_CLIENTS = 8
COMMANDS, BEATS, URGENT = (20.0, 40.0), (60.0, 120.0), (200.0, 400.0)  # a second, at once: clicks; beats, sticks; stops
REFUSALS = (5.0, 50.0)  # a second, at once, that are written down
PERIOD, STATE_PERIOD = 0.05, 0.1  # [s]
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


VIEWER_PAGE = Path(find_spec("viser").origin).parent / "client/build/index.html"  # its code is not needed here
VIEWER_HEADERS = {  # its script is unpacked by the page itself, which only inline code can do
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; frame-ancestors 'none'",
}


class Desk(Protocol):
    """What the server needs of the node behind it. Called from the server's thread."""

    pictures: dict[str, tuple[int, bytes]]  # name -> number, JPEG
    viewer_port: int  # on 127.0.0.1, of the server of the 3D scene; 0 = none

    def state(self) -> dict:
        """What the page shows."""

    def act(self, command: dict) -> None:
        """Do what the operator wants. Raises ValueError for what is no command."""


class Console:
    """Serves a desk. ``log`` is told of every command and every refusal."""

    def __init__(self, desk: Desk, access: Access, log: Callable[[dict], None]):
        self._desk, self._access, self._log = desk, access, log
        self._lease, self._ids, self._refusals = Lease(), count(1), Budget(*REFUSALS)
        self.clients, self._scenes = 0, 0  # sockets that are open
        self.app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        self.app.middleware("http")(self._check)
        self.app.get("/")(self._page)
        self.app.get("/scene/")(self._viewer)
        self.app.get("/{name}")(self._file)
        self.app.websocket("/socket")(self._socket)
        self.app.websocket("/scene")(self._viewer_socket)  # without the slash: viser asks so

    async def _check(self, request: Request, call) -> Response:
        token = request.query_params.get("token") or request.cookies.get(COOKIE, "")
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        status, reason = self._access.refuses(host, origin, token, socket=False)
        if status:
            self._refused(request.client, reason)
            return PlainTextResponse(reason, status, HEADERS)
        response = await call(request)
        response.headers.update(HEADERS | (VIEWER_HEADERS if request.url.path == "/scene/" else {}))
        return response

    async def _page(self, request: Request) -> Response:
        token = request.query_params.get("token")
        if token is None:
            return FileResponse(PAGE / "console.html", media_type="text/html")
        response = RedirectResponse("/", 303)  # out of the address bar, history and screenshots
        secure = self._access.scheme == "https"
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)
        return response

    async def _file(self, name: str) -> Response:
        if name not in FILES:
            return PlainTextResponse("no such page", 404)
        return FileResponse(PAGE / name, media_type=FILES[name])

    async def _viewer(self) -> Response:
        """The 3D scene's page: viser's own file, which needs no other."""
        return FileResponse(VIEWER_PAGE, media_type="text/html")

    async def _viewer_socket(self, socket: WebSocket) -> None:
        """What the 3D scene's page and its server say to each other, passed on."""
        if not self._desk.viewer_port or not await self._admitted(socket, self._scenes):
            return await socket.close(1008)
        spoken = socket.scope["subprotocols"]
        address = f"ws://127.0.0.1:{self._desk.viewer_port}"
        self._scenes += 1
        try:
            async with websockets.connect(
                address, subprotocols=spoken or None, max_size=None, compression=None
            ) as server:
                await socket.accept(server.subprotocol)
                await _both_ways(socket, server)
        except OSError:  # it ended
            await socket.close(1011)
        except (WebSocketDisconnect, websockets.ConnectionClosed):
            pass
        finally:
            self._scenes -= 1

    async def _admitted(self, socket: WebSocket, clients: int) -> bool:
        """Whether a socket may be opened beside ``clients`` others."""
        token = socket.cookies.get(COOKIE, "")
        host, origin = socket.headers.get("host", ""), socket.headers.get("origin")
        status, reason = self._access.refuses(host, origin, token, socket=True)
        if not status and clients >= MOST_CLIENTS:
            status, reason = 503, f"{MOST_CLIENTS} pages are open already"
        if status:
            self._refused(socket.client, reason)
        return not status

    async def _socket(self, socket: WebSocket) -> None:
        if not await self._admitted(socket, self.clients):
            return await socket.close(1008)  # before accept: HTTP 403
        await socket.accept()
        client, role = next(self._ids), self._access.role(socket.cookies[COOKIE])
        self.clients += 1
        self._log({"client": client, "event": "connected", "role": role, "address": socket.client.host})
        sender = asyncio.create_task(self._send(socket, client, role))
        try:
            await self._receive(socket, client, role)
        except WebSocketDisconnect:
            pass
        finally:
            sender.cancel()
            self.clients -= 1
            self._lease.give(client)
            self._log({"client": client, "event": "left"})

    async def _receive(self, socket: WebSocket, client: int, role: str) -> None:
        commands, beats, urgent = Budget(*COMMANDS), Budget(*BEATS), Budget(*URGENT)
        while True:
            text, now = await socket.receive_text(), time.monotonic()
            if len(text) > BIGGEST:
                return await self._drop(socket, client, f"a message of {len(text)} bytes; {BIGGEST} are the most")
            try:
                command = json.loads(text)
                what = command["do"]
            except (ValueError, TypeError, KeyError):
                return await self._drop(socket, client, 'no JSON object with "do"')
            budget = urgent if what in ANYONE else beats if what in FREQUENT else commands
            enough = not budget.spend(now)
            if not enough or what in ANYONE:
                self._obey(client, role, what, command, now)
            if enough:
                return await self._drop(socket, client, "too many messages")

    def _obey(self, client: int, role: str, what: str, command: dict, now: float) -> None:
        reason = ""
        if what not in ANYONE:
            reason = "this page only shows" if role != OPERATOR else ""
            if not reason and not self._lease.take(client, now):
                reason = "another page has control"
        if not reason and what != "here":
            try:
                self._desk.act(command)
            except ValueError as error:
                reason = str(error)
        if what not in FREQUENT:
            self._log({"client": client, "command": command} | ({"refused": reason} if reason else {}))

    async def _send(self, socket: WebSocket, client: int, role: str) -> None:
        shown, state_at = {}, 0.0
        while True:
            if time.monotonic() - state_at >= STATE_PERIOD:
                state_at = time.monotonic()
                control = "view" if role != OPERATOR else "yours" if self._lease.holder in (0, client) else "other"
                await socket.send_text(to_json(self._desk.state() | {"control": control}))
            for name, (number, jpeg) in list(self._desk.pictures.items()):
                if shown.get(name) != number:
                    shown[name] = number
                    await socket.send_bytes(name.encode() + b"\0" + jpeg)
            await asyncio.sleep(PERIOD)

    async def _drop(self, socket: WebSocket, client: int, reason: str) -> None:
        self._log({"client": client, "dropped": reason})
        await socket.close(1008, reason)

    def _refused(self, client, reason: str) -> None:
        if self._refusals.spend(time.monotonic()):
            self._log({"address": client.host if client else "", "refused": reason})


async def _both_ways(page: WebSocket, server: websockets.ClientConnection) -> None:
    """Pass on until either is gone."""

    async def back() -> None:
        async for data in server:
            await page.send_bytes(data)
        await page.close(1001)

    sender = asyncio.create_task(back())
    try:
        while True:
            await server.send(await page.receive_bytes())
    finally:
        sender.cancel()


class Server:
    """Runs a console's app in a thread of its own."""

    def __init__(self, console: Console, sock, certificate: str = "", key: str = ""):
        config = uvicorn.Config(
            console.app, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
            ws="websockets-sansio", ws_max_size=16 * BIGGEST, ws_max_queue=16, ws_per_message_deflate=False,
            timeout_keep_alive=5, timeout_graceful_shutdown=1, h11_max_incomplete_event_size=16384,
            limit_concurrency=64, ssl_certfile=certificate or None, ssl_keyfile=key or None,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: self._server.run([sock]), name="console", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._server.should_exit = True
        self._thread.join(3.0)
