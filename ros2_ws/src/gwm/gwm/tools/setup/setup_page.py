"""The page of ``gwm setup``, on 127.0.0.1 and for whoever has its address."""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)

from gwm import console
from gwm.console.access import OPERATOR, Access, cookie_name
from gwm.console.server import HEADERS
from gwm.tools.page_templates import PAGES, render_page
from gwm.tools.setup.found_cameras import FoundCamera, current_joints
from gwm_core.errors import InputError
from gwm_core.files.json_files import script_json
from gwm_core.geometry.limits import PROFILES, Workspace
from gwm_core.site.site_draft import DEFAULTS, MOUNTS, camera_pose, first_pose, write_site
from gwm_core.site.workspace_view import draw_workspace
from gwm_core.topics import ROBOTS

MAX_BODY = 20_000  # [bytes] of the answers
BASE_CSS = Path(console.__file__).with_name("web") / "base.css"


class SetupPage:
    """Shows the cameras, draws the workspace into them, and writes the site file.

    Attributes:
        written: whether the file was written; ``backup`` is the old one's copy.
    """

    def __init__(self, path: Path, found: Sequence[FoundCamera], replace: bool, access: Access):
        self._path = path
        self._found = found
        self._replace = replace
        self._access = access
        self._cookie = cookie_name("setup", access.hosts[0])
        self.written = threading.Event()
        self.backup: Path | None = None
        self.app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        self.app.middleware("http")(self._check)
        self.app.get("/")(self._page)
        self.app.get("/{name}")(self._file)
        self.app.post("/picture/{number}")(self._picture)
        self.app.post("/home")(self._home)
        self.app.post("/site")(self._write)

    async def _check(self, request: Request, call) -> Response:
        token = request.query_params.get("token") or request.cookies.get(self._cookie, "")
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        status, reason = self._access.refuses(host, origin, token, socket=False)
        if status:
            return PlainTextResponse(reason, status, HEADERS)
        try:
            response = await call(request)
        except InputError as error:
            response = PlainTextResponse(str(error), 400)
        response.headers.update(HEADERS)
        return response

    async def _page(self, request: Request) -> Response:
        if token := request.query_params.get("token"):  # it leaves the address bar and history
            response = RedirectResponse("/", 303)
            response.set_cookie(self._cookie, token, httponly=True, samesite="strict")
            return response
        cameras = [self._first(number, camera) for number, camera in enumerate(self._found)]
        data = {
            "cameras": cameras,
            "defaults": DEFAULTS,
            "robots": ROBOTS,
            "profiles": list(PROFILES),
            "mounts": MOUNTS,
            "path": str(self._path),
        }
        return HTMLResponse(render_page("setup.html", data=script_json(data)))

    @staticmethod
    def _first(number: int, camera: FoundCamera) -> dict:
        """Return what the form of a camera begins with."""
        name, eye, target = first_pose(number)
        own = name if camera.serial else camera.prefix.rpartition("/")[2]
        known = {"prefix": camera.prefix, "serial": camera.serial}
        return known | {"name": own, "eye": eye, "target": target}

    async def _file(self, name: str) -> Response:
        files = {
            "setup.js": PAGES / "setup.js",
            "base.css": BASE_CSS,
            "setup.css": PAGES / "setup.css",
        }
        if name not in files:
            return PlainTextResponse("no such page", 404)
        kind = "text/javascript" if name.endswith(".js") else "text/css"
        return Response(files[name].read_text(), media_type=kind)

    async def _picture(self, number: int, request: Request) -> Response:
        """Return a camera's picture with the workspace that the answers draw into it."""
        if not 0 <= number < len(self._found):
            return PlainTextResponse("no such camera", 404)
        answers, camera = await _answers(request), self._found[number]
        image = camera.image
        try:
            box, entry = answers["workspace"], answers["camera"]
            if entry["mount"] != "hand":
                workspace = Workspace(tuple(box["low"]), tuple(box["high"]))
                image = draw_workspace(image, camera.K, camera_pose("camera", entry), workspace)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            return PlainTextResponse(f"the workspace cannot be drawn: {error}", 400)
        jpeg = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
        return Response(jpeg, media_type="image/jpeg")

    def _home(self) -> Response:  # waits for a message, in a thread of its own
        try:
            return JSONResponse(current_joints())
        except InputError as error:
            return PlainTextResponse(str(error), 400)

    async def _write(self, request: Request) -> Response:
        try:
            self.backup = write_site(self._path, await _answers(request), self._replace)
        except InputError as error:
            return PlainTextResponse(str(error), 400)
        self.written.set()
        return PlainTextResponse(f"{self._path} is written. Go on in the terminal.")


async def _answers(request: Request) -> dict:
    """Return the JSON object of a request. Raises InputError for anything else."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise InputError(f"more than {MAX_BODY} bytes")
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InputError("no JSON object")
    return values


def ask_on_page(path: Path, found: Sequence[FoundCamera], replace: bool) -> Path | None:
    """Serve the page until its file is written. Returns the copy of an old file."""
    sock = socket.create_server(("127.0.0.1", 0))
    host, token = f"127.0.0.1:{sock.getsockname()[1]}", secrets.token_urlsafe(32)
    page = SetupPage(path, found, replace, Access({token: OPERATOR}, (host,)))
    config = uvicorn.Config(page.app, log_level="warning", access_log=False, server_header=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: server.run([sock]), name="setup", daemon=True)
    thread.start()
    print(f"open http://{host}/?token={token}", flush=True)
    page.written.wait()
    server.should_exit = True
    thread.join(3.0)
    return page.backup
