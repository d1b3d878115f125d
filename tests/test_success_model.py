"""The success head: what it is asked, what it learns from, its calibration, and its verb."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from gwm.cli.main import main
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.special import expit

from gwm_core.data.episode_info import list_episodes
from gwm_core.errors import InputError
from gwm_core.model.calibration import Calibration
from gwm_core.model.checkpoint import load_policy, load_vae, save_policy, save_vae
from gwm_core.model.config import VAES, named_config
from gwm_core.model.vae import VAE
from gwm_core.model.weights_file import digest, refuse_seen
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.runtime.graphs.compile import onnx_file
from gwm_core.runtime.imagined_world import imagined_world
from gwm_core.runtime.predicted_success import PredictedSuccess, read_predicted_success
from gwm_core.training.datasets.future_samples import UNKNOWN, load_future_samples, outcome_labels
from gwm_core.training.success.fit_success import _value_auc, fit_success
from gwm_core.training.success.sample_states import sample_state
from gwm_core.training.success.success_calibration import (
    _second_half,
    calibrate_success,
    calibration_figures,
    cross_fitted,
    fit_calibration,
)

NETWORK, TRAIN = named_config("tiny")
CONFIG = replace(NETWORK, vae=VAES["tiny"][0])
TASKS = CONFIG.tasks
LIFT = TASKS.index("lift")


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """An untrained network that says it has seen one episode."""
    folder = tmp_path_factory.mktemp("policy")
    torch.manual_seed(0)
    vae = VAE(CONFIG.vae).eval()
    vae.gripper_tokens.copy_(0.03 * torch.randn_like(vae.gripper_tokens))
    save_vae(folder / "vae", vae, {})
    provenance = {"trained_on": ["lift nominal 7"], "done": 0.5, "value_auc": 0.5}
    save_policy(folder, random_model(), provenance, folder / "vae")
    return folder


def random_model():
    torch.manual_seed(0)
    model = WorldActionModel(CONFIG).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def edited(episodes, folder, first_seed, count=4, **changes):
    """Copies of the episodes with other seeds, every second one a failure."""
    for number, path in enumerate(list_episodes(episodes)[:count]):
        copy = shutil.copytree(path, folder / path.name) / "episode.json"
        info = json.loads(copy.read_text())
        info |= {"seed": first_seed + number, "success": number % 2 == 0} | changes
        copy.write_text(json.dumps(info))
    return folder


@pytest.fixture(scope="module")
def trials(episodes, tmp_path_factory):
    return edited(episodes, tmp_path_factory.mktemp("trials"), 100)


@pytest.fixture(scope="module")
def samples(trials, policy):
    return load_future_samples([trials], CONFIG, policy, processes=1)


def calibrated(slope, offset, count=20_000, per_trial=100, seed=0):
    """Logits of a head, labels that follow other logits, and the trial of each."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=count)
    labels = (rng.random(count) < expit(slope * logits + offset)).astype(np.int8)
    return logits, labels, np.arange(count) // per_trial


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.3, -2.0), (2.0, 1.0)])
def test_calibration_finds_slope_and_offset_and_improves_probabilities(slope, offset):
    logits, labels, trial = calibrated(slope, offset)
    found = fit_calibration(logits, labels, 200)
    assert found.slope == pytest.approx(slope, abs=0.1)
    assert found.offset == pytest.approx(offset, abs=0.2)
    before = calibration_figures(logits, labels)
    after = calibration_figures(cross_fitted(logits, labels, trial), labels)
    assert after["ece"] < 0.03
    if (slope, offset) != (1.0, 0.0):
        assert all(after[name] < before[name] for name in before)


def test_the_interval_of_a_probability_covers_the_true_one_and_narrows_with_trials():
    truth, covered, widths = Calibration(0.6, -1.0), [], {20: [], 320: []}
    for seed in range(60):
        for trials, found in widths.items():
            logits, labels, _ = calibrated(*truth[:2], trials * 20, 20, seed)
            said = fit_calibration(logits, labels, 20 * trials).probability(1.5)
            assert said.low < said.value < said.high
            found.append(said.high - said.low)
            covered.append(said.low < truth.probability(1.5).value < said.high)
    assert 0.88 < np.mean(covered) <= 1
    assert np.mean(widths[320]) < 0.4 * np.mean(widths[20])


