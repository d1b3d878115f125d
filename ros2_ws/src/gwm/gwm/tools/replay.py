"""``gwm replay``: a recorded run as one page that needs nothing else: no server, no network, no
gwm.
"""

from __future__ import annotations

from pathlib import Path
from string import Template

from gwm_core.data.episode_info import INFO, list_episodes
from gwm_core.errors import InputError
from gwm_core.evaluation.replay_timeline import page_data, read_replay

PAGE = Path(__file__).with_name("pages")
MOST = 20  # episodes, of about 2 MB each


def write_page(run: Path, out: Path) -> int:
    """Write a page of the episodes in a folder, or of one; returns how many. Raises InputError
    where there are none.
    """
    paths = [run] if (run / INFO).is_file() else list_episodes(run)
    if len(paths) > MOST:
        raise InputError(
            f"{len(paths)} episodes in {run}: {MOST} are the most for one page; name one of them"
        )
    data = page_data({str(path.relative_to(run.parent)): read_replay(path) for path in paths})
    parts = {
        name: (PAGE / file).read_text()
        for name, file in {"css": "console.css", "script": "replay.js"}.items()
    }
    out.write_text(Template((PAGE / "replay.html").read_text()).substitute(**parts, data=data))
    return len(paths)
