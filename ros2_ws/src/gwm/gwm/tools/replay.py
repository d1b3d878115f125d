"""``gwm replay``: a recorded run as one page that needs no server, no network and no gwm."""

from __future__ import annotations

from pathlib import Path

from gwm import console
from gwm.tools.page_templates import PAGES, render_page
from gwm_core.data.episode_info import INFO, list_episodes
from gwm_core.errors import InputError
from gwm_core.evaluation.replay_timeline import page_data, read_replay

CSS = Path(console.__file__).with_name("web") / "console.css"
MAX_EPISODES = 20  # in a page, about 2 MB each


def write_page(run: Path, out: Path) -> int:
    """Write a page of the episodes in a folder, or of one episode, and return their number.

    Raises:
        InputError: there is no episode, or there are too many for one page.
    """
    paths = [run] if (run / INFO).is_file() else list_episodes(run)
    if len(paths) > MAX_EPISODES:
        raise InputError(
            f"{len(paths)} episodes in {run}: {MAX_EPISODES} are the most for one page; name one of"
            " them"
        )
    data = page_data({str(path.relative_to(run.parent)): read_replay(path) for path in paths})
    css = CSS.read_text()
    script = (PAGES / "replay.js").read_text()
    out.write_text(render_page("replay.html", css=css, script=script, data=data))
    return len(paths)
