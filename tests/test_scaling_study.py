"""Scaling studies: what each network learns from, what is kept, resumed and refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gwm.cli.main import main

from gwm_core.errors import InputError
from gwm_core.evaluation.policy_eval import EvalConfig
from gwm_core.evaluation.stats.power_law import fit_power_law
from gwm_core.evaluation.studies import study_folder
from gwm_core.evaluation.studies.scaling_study import (
    ScalingStudy,
    _spread,
    errors_by_episode,
    measure_scaling,
    nested_starts,
)
from gwm_core.model.checkpoint import load_policy, save_vae
from gwm_core.model.config import POLICIES, VAES, named_config
from gwm_core.model.vae import VAE
from gwm_core.sim.rollout import Trial
from gwm_core.training import training_run
from gwm_core.training.collection.collect import CollectConfig, collect
from gwm_core.training.datasets.joint_samples import load_joint_samples
from gwm_core.training.future_batches import FutureBatches
from gwm_core.training.policy_batches import PolicyBatches
from gwm_core.training.train_world_action_model import validate

pytestmark = pytest.mark.slow
CONFIG, _train = named_config("tiny")
TRAIN = replace(_train, iterations=10, success_iterations=10)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(episodes, tmp_path_factory, renderer):
    """A study of sets of two, three and four episodes, and two that are held out."""
    folder = tmp_path_factory.mktemp("scaling")
    config = CollectConfig("lift", folder / "held", 2, seed=60, renderer=renderer)
    collect(config, processes=1)
    torch.manual_seed(0)
    save_vae(folder / "vae", VAE(VAES["tiny"][0]), {})
    return ScalingStudy(
        data=episodes,
        futures=(episodes,),
        held_out=folder / "held",
        vae=folder / "vae",
        out=folder / "study",
        sizes=(2, 3, 4),
        seeds=2,
        config=CONFIG,
        train=TRAIN,
        device="cpu",
        trials=3,
        task="lift",
        difficulty="nominal",
        first=5000,
        processes=1,
        renderer=renderer,
    )


@pytest.mark.long
def test_held_out_episodes_that_are_learned_from_are_refused(base, tmp_path):
    for held in (base.data, sorted(base.data.glob("*/episode.json"))[1].parent):
        with pytest.raises(InputError, match="are also learned from, as 'lift nominal 1"):
            measure_scaling(replace(base, held_out=held))
    both = tmp_path / "both"
    for path in sorted(base.held_out.glob("*/episode.json")):
        shutil.copytree(path.parent, both / path.parent.name)
    with pytest.raises(InputError, match="2 of the episodes"):  # a copy began alike too
        measure_scaling(replace(base, futures=(*base.futures, both)))
    one = sorted(base.held_out.glob("*/episode.json"))[0].parent
    shutil.copytree(one, tmp_path / "one" / one.name)
    with pytest.raises(InputError, match="1 of the held-out episodes"):
        measure_scaling(replace(base, held_out=tmp_path / "one"))


@pytest.fixture(scope="module")
def counted():
    """Trainings that began and trials that ran, of this module. The trials' outcomes are known:
    networks of four episodes succeed, but not at the first start.
    """
    made = SimpleNamespace(trainings=[], policies=[], end=None)

    def fit(network, loss, sample_batch, validate, config, out, *rest):
        made.trainings.append(out)
        if len(made.trainings) == made.end:
            raise KeyboardInterrupt
        return original(network, loss, sample_batch, validate, config, out, *rest)

    def evaluate(config: EvalConfig, processes: int) -> list[Trial]:
        made.policies.append(config.policy)
        if len(made.policies) == 2:
            raise KeyboardInterrupt
        good = Path(config.policy).parent.name.startswith("4_")
        seeds = range(config.seed, config.seed + config.trials)
        return [Trial(seed, good and seed > 5000, 1.0, {}, 0) for seed in seeds]

    original = training_run.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_run, "fit", fit)
        patch.setattr(study_folder, "evaluate", evaluate)
        yield made


@pytest.fixture(scope="module")
def finished(base, counted):
    """The figures of the study, which was interrupted in a training and in trials."""
    counted.end = 4
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            measure_scaling(base)
    return measure_scaling(base)


@pytest.fixture
def study(base, finished, tmp_path):
    """A copy of the finished study."""
    shutil.copytree(base.out, tmp_path / "study")
    return replace(base, out=tmp_path / "study")


def records(study):
    found = [json.loads(file.read_text()) for file in study.out.glob("*/record.json")]
    return {(record["episodes"], record["seed"]): record for record in found}


def test_an_interrupted_study_goes_on_and_trains_nothing_twice(study, base, finished, counted):
    names = [path.parent.name for path in counted.trainings]
    # the fourth was interrupted, and begun again
    assert names == ["2_0", "2_1", "3_0", "3_1", "3_1", "4_0", "4_1"]
    assert len(counted.policies) == 7 and len(set(counted.policies)) == 6
    assert set(records(study)) == {(size, seed) for size in (2, 3, 4) for seed in (0, 1)}
    before = {path: path.read_bytes() for path in study.out.rglob("*.safetensors")}
    (study.out / "3_1" / "record.json").unlink()  # interrupted at the last
    steps = []
    assert measure_scaling(study, lambda done, total: steps.append((done, total))) == finished
    assert steps == [(k, 6) for k in range(1, 7)]
    assert len(counted.trainings) == 7 and len(counted.policies) == 7
    assert {path: path.read_bytes() for path in study.out.rglob("*.safetensors")} == before
    more = measure_scaling(replace(study, seeds=1))  # as much of it as is wanted
    assert more["rows"][0]["missed_4_by_seed"] == finished["rows"][0]["missed_4_by_seed"][:1]
    assert len(counted.trainings) == 7


def test_sets_are_nested_and_every_network_sees_all_demonstrations(study):
    found = records(study)
    for seed in (0, 1):
        sets = [set(found[size, seed]["starts"]) for size in (2, 3, 4)]
        assert sets[0] < sets[1] < sets[2] and [len(some) for some in sets] == [2, 3, 4]
        manifest = json.loads((study.out / f"2_{seed}/10/manifest.json").read_text())
        # the demonstrations are the same four episodes
        assert set(manifest["provenance"]["trained_on"]) == sets[2]
        assert manifest["provenance"]["train"]["seed"] == seed
    starts = tuple(map(str, range(200)))
    orders = [nested_starts(starts, seed, 50) for seed in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert all(set(order) < set(nested_starts(starts, k, 60)) for k, order in enumerate(orders))
    assert all(set(order) != set(starts[:50]) for order in orders)  # not the first of a folder


def test_rows_and_laws_are_those_of_the_records(study, finished):
    found = records(study)
    errors = np.array([[found[n, s]["errors"] for s in (0, 1)] for n in (2, 3, 4)])
    changes = np.array(found[2, 0]["changes"])
    assert all(record["changes"] == found[2, 0]["changes"] for record in found.values())
    for size, row, of_size in zip((2, 3, 4), finished["rows"], errors):
        assert row["episodes"] == size
        for jump, error, change in zip(CONFIG.jumps, of_size.swapaxes(0, 1), changes):
            by_seed = error.sum(1) / change.sum()
            assert row[f"missed_{jump}_by_seed"] == pytest.approx(by_seed)
            assert row[f"missed_{jump}"] == pytest.approx(by_seed.mean())
        assert row["success"] == pytest.approx(2 / 3 if size == 4 else 0)
        assert row["ci95"][0] <= row["success"] <= row["ci95"][1]
    assert [(law["jump"], law["with_floor"]) for law in finished["laws"]] == [
        (4, False),
        (8, False),
        (16, False),
    ]
    for number, law in enumerate(finished["laws"]):
        fitted = fit_power_law([2, 3, 4], errors[:, :, number])
        assert law["exponent"] == pytest.approx(fitted.exponent)
        assert law["ci95"] == pytest.approx(fitted.ci95)
        missed = [row[f"missed_{law['jump']}"] for row in finished["rows"]]
        line = law["scale"] * np.array([2, 3, 4]) ** -law["exponent"]
        np.testing.assert_allclose(line, missed, rtol=0.3)


def test_errors_of_episodes_are_the_fraction_that_training_reports(study, base):
    """For a model whose own spreads are those of the episodes, on which ``validate`` measures."""
    loaded = load_joint_samples(
        CONFIG, [base.data], 1, training_run.silent, training_run.silent, base.futures, base.vae
    )
    model = load_policy(study.out / "4_0" / "10")
    model.future_decoder.change_std[:, :-3] = _spread(loaded.futures)
    errors, changes = errors_by_episode(model, loaded.futures)
    assert errors.shape == changes.shape == (3, 4) and (errors > 0).all()
    held = {loaded.futures.starts[k] for k in (1, 3)}
    worlds = FutureBatches(loaded.futures, CPU, TRAIN, held, set(loaded.futures.starts) - held)
    plans = PolicyBatches(loaded.demonstrations, CPU, TRAIN, CONFIG.rows)
    figures = validate(model, plans, worlds)
    for jump, error, change in zip(CONFIG.jumps, errors, changes):
        missed = error[[1, 3]].sum() / change[[1, 3]].sum()
        assert figures[f"missed_{jump}"] == pytest.approx(missed, rel=1e-4)
    # changes in units of their spread: about 1 for each sample, as their mean is small
    count = loaded.futures.valid.sum(0)
    np.testing.assert_allclose(changes.sum(1) / count, 1, rtol=0.1)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"first": 5001}, "a study with other settings"),
        ({"trials": 2}, "a study with other settings"),
        ({"train": _train}, "a study with other settings"),
        ({"sizes": (2, 3)}, "3 or more different numbers of episodes"),
        ({"sizes": (2, 2, 3)}, "3 or more different numbers of episodes"),
        ({"sizes": (2, 3, 9)}, "4 episodes of --futures are too few: 9 are wanted"),
        ({"task": "stack"}, "'stack'"),
    ],
)
def test_other_settings_and_too_few_episodes_are_refused(study, counted, changes, words):
    before = len(counted.trainings)
    with pytest.raises(InputError, match=words) as error:
        measure_scaling(replace(study, **changes))
    assert "\n" not in str(error.value) and len(counted.trainings) == before


def command(study, *more):
    return [
        *("gwm", "eval", "scaling", "--data", str(study.data), "--futures", str(study.data)),
        *("--held-out", str(study.held_out), "--vae", str(study.vae), "--out", str(study.out)),
        *("--sizes", "4", "2", "3", "--seeds", "2", "--config", "tiny"),
        *("--iterations", "10", "--trials", "3", "--task", "lift", "--processes", "1", *more),
    ]


def test_the_command_prints_a_table_and_writes_the_figures(
    study, finished, monkeypatch, capsys, tmp_path
):
    monkeypatch.setitem(POLICIES, "tiny", (CONFIG, TRAIN))
    monkeypatch.setattr("sys.argv", command(study, "--json", str(tmp_path / "found.json")))
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[1].split()) == "episodes after 0.4 s after 0.8 s after 1.6 s"
    row = finished["rows"][2]
    words = lines[4].split()
    assert words[:2] == ["4", f"{row['missed_4']:.3f}"] and "success 0.667 [" in lines[4]
    assert lines[5].startswith("after 0.4 s: falls as N^-b, b = ") and len(lines) == 8
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["rows"] == json.loads(json.dumps(finished["rows"]))
    assert written["trials"] == 3 and written["config"] == "tiny"


@pytest.mark.parametrize(
    "more, words",
    [
        (("--trials", "0"), "--trials and --task go together"),
        (("--config", "huge"), "demo, tiny"),
        (("--sizes", "50", "150"), "3 or more different numbers"),
        (("--sizes", "0", "2", "3"), "--sizes must be 1 or more"),
        (("--device", "abacus"), "valid are cpu"),
        (("--iterations", "3", "--out", "{new}"), "--iterations 3: 7 or more"),
    ],
)
def test_bad_arguments_are_one_line(study, more, words, monkeypatch, capsys, tmp_path):
    more = [word.format(new=tmp_path / "new") for word in more]
    monkeypatch.setattr("sys.argv", command(study, *more))
    assert main() == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gwm:")]
    assert len(error) == 1 and words in error[0]
