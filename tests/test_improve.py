import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from gwm.cli.main import main
from safetensors.numpy import save_file

from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q, fk
from gwm_core.improvement import practice, success_check
from gwm_core.improvement.improve import ImproveConfig, ImprovementRound
from gwm_core.improvement.noisy_policy import NoisyPolicy, load_networks
from gwm_core.improvement.practice import (
    PLANS,
    STARTS,
    PracticeConfig,
    PracticeJob,
    arm_state,
    choose_starts,
    kept_plans,
    run_practice,
    start_arrays,
)
from gwm_core.improvement.rounds import Collection, SimulatedRounds
from gwm_core.improvement.success_check import SuccessCheck
from gwm_core.improvement.trials import LEAST, NothingToLearn, load_round_samples, read_trials
from gwm_core.model.checkpoint import load_policy, load_predicting_policy, save_policy
from gwm_core.model.config import named_config
from gwm_core.model.inputs import proprioception
from gwm_core.model.weights_file import digest
from gwm_core.runtime.bundle import open_bundle
from gwm_core.scene.patches import patches
from gwm_core.training.success.sample_states import observed_scene, sample_state
from gwm_core.training.training_run import silent
from gwm_core.types import ArmState, Observation

FAST = {"warmup": 2, "validate_every": 5, "success_iterations": 20, "success_samples": 60}
TRAIN = replace(named_config("tiny")[1], **FAST)
CONFIG = ImproveConfig(
    training=TRAIN,
    model_iterations=5,
    policy_iterations=5,
    practice=PracticeConfig(starts=4, candidates=3, seconds=0.8),
)


def make_trial(source, out, number, policy, **changes):
    """A copy of an expert's episode that says it was a trial of ``policy``."""
    path = shutil.copytree(source, out / f"trial_{number:03d}")
    info = json.loads((path / "episode.json").read_text())
    info |= {"policy": "x", "weights": digest(policy / "policy.safetensors"), "seed": 100 + number}
    info |= {"success": number % 2 == 0} | changes
    (path / "episode.json").write_text(json.dumps(info))
    return path


@pytest.fixture(scope="module")
def near_policy(tiny_policy, tmp_path_factory):
    """One whose plans stay so near to the gripper that the gate takes them."""
    folder = tmp_path_factory.mktemp("near")
    model = load_policy(tiny_policy)
    model.plan_decoder.mean.copy_(torch.tensor([0, 0, 0, 1, 0, 0, 0, -1, 0, 0.04]))
    model.plan_decoder.std.copy_(torch.tensor([0.004] * 3 + [0.01] * 6 + [0.02]))
    save_policy(folder, model, {}, tiny_policy)
    return folder


@pytest.fixture(scope="module")
def trials(episodes, near_policy, tmp_path_factory):
    out = tmp_path_factory.mktemp("trials")
    sources = sorted(path for path in episodes.iterdir() if (path / "episode.json").exists())
    for number in range(LEAST):
        make_trial(sources[number % len(sources)], out, number, near_policy)
    return out


@pytest.fixture(scope="module")
def samples(trials, near_policy):
    return load_round_samples(near_policy, [trials], [], [], processes=1)


def make_practice(out, values):
    """The files of a practice whose rollouts, of two plans each, have these values (S, C). Each row
    is the number of its rollout.
    """
    count = values.shape[1]
    (out / PLANS).mkdir()
    save_file({"proprio": np.zeros((len(values), 11), np.float32)}, out / STARTS)
    for k, value in enumerate(values):
        candidate = np.repeat(np.flatnonzero(value > value.mean()), 2)
        of_rollout = np.float32(k * count + candidate)
        plans = {
            "value": np.float32(value),
            "candidate": candidate,
            "rows": np.ascontiguousarray(np.tile(of_rollout[:, None, None], (1, 16, 10))),
            "points": np.zeros((len(candidate), 8, 3), np.float16),
            "colors": np.zeros((len(candidate), 8, 3), np.uint8),
            "proprio": np.zeros((len(candidate), 11), np.float32),
        }
        save_file(plans, out / PLANS / f"{k:06d}.safetensors")


def make_round(policy, trials, samples, out, config=CONFIG):
    return ImprovementRound(policy, read_trials(policy, [trials]), samples, config, out)


