"""A protocol's trials over the live graph: one policy after the other under letters, the same start for both."""

import json

import pytest

pytest.importorskip("rclpy")

from gwm.graph import share
from gwm.protocol_live import EPISODES, POLICIES, STARTS, run_live, verdict

from gwm_core.data.episode import INFO, list_episodes
from gwm_core.evaluate.journal import Journal
from gwm_core.evaluate.protocol import Protocol, Task, begin, read_key

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_two_policies_meet_the_same_start_and_nothing_but_the_key_tells_them_apart(domain, tmp_path):
    demo = str(share("models/demo"))
    protocol = Protocol("live", {"yak": demo, "zebra": "expert"}, (Task("lift"),), 1)
    plan = begin(protocol, {"yak": "1", "zebra": "2"}, tmp_path)
    journal, said = Journal(plan, tmp_path), []
    run_live(plan, journal, tmp_path, {"console": 0, "viewer": False, "imagination": False}, said.append)
    assert journal.waiting() == [] and all(entry.outcome.success for entry in journal.counted()), said
    names = read_key(plan, tmp_path)
    assert (tmp_path / POLICIES).is_dir() and not any(name in " ".join(said) for name in names.values())
    assert len(list((tmp_path / STARTS).glob("lift_5000_*.png"))) == 2
    shares = [int(line.split()[-2]) for line in said if "like the first" in line]
    assert max(shares) > 90  # laid by the same seed
    episodes = [json.loads((path / INFO).read_text()) for path in list_episodes(tmp_path / EPISODES)]
    assert len(episodes) == 2 and len({info["policy"] for info in episodes}) == 2
    assert all(info["success"] and "yak" not in json.dumps(info) for info in episodes)


@pytest.mark.parametrize("mark, alike, success, score, aborted", [
    ({"success": True}, 1.0, True, 1.0, ""),
    ({"success": False, "note": "score 0.4, dropped it"}, 0.9, False, 0.4, ""),
    ({"success": False, "note": "Hardware: camera gone"}, 1.0, False, 0.0, "hardware"),
    ({"success": True, "note": "policy went for the wall, stopped"}, 1.0, False, 1.0, "policy"),
])  # fmt: skip
def test_what_a_person_says(mark, alike, success, score, aborted):
    found = verdict(mark, 7.5, alike)
    assert (found.success, found.score, found.aborted, found.seconds) == (success, score, aborted, 7.5)
    assert ("90 % alike" in found.note) == (alike < 1)
