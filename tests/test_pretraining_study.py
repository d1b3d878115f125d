"""Joint networks against plain policies on equal demonstrations: what they may see."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gwm_core.data.episode_info import list_episodes, read_infos, start_names
from gwm_core.errors import InputError
from gwm_core.evaluation.policy_eval import EvalConfig
from gwm_core.evaluation.studies import study_folder
from gwm_core.evaluation.studies.pretraining_study import PretrainingStudy, compare
from gwm_core.model.checkpoint import save_vae
from gwm_core.model.config import VAES, named_config
from gwm_core.model.vae import VAE
from gwm_core.sim.rollout import Trial
from gwm_core.training.collection.collect import CollectConfig, collect
from gwm_core.training.datasets.joint_samples import load_joint_samples
from gwm_core.training.train_world_action_model import train_world_action_model
from gwm_core.training.training_run import TrainingRun

NETWORK, TRAIN = named_config("tiny")


def silent(*_):
    """Report nothing."""


@pytest.fixture(scope="module")
def others(tmp_path_factory, renderer):
    """Two episodes of other layouts, one of which began as one of ``episodes`` did."""
    folder = tmp_path_factory.mktemp("others")
    collect(CollectConfig("lift", folder / "apart", 1, seed=50, renderer=renderer), processes=1)
    collect(CollectConfig("lift", folder / "alike", 1, seed=13, renderer=renderer), processes=1)
    return folder


@pytest.fixture(scope="module")
def begun(others, tmp_path_factory):
    """A network that has seen ``others / apart`` alone."""
    folder = tmp_path_factory.mktemp("begun")
    torch.manual_seed(0)
    save_vae(folder, VAE(VAES["tiny"][0]), {})
    return trained(folder, [others / "apart", others / "more"], others)


def trained(folder: Path, data: list[Path], others: Path, iterations: int = 2) -> Path:
    if not (others / "more").exists():
        collect(CollectConfig("lift", others / "more", 1, seed=51), processes=1)
    loaded = load_joint_samples(NETWORK, data, 1, silent, silent, data, folder, tasks=("lift",))
    run = TrainingRun(replace(TRAIN, iterations=iterations, held_out=0.5), folder)
    train_world_action_model(
        loaded.demonstrations, loaded.config, run, loaded.futures, folder, None
    )
    return folder


@pytest.fixture
def study(episodes, others, begun, tmp_path, renderer):
    return PretrainingStudy(
        data=episodes,
        begin=(begun,),
        futures=(others,),
        out=tmp_path / "study",
        task="lift",
        difficulty="nominal",
        demos=(1, 2),
        lengths=(10, 20),
        seeds=2,
        trials=3,
        first=5000,
        choosing=2,
        train=TRAIN,
        processes=1,
        renderer=renderer,
    )


@pytest.fixture
def trials(monkeypatch):
    """Trials whose outcome is known: joint networks succeed from 5001 on, and when choosing after
    20 iterations alone; plain ones never do.
    """
    run = []

    def evaluate(config: EvalConfig, processes: int) -> list[Trial]:
        run.append(config)
        folder = Path(config.policy)
        good = "joint" in folder.parent.name and (config.seed >= 5000 or folder.name == "20")
        seeds = range(config.seed, config.seed + config.trials)
        return [Trial(s, good and s != 5000, 1.0, {}, 0) for s in seeds]

    monkeypatch.setattr(study_folder, "evaluate", evaluate)
    return run


def test_it_chooses_a_length_on_some_trials_and_reports_on_others(study, trials):
    rows = compare(study)
    assert [row["demos"] for row in rows] == [1, 2]
    for row in rows:
        assert row["plain"] == 0 and row["joint"] == pytest.approx(2 / 3)
        assert row["difference"] == pytest.approx(2 / 3) and row["ci95"][1] >= row["difference"]
        assert row["joint_lengths"] == [20, 20] and row["plain_lengths"] == [10, 10]
    choosing = [config for config in trials if config.seed == 4000]
    reported = [config for config in trials if config.seed == 5000]
    assert len(choosing) + len(reported) == len(trials)
    assert len(choosing) == 16 and {config.trials for config in choosing} == {2}
    assert len(reported) == 8 and {config.trials for config in reported} == {3}
    made = {path: path.read_bytes() for path in study.out.rglob("*.safetensors")}
    assert compare(study) == rows and len(trials) == 24  # nothing is run again
    assert {path: path.read_bytes() for path in study.out.rglob("*.safetensors")} == made
    (study.out / "2_joint_1" / "trials.json").unlink()  # interrupted at the last
    assert compare(study) == rows and len(trials) == 24
    with pytest.raises(InputError, match="a study with other settings"):
        compare(replace(study, first=5001))


def test_both_kinds_see_the_same_demonstrations_and_no_later_one(study, trials, episodes):
    compare(replace(study, demos=(1,), seeds=1, lengths=(10,)))
    all_names = start_names(read_infos(list_episodes(episodes)))

    def seen(kind):
        manifest = study.out / f"1_{kind}_0" / "10" / "manifest.json"
        return set(json.loads(manifest.read_text())["provenance"]["trained_on"])

    assert seen("plain") == set(all_names[:2])  # one, and one for validation
    assert seen("joint") == {*all_names[:2], "lift nominal 50", "lift nominal 51"}
    assert "lift nominal 13" in all_names  # the other episode that began alike is left out


def test_the_first_demonstrations_keep_their_samples(study, episodes, begun):
    loaded = load_joint_samples(
        NETWORK, [episodes], 1, silent, silent, [episodes], begun, begun, ("lift",)
    )
    some = loaded.first(2)
    assert some.demonstrations.starts == loaded.demonstrations.starts[:2] == some.futures.starts
    for kind in ("demonstrations", "futures"):
        whole, part = getattr(loaded, kind), getattr(some, kind)
        count = int((whole.episode < 2).sum())
        assert len(part) == count and part.episode.max() == 1
        np.testing.assert_array_equal(part.rows, whole.rows[:count])


def test_a_network_that_has_seen_a_demonstration_is_refused(study, others, tmp_path, begun):
    torch.manual_seed(0)
    save_vae(tmp_path, VAE(VAES["tiny"][0]), {})
    trained(tmp_path, [others / "apart", others / "alike"], others)
    with pytest.raises(InputError, match=r"has seen 1 of these episodes, as 'lift nominal 13'"):
        compare(replace(study, begin=(begun, tmp_path)))


def test_what_it_cannot_begin_from_or_compare_is_refused(study, plain_policy):
    with pytest.raises(InputError, match="4 episodes are too few: 10 are wanted"):
        compare(replace(study, demos=(9,)))
    with pytest.raises(InputError, match="predicts nothing"):
        compare(replace(study, begin=(plain_policy,)))
    with pytest.raises(InputError, match="--lengths 3: 7 or more"):
        compare(replace(study, lengths=(3,)))


def test_seeds_begin_from_their_own_network_and_need_no_futures(
    study, trials, begun, others, tmp_path
):
    torch.manual_seed(0)
    save_vae(tmp_path, VAE(VAES["tiny"][0]), {})
    data = [others / "apart", others / "more"]
    trained(tmp_path, data, others, iterations=3)
    some = replace(study, begin=(begun, tmp_path), futures=(), demos=(1,), lengths=(10,))
    compare(some)
    for seed, folder in enumerate((begun, tmp_path)):
        made = json.loads((study.out / f"1_joint_{seed}/10/manifest.json").read_text())
        known = hashlib.sha256((folder / "policy.safetensors").read_bytes()).hexdigest()
        assert made["provenance"]["begun_from"] == known
    save_vae(tmp_path / "other", VAE(VAES["tiny"][0]), {})
    trained(tmp_path / "other", data, others)
    with pytest.raises(InputError, match="another configuration or VAE"):
        compare(replace(some, begin=(begun, tmp_path / "other"), out=tmp_path / "no"))