@pytest.mark.slow
def test_a_round_makes_another_policy_and_goes_on_where_it_ended(
    near_policy, trials, samples, tmp_path, monkeypatch
):
    monkeypatch.setattr(success_check, "LEAST_AUC", 0.0)
    before = digest(near_policy / "policy.safetensors")
    this = make_round(near_policy, trials, samples, tmp_path / "round")
    figures = this.run()
    assert figures["practice"]["starts"] == 4
    assert figures["practice"]["plans"] == 2 * figures["practice"]["rollouts"] > 0
    assert figures["practice"]["advantage"] > 0
    assert digest(near_policy / "policy.safetensors") == before
    improved = digest(this.improved / "policy.safetensors")
    assert improved != before and load_policy(this.improved).config.tasks
    manifest = json.loads((this.improved / "manifest.json").read_text())
    assert set(samples.futures.starts) - {*this.trials.checked} <= {
        *manifest["provenance"]["trained_on"]
    }
    # whatever stage is lost, the round makes the same again
    shutil.rmtree(this.improved)
    (this.out / "practice" / PLANS / "000001.safetensors").unlink()
    again = this.run()
    assert again == figures and digest(this.improved / "policy.safetensors") == improved
    with pytest.raises(InputError, match="another policy, episodes or settings"):
        other = replace(CONFIG, policy_iterations=6)
        make_round(near_policy, trials, samples, this.out, other).run()
    # imitation alone learns as long from the same trials
    plain = make_round(
        near_policy, trials, samples, tmp_path / "plain", replace(CONFIG, imagine=False)
    )
    assert "practice" not in plain.run()
    assert digest(plain.improved / "policy.safetensors") != improved


def test_practice_keeps_the_better_plans_of_a_start(tmp_path):
    config = PracticeConfig(starts=4, candidates=3)
    make_practice(tmp_path, np.arange(12).reshape(4, 3) ** 2 / 144)
    kept = kept_plans(tmp_path, config, task=0)
    # a quarter of 12 rollouts: the best ones, by the distance from the mean of their start
    assert kept.rows[::2, 0, 0].tolist() == [5.0, 8.0, 11.0] and kept.valid.all()
    assert (kept.task == 0).all() and kept.episode.tolist() == [0, 0, 1, 1, 2, 2]
    more = kept_plans(tmp_path, replace(config, kept_fraction=1.0), task=0)
    assert 8 <= len(more) < 24  # of each start at least one rollout, and never all


@pytest.mark.slow
@pytest.mark.parametrize(("alike", "rollouts"), [(2.0, 2), (-1.0, 4)])
def test_where_the_first_half_ends_alike_the_other_is_left_out(
    alike, rollouts, near_policy, samples, monkeypatch
):
    monkeypatch.setattr(practice, "_ALIKE", alike)
    config = PracticeConfig(starts=1, candidates=4, seconds=0.8)
    job = PracticeJob(near_policy, "lift", config, 0)
    starts = start_arrays(samples.futures, np.array([0]))
    start = {name: array[0] for name, array in starts.items()}
    state = sample_state(load_networks(near_policy).world, samples.futures, 0)
    assert (start["latents"] == state.latent).all() and (start["anchors"] == state.anchors).all()
    done = practice._rollouts(job, start, 0)
    assert len(done) == rollouts and [len(plans) for _, plans in done] == [2] * rollouts
    assert len({plans[0]["rows"].tobytes() for _, plans in done}) == rollouts  # of other noises


@pytest.mark.slow
@pytest.mark.parametrize("success", [False, True])
def test_a_rollout_that_succeeds_is_worth_1(success, near_policy, samples, monkeypatch):
    roll = practice.imagined_rollout
    monkeypatch.setattr(
        practice, "imagined_rollout", lambda *given: replace(roll(*given), success=success)
    )
    job = PracticeJob(near_policy, "lift", replace(CONFIG.practice, candidates=1), 0)
    start = {k: array[0] for k, array in start_arrays(samples.futures, np.array([0])).items()}
    ((value, _),) = practice._rollouts(job, start, 0)
    assert value == 1.0 if success else 0.0 < value < 1.0