def test_the_covariance_is_that_of_the_posterior():
    for seed, (slope, offset) in enumerate([(0.3, -2.0), (2.0, 1.0), (5.0, 0.5)]):
        logits, labels, _ = calibrated(slope, offset, 2000, 20, seed)
        found = fit_calibration(logits, labels, 100)
        positive = labels.sum()
        low, high = 1 / (2000 - positive + 2), (positive + 1) / (positive + 2)
        targets = np.where(labels == 1, high, low)

        def posterior(x, logits=logits, targets=targets):
            z = np.exp(x[0]) * logits + x[1]
            prior = 0.5 * (x[0] ** 2 + (x[1] / 2) ** 2)
            return 100 * (np.logaddexp(0, z) - targets * z).mean() + prior

        x, step = np.array([np.log(found.slope), found.offset]), 1e-3
        moves = step * np.eye(2)
        hessian = [
            [
                sum(s * t * posterior(x + s * a / 2 + t * b / 2) for s in (1, -1) for t in (1, -1))
                / step**2
                for b in moves
            ]
            for a in moves
        ]
        np.testing.assert_allclose(np.linalg.inv(found.covariance), hessian, rtol=0.02, atol=0.05)


def test_what_the_graphs_say_is_calibrated_anew_for_predicted_scenes():
    observed, predicted = Calibration(2.0, -1.0), Calibration(0.5, 0.3, ((0.04, 0.0), (0.0, 0.09)))
    calibrate = PredictedSuccess(observed, predicted)
    for raw in (-2.0, 0.0, 2.5):
        assert calibrate(expit(observed(raw))).value == pytest.approx(expit(predicted(raw)))
        assert calibrate(expit(observed(raw))) == pytest.approx(predicted.probability(raw))
    for certain in (0.0, 1.0):  # what bfloat16 rounds to these may be less
        assert all(0 < p < 1 for p in calibrate(certain))
    rounded = calibrate(float(torch.tensor(expit(observed(3.0))).bfloat16()))
    assert rounded.value == pytest.approx(predicted.probability(3.0).value, abs=0.04)
    with pytest.raises(FloatingPointError):
        calibrate(np.nan)


def of_manifest(folder, calibration):
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["provenance"]["calibration"] = calibration
    file.write_text(json.dumps(manifest))
    return read_predicted_success(folder)


def test_only_what_was_calibrated_on_predicted_scenes_is_said(policy, tmp_path):
    folder = shutil.copytree(policy, tmp_path / "policy")
    assert read_predicted_success(folder) == {}
    found = {"slope": 2.0, "offset": 0.5, "covariance": [[0.1, 0.0], [0.0, 0.2]]}
    both = of_manifest(
        folder, {"lift": {"done": found, "predicted": found}, "stack": {"done": found}}
    )
    assert set(both) == {"lift"}
    alone = of_manifest(folder, {"lift": {"predicted": found}})
    assert alone["lift"].observed == Calibration() and alone["lift"].predicted.slope == 2
    for wrong in (
        {"lift": {"predicted": found | {"slope": -1.0}}},
        {"lift": {"predicted": found | {"covariance": [[0.1]]}}},
        {"lift": {"predicted": found | {"covariance": [[-0.1, 0.0], [0.0, 0.2]]}}},
        {"lift": {"predicted": found | {"offset": "NaN"}}},
        {"lift": {"predicted": {}}},
        {"lift": ["predicted"]},
        ["lift"],
    ):
        with pytest.raises(InputError, match="calibrate it anew"):
            of_manifest(folder, wrong)


def test_few_one_sided_separated_and_reversed_labels_stay_finite():
    logits = np.linspace(-3, 3, 40)
    separated = (logits > 0).astype(np.int8)
    for labels in (separated, 1 - separated, np.ones(40, np.int8), np.zeros(40, np.int8)):
        for some in (slice(None), slice(19, 21), slice(0, 1)):
            for trials in (1, 1000):
                found = fit_calibration(logits[some], labels[some], trials)
                assert (
                    np.isfinite([*found[:2], *np.ravel(found.covariance)]).all()
                    and 1e-3 < found.slope < 200
                )
                assert abs(found.offset) < 15
    with pytest.raises(FloatingPointError):
        fit_calibration(np.array([0.0, np.nan]), np.array([0, 1]), 2)


