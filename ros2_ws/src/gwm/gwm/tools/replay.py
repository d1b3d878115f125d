"""``gwm replay``: a recorded run as one page that needs no server, no network and no gwm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gwm import console
from gwm.tools.page_templates import PAGES, render_page
from gwm_core.data.episode_info import INFO, list_episodes, read_infos
from gwm_core.errors import InputError
from gwm_core.evaluation.replay.page_data import MAX_BYTES, episode_data
from gwm_core.evaluation.replay.rerun_file import write_rerun
from gwm_core.evaluation.replay.timeline import read_replay

BASE_CSS = Path(console.__file__).with_name("web") / "base.css"
MAX_EPISODES = 40  # in a page: more leave too little room for the images of each
EPISODE_SIZE = 3_000_000  # [bytes] of an episode, at most


def write_page(
    run: Path, out: Path, failures: bool, progress: Callable[[int, int], None] = lambda *_: None
) -> int:
    """Write a page of the episodes in a folder, or of one episode, and return their number.

    Args:
        failures: leave out episodes that succeeded.
        progress: gets the number of episodes that are done, and of all.

    Raises:
        InputError: there is no episode, or there are too many for one page.
    """
    paths = _episodes(run, failures)
    if len(paths) > MAX_EPISODES:
        raise InputError(
            f"{len(paths)} episodes in {run}: {MAX_EPISODES} are the most for one page; name one of"
            " them, or --failures"
        )
    size = min(MAX_BYTES // len(paths), EPISODE_SIZE)
    episodes = []
    for path in paths:
        name = str(path.relative_to(run.parent))
        episodes.append(episode_data(name, read_replay(path), size))
        progress(len(episodes), len(paths))
    page = render_page(
        "replay.html",
        css=BASE_CSS.read_text() + (PAGES / "replay.css").read_text(),
        lanes=(PAGES / "replay_lanes.js").read_text(),
        script=(PAGES / "replay.js").read_text(),
        data=f"[{','.join(episodes)}]",
    )
    out.write_text(page)
    return len(paths)


def write_rerun_files(
    run: Path, out: Path, failures: bool, progress: Callable[[int, int], None] = lambda *_: None
) -> int:
    """Write a file for the Rerun viewer of every episode into ``out``, and return their number.

    Arguments and errors as of ``write_page``, and those of ``write_rerun``.
    """
    paths = _episodes(run, failures)
    for done, path in enumerate(paths):
        write_rerun(path, out / f"{path.name}.rrd")
        progress(done + 1, len(paths))
    return len(paths)


def _episodes(run: Path, failures: bool) -> list[Path]:
    """The episodes in a folder, or the one that it is."""
    paths = [run] if (run / INFO).is_file() else list_episodes(run)
    if not failures:
        return paths
    infos = read_infos(paths)
    failed = [path for path in paths if infos[path].get("success") is False]
    if not failed:
        raise InputError(f"no episode in {run} failed: leave out --failures")
    return failed
