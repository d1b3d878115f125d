"""The console's web server: one page, its sockets, and the checks of every request.

It knows nothing of ROS.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from html import escape
from importlib.util import find_spec
from pathlib import Path

import uvicorn
import websockets
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)

from gwm.console.access import OPERATOR, VIEWER, Access, RateLimit, cookie_name
from gwm.console.page_socket import MAX_MESSAGE, ConsoleBackend, PageSockets

PAGE = Path(__file__).with_name("web")
TYPES = {".js": "text/javascript", ".css": "text/css"}
FILES = {path.name: TYPES[path.suffix] for path in PAGE.iterdir() if path.suffix in TYPES}
LOOK = "/look"  # the page that only shows; it has a cookie of its own
MAX_CLIENTS = 8
REFUSAL_RATE = (5.0, 50.0)  # logged refusals a second, and at once
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
NO_ACCESS_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>gwm console: no entry</title>
<h1>This page lets in who has its address</h1>
<p>The address ends in <code>?token=...</code>. It is in the file
<code>{where}</code> on the robot's machine:
the first line is the operator's, the second is for looking on.
It is made anew with every start of the graph.</p>
<p>In danger use the robot's own emergency stop.</p>
</html>
"""


# Found without importing viser.
VIEWER_PAGE = Path(find_spec("viser").origin).parent / "client/build/index.html"
VIEWER_HEADERS = {  # viser's page unpacks its script itself, which needs inline code
    "Content-Security-Policy": (
        "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; frame-ancestors 'none'"
    )
}


class ConsoleServer:
    """Serves the page of a console's node.

    Args:
        log: gets every command and every refusal.
        where: the file that holds the addresses with their tokens.
    """

    def __init__(
        self,
        backend: ConsoleBackend,
        access: Access,
        log: Callable[[dict], None],
        where: str = "console.url",
    ):
        self._backend = backend
        self._access = access
        self._log = log
        self._where = where
        self._pages = PageSockets(backend, log)
        self._refusals = RateLimit(*REFUSAL_RATE)
        self._scenes = 0  # open sockets
        self.app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        self.app.middleware("http")(self._check)
        self.app.get("/")(self._page)
        self.app.get(LOOK)(self._page)
        self.app.get("/scene/")(self._viewer)
        self.app.get("/{name}")(self._file)
        self.app.websocket("/socket")(self._operator_socket)
        self.app.websocket(f"{LOOK}/socket")(self._view_socket)
        self.app.websocket("/scene")(self._viewer_socket)  # without the slash: viser asks so

    def _token(
        self, visit: Request | WebSocket, roles: tuple[str, ...] = (OPERATOR, VIEWER)
    ) -> str:
        """Return the first valid token of these roles in the cookies, or ""."""
        cookies = [
            visit.cookies.get(cookie_name(role, self._access.hosts[0]), "") for role in roles
        ]
        return next(
            (token for token, role in zip(cookies, roles) if self._access.role(token) == role), ""
        )

    async def _check(self, request: Request, call) -> Response:
        token = request.query_params.get("token") or self._token(request)
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        status, reason = self._access.refuses(host, origin, token, socket=False)
        if status:
            self._refused(request.client, reason)
            if status == 401 and request.url.path in ("/", LOOK):
                return HTMLResponse(
                    NO_ACCESS_PAGE.format(where=escape(self._where)), status, HEADERS
                )
            return PlainTextResponse(reason, status, HEADERS)
        response = await call(request)
        response.headers.update(HEADERS | (VIEWER_HEADERS if request.url.path == "/scene/" else {}))
        return response

    async def _page(self, request: Request) -> Response:
        token = request.query_params.get("token")
        if token is None:
            if request.url.path == "/" and not self._token(request, (OPERATOR,)):
                return RedirectResponse(LOOK, 303)
            return FileResponse(PAGE / "console.html", media_type="text/html")
        role = self._access.role(token)
        # The token leaves the address bar, history and screenshots. A viewer's cookie does not
        # replace the operator's.
        response = RedirectResponse("/" if role == OPERATOR else LOOK, 303)
        name, secure = cookie_name(role, self._access.hosts[0]), self._access.scheme == "https"
        response.set_cookie(name, token, httponly=True, samesite="strict", secure=secure)
        return response

    async def _file(self, name: str) -> Response:
        if name not in FILES:
            return PlainTextResponse("no such page", 404)
        return FileResponse(PAGE / name, media_type=FILES[name])

    async def _viewer(self) -> Response:
        """Return the 3D scene's page: viser's own file, which needs no other."""
        return FileResponse(VIEWER_PAGE, media_type="text/html")

    async def _viewer_socket(self, socket: WebSocket) -> None:
        """Relay between the 3D scene's page and its server."""
        if not self._backend.viewer_port or not await self._admitted(
            socket, self._token(socket), self._scenes
        ):
            return await socket.close(1008)
        spoken = socket.scope["subprotocols"]
        address = f"ws://127.0.0.1:{self._backend.viewer_port}"
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

    async def _admitted(self, socket: WebSocket, token: str, clients: int) -> bool:
        """Return whether a socket may be opened beside ``clients`` others."""
        host, origin = socket.headers.get("host", ""), socket.headers.get("origin")
        status, reason = self._access.refuses(host, origin, token, socket=True)
        if not status and clients >= MAX_CLIENTS:
            status, reason = 503, f"{MAX_CLIENTS} pages are open already"
        if status:
            self._refused(socket.client, reason)
        return not status

    async def _operator_socket(self, socket: WebSocket) -> None:
        await self._serve(socket, OPERATOR, self._token(socket, (OPERATOR,)))

    async def _view_socket(self, socket: WebSocket) -> None:
        await self._serve(socket, VIEWER, self._token(socket))

    async def _serve(self, socket: WebSocket, role: str, token: str) -> None:
        if not await self._admitted(socket, token, self.clients):
            return await socket.close(1008)  # before accept: HTTP 403
        await self._pages.serve(socket, role)

    @property
    def clients(self) -> int:
        """The number of open pages."""
        return self._pages.clients

    def _refused(self, client, reason: str) -> None:
        if self._refusals.spend(time.monotonic()):
            self._log({"address": client.host if client else "", "refused": reason})


async def _both_ways(page: WebSocket, server: websockets.ClientConnection) -> None:
    """Relay until either side is gone."""

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

    def __init__(self, console: ConsoleServer, sock, certificate: str = "", key: str = ""):
        config = uvicorn.Config(
            console.app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="websockets-sansio",
            ws_max_size=16 * MAX_MESSAGE,
            ws_max_queue=16,
            ws_per_message_deflate=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=16384,
            limit_concurrency=64,
            ssl_certfile=certificate or None,
            ssl_keyfile=key or None,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=lambda: self._server.run([sock]), name="console", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._server.should_exit = True
        self._thread.join(3.0)