def test_many_samples_of_few_trials_do_not_outweigh_the_prior():
    logits, labels, _ = calibrated(1.0, -3.0)
    offsets = [fit_calibration(logits, labels, trials).offset for trials in (1, 10, 1000)]
    assert offsets[2] == pytest.approx(-3, abs=0.3)
    assert offsets[2] < offsets[1] < offsets[0] < -0.1


def test_figures_of_known_probabilities():
    logits = np.log([0.25 / 0.75, 0.25 / 0.75, 0.25 / 0.75, 0.25 / 0.75])
    exact = calibration_figures(logits, np.array([1, 0, 0, 0]))
    assert exact["ece"] == pytest.approx(0) and exact["brier"] == pytest.approx(0.1875)
    assert exact["nll"] == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))
    wrong = calibration_figures(np.array([40.0, -40.0]), np.array([0, 1]))
    assert wrong["ece"] == pytest.approx(1) and wrong["nll"] == pytest.approx(40)


def test_trials_are_whole_in_one_half_and_both_halves_have_alike_labels():
    rng = np.random.default_rng(1)
    outcome = np.repeat([0, 1], 10)
    trial = rng.integers(0, 20, 2000)
    second = _second_half(outcome[trial], trial)
    sides = [np.unique(second[trial == k]) for k in range(20)]
    assert all(len(side) == 1 for side in sides)
    in_second = np.concatenate(sides)
    assert in_second.sum() == 10 and outcome[in_second].sum() == 5


def test_a_trial_does_not_calibrate_itself():
    logits, labels, trial = calibrated(1.0, 0.0, count=400)
    second = _second_half(labels, trial)
    other = logits.copy()
    other[second] *= -5  # of one half alone
    changed = (
        cross_fitted(other, labels, trial) / other != cross_fitted(logits, labels, trial) / logits
    )
    assert changed[~second].all()
    half = fit_calibration(logits[~second], labels[~second], len(np.unique(trial[~second])))
    np.testing.assert_allclose(cross_fitted(other, labels, trial)[second], half(other[second]))


def test_the_area_under_the_curve_counts_pairs():
    rng = np.random.default_rng(0)
    value, outcome = rng.random((50, 2)).round(1), rng.integers(-1, 2, (50, 2))
    areas = []
    for v, o in zip(value.T, outcome.T):
        difference = v[o == 1][:, None] - v[o == 0]
        areas.append(((difference > 0) + 0.5 * (difference == 0)).mean())
    assert _value_auc(value, outcome) == pytest.approx(np.mean(areas))
    outcome[:, 1] = 1
    assert _value_auc(value, outcome) == pytest.approx(areas[0])
    assert _value_auc(value[:, 1:], outcome[:, 1:]) is None


def test_an_episode_has_an_outcome_for_its_own_task_alone():
    infos = [
        {"task": "lift", "success": True},
        {"task": "stack", "success": False},
        {"task": "lift", "success": None},
        {"task": "lift", "success": False, "policy": "play"},
        {"task": "sort", "success": True},
    ]
    expected = [[1, -1], [-1, 0], [-1, -1], [-1, -1], [-1, -1]]
    assert outcome_labels(infos, ("lift", "stack")).tolist() == expected


def test_samples_hold_the_outcome_of_their_episode(samples):
    for number in range(4):
        outcome = samples.outcome[samples.episode == number]
        assert (outcome[:, LIFT] == (number % 2 == 0)).all()
        assert (np.delete(outcome, LIFT, axis=1) == UNKNOWN).all()


def test_episodes_that_began_alike_keep_their_own_outcomes(episodes, tmp_path, policy):
    alike = edited(episodes, tmp_path / "alike", 100, count=2, seed=100)
    loaded = load_future_samples([alike], CONFIG, policy, processes=1)
    assert loaded.starts == ("lift nominal 100",)
    assert set(loaded.outcome[:, LIFT]) == {0, 1}