@pytest.mark.slow
def test_practice_plans_as_the_trained_network_does(near_policy, samples):
    model, networks = load_predicting_policy(near_policy), load_networks(near_policy)
    futures, c = samples.futures, model.config
    scene = observed_scene(futures.points[0], futures.colors[0], c.lift.opacity)
    state = arm_state(futures.proprio[0])
    observation = Observation(state.stamp, (), state, "lift")
    noise = np.random.default_rng(0).standard_normal((c.rows, 10), np.float32)
    policy = NoisyPolicy(networks, noise)
    rows = policy.act(scene, observation)
    proprio = torch.from_numpy(proprioception(state))[None]
    with torch.inference_mode():
        seen = patches(scene[: c.lift.count], c.centers, c.neighbors)
        tokens = model.encoder(torch.from_numpy(seen)[None], proprio)
        number = torch.tensor([c.tasks.index("lift")])
        planned = model.plan_decoder(tokens, number, torch.from_numpy(noise)[None])
        wanted = model.absolute(planned, proprio)[0].numpy()
    np.testing.assert_allclose(rows, wanted, atol=1e-4)
    other = NoisyPolicy(networks, -noise).act(scene, observation)
    assert np.abs(other - rows).max() > 1e-3
    (plan,) = policy.plans
    np.testing.assert_array_equal(plan["points"], futures.points[0][: c.lift.count])
    np.testing.assert_array_equal(plan["colors"], futures.colors[0][: c.lift.count])


def test_practice_without_a_better_plan_teaches_nothing(samples, tmp_path):
    make_practice(tmp_path, np.full((4, 3), 0.5))
    job = PracticeJob(tmp_path, "lift", PracticeConfig(starts=4, candidates=3), 0)
    with pytest.raises(NothingToLearn, match="no plan is better"):
        run_practice(job, samples.futures, tmp_path, 1, silent)


@pytest.mark.slow
def test_a_kept_model_plans_as_before(near_policy, trials, samples, tmp_path):
    config = replace(CONFIG, model_iterations=0, policy_iterations=1, imagine=False)
    make_round(near_policy, trials, samples, tmp_path, config).run()
    before, after = (load_policy(folder) for folder in (near_policy, tmp_path / "model"))
    for name, tensor in before.state_dict().items():
        assert name.startswith("success_head") or tensor.equal(after.state_dict()[name]), name


def test_starts_are_near_gripping_as_often_as_wanted(samples):
    config = PracticeConfig(starts=20, gripping_fraction=0.5)
    chosen = choose_starts(samples.futures, config, seed=0)
    assert len(set(chosen)) == 20
    widths = np.concatenate(
        [samples.futures.proprio[:, None, 9], samples.futures.rows[..., 9]], axis=1
    )
    assert (np.ptp(widths[chosen], axis=1) > 0.01).sum() >= 10
    assert (chosen == choose_starts(samples.futures, config, seed=0)).all()
    assert (chosen != choose_starts(samples.futures, config, seed=1)).any()


def test_an_arm_stands_where_the_sample_says_or_nowhere():
    proprio = proprioception(ArmState(0, HOME_Q, np.zeros(7), 0.03, 0.02))
    state = arm_state(proprio)
    np.testing.assert_allclose(fk(state.q), fk(HOME_Q), atol=1e-3)
    assert (state.width, state.width_command) == pytest.approx((0.03, 0.02))
    away = proprio.copy()
    away[:3] = 3.0
    assert arm_state(away) is None


def test_of_both_outcomes_some_trials_check_the_success_model(near_policy, trials):
    found = read_trials(near_policy, [trials])
    assert found.successes == 5 and found.task == "lift"
    ended = list(found.checked.values())
    assert ended.count(True) >= 2 and ended.count(False) >= 2 and len(ended) <= 5
    assert set(found.checked) < set(found.starts)


def test_a_success_model_that_guesses_is_no_reward():
    SuccessCheck(0.9, 3, 3).refuse()
    with pytest.raises(InputError, match=r"cannot tell failures from successes.*0\.50"):
        SuccessCheck(0.5, 3, 3).refuse()


