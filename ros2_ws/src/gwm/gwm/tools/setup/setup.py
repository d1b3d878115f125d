"""``gwm setup``: finds the cameras, asks, writes the site file, and names the next command."""

from __future__ import annotations

from pathlib import Path

from gwm.tools.setup.found_cameras import find_cameras
from gwm.tools.setup.questions import Questions, ask_all
from gwm.tools.setup.setup_page import ask_on_page
from gwm.tools.terminal import note, say_next
from gwm_core.errors import InputError
from gwm_core.site import DEFAULT_FILE, load_site
from gwm_core.site.site_draft import write_site


def run_setup(out: Path | None, pictures: Path, page: bool, yes: bool, replace: bool) -> int:
    """Write a site file. Returns the exit code.

    Raises:
        InputError: no camera is found, an answer is missing, or the file exists.
    """
    path = out or DEFAULT_FILE
    if path.exists() and not replace:
        raise InputError(f"{path} exists: --replace keeps a copy of it and writes a new one")
    print("looking for cameras (up to ten seconds)", flush=True)
    found = find_cameras(note)
    if not found:
        raise InputError(
            "no camera found: plug in a RealSense, or start its driver, then call `gwm setup` again"
        )
    if page:
        backup = ask_on_page(path, found, replace)
    else:
        answers = ask_all(Questions(input, yes), found, pictures)
        backup = write_site(path, answers, replace)
    print(f"{path}" + (f" (the old one is {backup.name})" if backup else ""))
    site = load_site(path)
    option, given = ("", "") if out is None else (f" --site {path}", f" site:={path}")
    for name, camera in site.cameras.items():
        mount = "hand" if camera.moving else "base"
        say_next(f"gwm calibrate --camera {name} --mount {mount}{option}")
    say_next(f"gwm up robot:={site.robot}{given} supervision:=shadow")
    return 0