@torch.no_grad()
def test_both_answers_are_calibrated_and_of_one_graph(policy, tmp_path):
    model = load_policy(policy)
    model.success_head.calibration.copy_(torch.rand_like(model.success_head.calibration) + 0.5)
    save_policy(tmp_path, model, {}, policy)
    again = load_policy(tmp_path)
    tokens, task = torch.randn(3, 1 + CONFIG.centers, CONFIG.width), torch.tensor([0, 1, 2])
    for question, probability in ((task, again.success), (task + 3, again.value)):
        slope, offset = model.success_head.calibration[question].T
        expected = (slope * model.success_head(tokens, question) + offset).sigmoid()
        torch.testing.assert_close(probability(tokens, task), expected)
    session = onnxruntime.InferenceSession(
        str(onnx_file(tmp_path, "success")), providers=["CPUExecutionProvider"]
    )
    given = {"tokens": tokens.numpy(), "task": task.numpy()}
    found = session.run(["probability", "value"], given)
    for values, expected in zip(found, (again.success(tokens, task), again.value(tokens, task))):
        np.testing.assert_allclose(values, expected.numpy(), atol=1e-5)


def test_a_state_is_asked_once_for_both(policy, samples):
    world = imagined_world(load_policy(policy), load_vae(policy))
    first, second = (sample_state(world, samples, k) for k in (0, 20))
    asked = []
    graph = world._success
    world._success = lambda inputs: asked.append(inputs) or graph(inputs)
    said = [(world.success(s, t), world.value(s, t)) for s in (first, second) for t in TASKS[:2]]
    assert len(asked) == 4 and len(set(said)) == 4
    assert (world.success(first, TASKS[0]), world.value(first, TASKS[0])) == said[0]
    with pytest.raises(ValueError):
        world.value(first, "sort")


def test_the_value_is_learnt_of_outcomes_and_done_of_the_rule(policy, samples):
    """Values of two trials that failed are below those of two that succeeded."""
    model = load_policy(policy)
    model.success_head.calibration.fill_(3.0)
    config = replace(TRAIN, success_iterations=300, learning_rate=5e-3)
    steps, scenes = [], []
    everything = np.zeros(len(samples), bool)
    fit_success(
        model,
        load_vae(policy),
        samples,
        everything,
        config,
        lambda *step: steps.append(step),
        lambda *scene: scenes.append(scene),
    )
    assert steps[-1][:2] == (300, 300) and scenes[-1][0] == scenes[-1][1] > 0
    assert (model.success_head.calibration == torch.tensor([1.0, 0.0])).all()
    figures = calibrate_success(model, load_vae(policy), samples)
    assert set(figures) == {"lift"} and {"done", "value"} <= set(figures["lift"])
    value = figures["lift"]["value"]
    assert value["trials"] == 4 and value["samples"] == len(samples)
    calibration = model.success_head.calibration
    changed = (calibration != torch.tensor([1.0, 0.0])).any(dim=1)
    assert changed.tolist() == [k % len(TASKS) == LIFT for k in range(2 * len(TASKS))]
    assert calibration[len(TASKS) + LIFT, 0] == pytest.approx(value["slope"])


def test_what_a_network_has_seen_is_refused(policy, tmp_path):
    refuse_seen(policy, "policy", ["lift nominal 8"], pytest.fail)
    with pytest.raises(InputError, match="has seen 1 of these episodes, as 'lift nominal 7'"):
        refuse_seen(policy, "policy", ["lift nominal 8", "lift nominal 7"])
    said = []
    refuse_seen(policy, "vae", ["lift nominal 7"], said.append)
    assert len(said) == 1 and "does not say which episodes it has seen" in said[0]


def words_of(policy, data, out, *more):
    words = ["gwm", "train", "success", "--config", "tiny", "--iterations", 20]
    words += ["--policy", policy, "--data", data, "--out", out, "--processes", 1, *more]
    return [str(word) for word in words]