@pytest.mark.parametrize(
    "changes, said",
    [
        ([{"success": None}], "no verdict"),
        ([{"weights": "0" * 64}], "no trial of"),
        ([{"task": "stack"}], "one task at a time"),
        ([{"success": True}] * LEAST, "succeeded: both outcomes"),
        ([{"success": False}] * LEAST, "failed: both outcomes"),
        ([{"seed": 5000}], "reserved|choosing and reporting"),
    ],
)
def test_trials_that_teach_nothing_are_refused(
    changes, said, episodes, near_policy, tmp_path, capsys
):
    source = min(path for path in episodes.iterdir() if (path / "episode.json").exists())
    for number in range(LEAST):
        changed = changes[number] if number < len(changes) else {}
        make_trial(source, tmp_path, number, near_policy, **changed)
    with pytest.raises(InputError, match=said):
        read_trials(near_policy, [tmp_path])
    shutil.rmtree(tmp_path / "trial_009")
    if len(changes) == LEAST:
        with pytest.raises(InputError, match="too few"):
            read_trials(near_policy, [tmp_path])


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_verb_writes_a_report_and_a_bundle(trials, near_policy, tmp_path, monkeypatch, capsys):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    words = ["gwm", "improve", str(near_policy), "--episodes", str(trials), "--out", str(out)]
    words += ["--imitate", "--model-iterations", "0", "--policy-iterations", "1"]
    monkeypatch.setattr("sys.argv", [*words, "--processes", "1", "--json", str(figures)])
    assert main() == 0
    said = capsys.readouterr().out
    assert f"up policy:={out}/bundle supervision:=shadow" in said and "5 of 10" in said
    assert figures.read_text() == (out / "report.json").read_text()
    assert ">5/10<" in (out / "report.html").read_text()
    bundle = open_bundle(out / "bundle")
    assert bundle.contract["tasks"] == list(load_policy(near_policy).config.tasks)
    assert digest(out / "bundle/policy.safetensors") == digest(out / "policy/policy.safetensors")


def test_the_verb_says_what_is_wrong(trials, near_policy, tmp_path, monkeypatch, capsys):
    words = ["gwm", "improve", str(near_policy), "--episodes", str(trials), "--out", str(tmp_path)]
    for more, said in (
        (["--starts", "0"], "--starts must be 1"),
        (["--device", "tpu"], "device"),
        (["--seconds", "1"], "a multiple of 0.4"),
        (["--seconds", "nan"], "a multiple of 0.4"),
        (["--real-fraction", "1.5"], "between 0 and 1"),
        (["--real-fraction", "nan"], "between 0 and 1"),
    ):
        monkeypatch.setattr("sys.argv", [*words, *more])
        assert main() == 2
        assert said in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_round_in_simulation_collects_improves_and_measures(
    near_policy, trials, tmp_path, renderer, monkeypatch
):
    monkeypatch.setattr(success_check, "LEAST_AUC", 0.0)
    rounds = SimulatedRounds(
        near_policy,
        Collection("lift", episodes=LEAST, seed=100),
        rounds=1,
        trials=1,
        config=CONFIG,
        out=tmp_path,
        renderer=renderer,
    )
    # the collected trials are there, as after an interruption: half of them succeeded
    code = digest(near_policy / "policy.safetensors")[:8]
    (tmp_path / "round_1/trials").mkdir(parents=True)
    for number, path in enumerate(sorted(trials.glob("trial_*"))):
        name = f"policy_{code}_lift_nominal_{100 + number:06d}"
        shutil.copytree(path, tmp_path / "round_1/trials" / name)
    figures = rounds.run()
    (found,) = figures["rounds"]
    assert (found["trials"], found["successes"]) == (LEAST, 5) and found["plan_distance_mm"] > 0
    for kind in ("real", "imagined"):
        assert found[kind]["before"]["trials"] == found[kind]["after"]["trials"] == 1
    assert figures["overall"] == found["real"] and figures["kept"] in (0, 1)
    # both policies had one start, which nothing is trained on
    measured = [json.loads((tmp_path / f"real/{k}.json").read_text()) for k in (0, 1)]
    assert [[trial["seed"] for trial in one["trials"]] for one in measured] == [[4000], [4000]]
    assert measured[0]["settings"]["policy"] != measured[1]["settings"]["policy"]
    assert rounds.run() == figures
