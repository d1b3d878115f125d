"""Recorded episodes replayed in the world model, and what it says of how they ended."""

import json
import shutil

import pytest

from gwm_core.data.episode_info import list_episodes
from gwm_core.errors import InputError
from gwm_core.evaluation.replayed_outcomes import (
    OutcomeReplay,
    ReplayedOutcome,
    outcome_table,
    replay_outcomes,
)
from gwm_core.runtime.imagined_rollout import LASTS, called_success
from gwm_core.runtime.imagined_world import load_imagined_world


@pytest.fixture(scope="module")
def two(episodes, tmp_path_factory):
    """A folder of two episodes that succeeded, the second of which says that it failed."""
    folder = tmp_path_factory.mktemp("two")
    for path in list_episodes(episodes)[:2]:
        shutil.copytree(path, folder / path.name)
    file = list_episodes(folder)[1] / "episode.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"success": False}))
    return folder


def test_a_success_is_called_after_so_many_steps_in_a_row():
    row = [0.9] * LASTS
    assert called_success([0.1, *row, 0.2]) and called_success(row)
    assert not called_success([*row[1:], 0.4, *row[1:]]) and not called_success([])
    assert not called_success([0.5] * 9)


def test_the_table_counts_each_kind_by_itself():
    yes, no = [0.9] * LASTS, [0.1] * LASTS
    outcomes = [
        ReplayedOutcome("a", True, 1.0, yes, no),
        ReplayedOutcome("b", False, 1.0, no, yes),
        ReplayedOutcome("c", False, 1.0, yes, yes),
    ]
    assert outcome_table(outcomes) == {
        "succeeded": {"episodes": 1, "observed": 1, "imagined": 0},
        "failed": {"episodes": 2, "observed": 1, "imagined": 2},
    }


def test_the_verb_prints_both_kinds_and_refuses_what_has_no_verdict(
    two, tiny_policy, tmp_path, monkeypatch, capsys
):
    from gwm.cli.main import main

    def outcomes(*more: str) -> tuple[int, str, str]:
        words = ["gwm", "eval", "outcomes", "--model", str(tiny_policy), "--data", *more]
        monkeypatch.setattr("sys.argv", words)
        return main(), *capsys.readouterr()

    code, said, _ = outcomes(str(two), "--json", str(tmp_path / "figures.json"))
    assert code == 0 and "succeeded" in said and "failed" in said
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["table"]["failed"]["episodes"] == 1 and len(figures["episodes"]) == 2
    own = tmp_path / "own"
    shutil.copytree(two, own)
    file = list_episodes(own)[0] / "episode.json"
    info = json.loads(file.read_text())
    for changes, why in (({"success": None}, "has no verdict"), ({"policy": "play"}, "")):
        file.write_text(json.dumps(info | changes))
        code, _, error = outcomes(str(own))
        assert (code == 2 and why in error) if why else code == 0
    shutil.rmtree(list_episodes(own)[1])
    assert outcomes(str(own))[0] == 2  # play alone
    with pytest.raises(InputError, match="play alone"):
        replay_outcomes(OutcomeReplay(load_imagined_world(tiny_policy)), own)