def test_the_verb_fits_calibrates_and_remembers(
    policy, trials, episodes, tmp_path, monkeypatch, capsys
):
    others = edited(episodes, tmp_path / "others", 200, count=2)
    out, file = tmp_path / "out", tmp_path / "figures.json"
    words = words_of(policy, trials, out, "--calibrate", others, "--json", file)
    monkeypatch.setattr("sys.argv", words)
    assert main() == 0
    said, error = capsys.readouterr()
    assert "lift, value: 2 trials, ECE" in said and "train: 20/20" in error
    figures = json.loads(file.read_text())
    value = figures["calibration"]["lift"]["value"]
    assert set(value["before"]) == set(value["after"]) == {"ece", "brier", "nll"}
    before, after = load_policy(policy).state_dict(), load_policy(out).state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if not name.startswith("success_head")} <= same
    assert not any(name in same for name in ("success_head.question.weight",))
    slope, offset = after["success_head.calibration"][len(TASKS) + LIFT].tolist()
    assert (slope, offset) == pytest.approx((value["slope"], value["offset"]))
    provenance = json.loads((out / "manifest.json").read_text())["provenance"]
    seeds = [7, *range(100, 104), 200, 201]
    assert provenance["trained_on"] == sorted(f"lift nominal {seed}" for seed in seeds)
    assert provenance["calibration"] == figures["calibration"]
    assert "value_auc" not in provenance and "gwm train success" in provenance["success"]["command"]
    judged = ["gwm", "eval", "outcomes", "--model", str(out), "--data", str(others)]
    monkeypatch.setattr("sys.argv", judged)
    assert main() == 2
    assert "has seen 2 of these episodes, as 'lift nominal 200'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"seed": 4000}, "for choosing and reporting"),
        ({"success": None}, "has no verdict"),
        ({"policy": "play"}, "has no verdict"),
        ({"success": True}, "every trial of lift in --calibrate succeeded"),
        ({"success": False}, "every trial of lift in --calibrate failed"),
        ({"seed": 7}, "has seen 1 of these episodes, as 'lift nominal 7'"),
        ({"seed": 101}, "began as ones of --data did, as 'lift nominal 101'"),
        ({"task": "sort"}, "unknown task 'sort'"),
    ],
)
def test_trials_that_cannot_calibrate_are_refused(
    changes, why, policy, trials, episodes, tmp_path, monkeypatch, capsys
):
    others = edited(episodes, tmp_path / "others", 200, **changes)
    words = words_of(policy, trials, tmp_path / "out", "--calibrate", others)
    monkeypatch.setattr("sys.argv", words)
    assert main() == 2
    error = capsys.readouterr().err
    assert why in error and error.count("\n") == 1
    assert not list((tmp_path / "out").iterdir())


def test_what_it_cannot_go_on_from_is_refused(
    policy, trials, episodes, tmp_path, monkeypatch, capsys
):
    plain = tmp_path / "plain"
    save_policy(plain, WorldActionModel(NETWORK), {})
    unknown = edited(episodes, tmp_path / "unknown", 300, success=None, reached={})
    weights = (policy / "policy.safetensors").read_bytes()
    for source, data, out, why in (
        (plain, trials, tmp_path / "a", "predicts nothing"),
        (policy, trials, policy, "would be lost: choose another --out"),
        (policy, unknown, tmp_path / "b", "no episode of --data says whether"),
    ):
        monkeypatch.setattr("sys.argv", words_of(source, data, out))
        assert main() == 2
        error = capsys.readouterr().err
        assert why in error.splitlines()[-1], error
    assert (policy / "policy.safetensors").read_bytes() == weights


def test_a_vae_says_what_it_has_seen(episodes, tmp_path, monkeypatch, capsys):
    words = ["gwm", "train", "vae", "--config", "tiny", "--data", episodes, "--out", tmp_path]
    words += ["--iterations", 2, "--processes", 1]
    monkeypatch.setattr("sys.argv", [str(word) for word in words])
    assert main() == 0, capsys.readouterr().err
    made = json.loads((tmp_path / "vae.json").read_text())["provenance"]
    assert made["trained_on"] == [f"lift nominal {seed}" for seed in range(10, 14)]
    assert "gwm train vae" in made["command"]


def test_weights_of_an_earlier_head_are_refused(policy, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(policy, tmp_path / "older")
    file = folder / "policy.safetensors"
    with safe_open(file, framework="pt") as content:
        metadata = content.metadata()
    tensors = load_file(file)
    tensors["success_head.task"] = tensors.pop("success_head.question.weight")[: len(TASKS)]
    save_file(tensors, file, metadata=metadata)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"][file.name] = digest(file)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="not a policy of this version"):
        load_policy(folder)
    monkeypatch.setattr(
        "sys.argv", ["gwm", "eval", "outcomes", "--model", str(folder), "--data", "."]
    )
    assert main() == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
