"""What is imagined, measured: laws of the scores, the probe, the baseline, and the commands from
end to end.
"""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from gwm.cli.main import main
from PIL import Image

from gwm_core.data.contact_sheet import CAPTION_HEIGHT
from gwm_core.data.episode_info import list_episodes
from gwm_core.errors import InputError
from gwm_core.evaluation import gripper_probe, rollout_video, world_model_eval
from gwm_core.evaluation.future_predictor import FuturePredictor, commanded, load_predictor
from gwm_core.evaluation.image_metrics import ImageScores, masks
from gwm_core.evaluation.rollout_video import read_clips
from gwm_core.model.checkpoint import load_image_model, save_image_model, save_policy
from gwm_core.model.config import IMAGE_MODELS, VAES, named_config
from gwm_core.model.image_model import ImageModel
from gwm_core.model.vae import VAE
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.runtime.imagined_world import imagined_world
from gwm_core.training import train_image_model
from gwm_core.training.datasets.clips import CUBE, ROBOT, WORKSPACE, SceneClips, load_clips
from gwm_core.training.datasets.latents import spread_starts
from gwm_core.training.train_vae import train_vae
from gwm_core.training.training_run import TrainingRun, count_parameters

CONFIG = named_config("tiny", IMAGE_MODELS)[0]


@pytest.fixture(scope="module")
def clips(episodes) -> SceneClips:
    """Three times 1.6 s, around the grasp."""
    whole = load_clips([episodes], named_config("tiny", VAES)[0].lift, processes=2)
    return part(
        whole, np.concatenate([np.flatnonzero(whole.episode == e)[-24:-8] for e in range(3)])
    )


def part(clips: SceneClips, index: np.ndarray) -> SceneClips:
    return SceneClips(**{name: getattr(clips, name)[index] for name in SceneClips.__annotations__})


@pytest.fixture(scope="module")
def model(clips, tmp_path_factory):
    """Folder of a VAE, a policy that predicts and an image model of few iterations or none."""
    folder = tmp_path_factory.mktemp("model")
    few = {"iterations": 2, "validate_every": 2}
    torch.set_num_threads(1)
    for train, configs in ((train_vae, VAES), (train_image_model.train_image_model, IMAGE_MODELS)):
        network, config = named_config("tiny", configs)
        train(clips, network, TrainingRun(replace(config, **few), folder))
    save_policy(folder, shaken_policy(0), {}, folder)
    return folder


def shaken_policy(seed: int) -> WorldActionModel:
    """Random weights everywhere, also where training begins at zero."""
    torch.manual_seed(seed)
    policy = WorldActionModel(replace(named_config("tiny")[0], vae=named_config("tiny", VAES)[0]))
    for parameter in policy.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return policy.eval()


def still(clips: SceneClips) -> SceneClips:
    """The same moments, but every picture of an episode is its first, and every scene."""
    first = np.searchsorted(clips.episode, clips.episode)
    names = ("scenes", "images", "regions", "viewmats", "Ks")
    return replace(clips, **{name: getattr(clips, name)[first] for name in names})


def test_what_counts_is_what_was_seen_in_the_workspace_before_or_after():
    before = after = np.full((2, 4, 3), 0.5)
    old = np.array(
        [[WORKSPACE, WORKSPACE, 0, 0], [WORKSPACE | ROBOT, WORKSPACE, WORKSPACE | CUBE, ROBOT]],
        np.uint8,
    )
    new = np.array(
        [[WORKSPACE, 0, WORKSPACE, 0], [WORKSPACE | ROBOT, WORKSPACE, WORKSPACE, 0]], np.uint8
    )
    whole, moving = masks(before, old, after, new)
    assert whole.tolist() == [[True, True, True, False], [True, True, True, False]]
    # the cube left; outside nothing counts
    assert moving.tolist() == [[False] * 4, [False, False, True, False]]
    brighter = after.copy()
    brighter[0, 0, 1] += 0.11
    brighter[0, 1] += 0.09
    brighter[0, 3] += 0.5  # not in the workspace
    assert masks(before, old, brighter, new)[1].tolist() == [
        [True, False, False, False],
        [False, False, True, False],
    ]


def test_a_perfect_prediction_scores_infinitely_and_noise_as_its_variance_says():
    rng = np.random.default_rng(0)
    scores = ImageScores(2, 1, ("perfect", "noisy"))
    mask = np.stack([np.ones((64, 64), bool), rng.random((64, 64)) < 0.3])
    for episode in (0, 1):
        truth = rng.uniform(0.3, 0.7, (64, 64, 3))
        noise = rng.choice([-0.1, 0.1], truth.shape)
        scores.add(episode, 0, {"perfect": truth, "noisy": truth + noise}, truth, mask)
    assert np.isinf(scores.psnr("perfect")).all() and np.allclose(scores.ssim("perfect"), 1)
    np.testing.assert_allclose(scores.psnr("noisy"), 20.0)
    assert (scores.ssim("noisy") < 0.9).all()


def test_pixels_are_pooled_and_the_interval_spans_the_episodes():
    """Not the mean of decibels: an episode with more moving pixels counts for more."""
    scores, truth = ImageScores(2, 1, ("a", "b")), np.full((16, 16, 3), 0.5)
    for episode, (count, error) in enumerate(((30, 0.1), (10, 0.2))):
        mask = np.zeros((2, 256), bool)
        mask[:, :count] = True
        scores.add(
            episode, 0, {"a": truth + error, "b": truth + 0.4}, truth, mask.reshape(2, 16, 16)
        )
    np.testing.assert_allclose(scores.psnr("a"), -10 * np.log10((30 * 0.01 + 10 * 0.04) / 40))
    low, high = scores.gain_ci95("a", "b")
    assert low == pytest.approx(20 * np.log10(2)) and high == pytest.approx(20 * np.log10(4))


def test_of_a_still_clip_the_last_picture_repeated_is_perfect(clips, model):
    figures = world_model_eval.evaluate(load_predictor(model, 4), still(clips), stride=20)
    assert np.isinf(figures["whole"]["psnr_repeat_last"]).all()
    np.testing.assert_allclose(figures["whole"]["ssim_repeat_last"], 1)
    assert np.isfinite(figures["whole"]["psnr"]).all() and np.isnan(figures["moving"]["psnr"]).all()


def test_all_methods_are_scored_on_pixels_that_no_prediction_can_change(clips, model, monkeypatch):
    counted = []
    add = ImageScores.add

    def spy(self, *args):
        add(self, *args)
        counted.append(self.pixels.copy())

    monkeypatch.setattr(ImageScores, "add", spy)
    first = world_model_eval.evaluate(
        load_predictor(model, 4), clips, stride=7, image_model=load_image_model(model)
    )
    pixels, counted[:] = counted[-1], []
    other = shaken_policy(5), VAE(named_config("tiny", VAES)[0]).eval()
    second = world_model_eval.evaluate(FuturePredictor(imagined_world(*other), 4), clips, stride=7)
    np.testing.assert_array_equal(pixels, counted[-1])
    assert (pixels[:, 1] <= pixels[:, 0]).all() and pixels[:, 1].any()
    for region in ("whole", "moving"):
        assert first[region]["psnr_repeat_last"] == second[region]["psnr_repeat_last"]
        assert first[region]["psnr"] != second[region]["psnr"]


def test_windows_need_an_episode_that_is_long_enough(clips):
    starts = world_model_eval.windows(clips, 2, 8, 3)
    assert (clips.episode[starts] == clips.episode[starts + 9]).all()
    with pytest.raises(InputError, match="no episode goes on for 40 moments"):
        spread_starts(clips, 40, 4)
    with pytest.raises(InputError, match="shorter --horizon"):
        world_model_eval.windows(clips, 2, len(clips), 1)


def test_the_image_model_is_as_large_as_what_it_is_compared_with():
    vae = named_config("demo", VAES)[0]
    policy = WorldActionModel(replace(named_config("demo")[0], vae=vae))
    both = count_parameters(VAE(vae)) + count_parameters(policy)
    image_model = count_parameters(ImageModel(named_config("demo", IMAGE_MODELS)[0]))
    assert both < image_model < 1.5 * both


def squares() -> dict[str, torch.Tensor]:
    """A batch of pictures (4, 3, 32, 32) of a square, of which nothing but the action tells where
    it goes.
    """
    seen = torch.zeros(4, 3, 3, 32, 32)
    actions = torch.zeros(4, 2, 10)
    for b, side in enumerate((-1, 1, -1, 1)):
        for k, left in enumerate((12, 12, 12 + 8 * side)):
            seen[b, k, :, 6 + 8 * (b // 2) : 12 + 8 * (b // 2), left : left + 6] = 1
        actions[b, 1, 1] = 0.05 * side
    return {
        "past": seen[:, :2],
        "actions": actions,
        "camera": torch.zeros(4, dtype=torch.long),
        "target": seen[:, 2],
        "weight": torch.ones(4, 1, 32, 32),
        "noise": torch.zeros(4, 2, 3, 32, 32),
    }


def test_an_untrained_image_model_repeats_the_last_picture_and_a_trained_one_learns_a_batch():
    torch.manual_seed(0)
    network, batch = ImageModel(CONFIG), squares()
    given = batch["past"], batch["actions"], batch["camera"]
    assert torch.equal(network(*given), batch["past"][:, -1])
    optimizer, losses = torch.optim.Adam(network.parameters(), 5e-3), []
    for _ in range(100):
        loss = train_image_model.loss(network, **batch)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.4 * losses[0]
    other = network(batch["past"], -batch["actions"], batch["camera"])
    assert (other - batch["target"]).abs().mean() > 2 * (
        network(*given) - batch["target"]
    ).abs().mean()
    rolled = network.rollout(
        batch["past"], batch["actions"][:, [0, 1, 1]], batch["camera"]
    ).detach()
    torch.testing.assert_close(rolled[:, 0], network(*given).clamp(0, 1))
    assert rolled.shape[:2] == (4, 2) and rolled.min() >= 0 and rolled.max() <= 1


def test_a_damaged_image_model_is_refused(tmp_path):
    save_image_model(tmp_path, ImageModel(CONFIG), {})
    assert load_image_model(tmp_path).config == CONFIG
    weights = tmp_path / "image.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        load_image_model(tmp_path)
    with pytest.raises(InputError, match=r"no image in .*gwm train image"):
        load_image_model(tmp_path / "nowhere")


def planted(count: int, seed: int, tokens: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Latents (count, tokens, 8) in which some tokens, by a bit of theirs, sit around a gripper;
    its positions.
    """
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(count, tokens, 8)).astype(np.float32)
    positions = rng.uniform(-0.5, 0.5, (count, 3))
    z[..., 3] = -1
    z[:, :6, 3] = 1
    z[:, :6, :3] = positions[:, None] + 0.02 * rng.normal(size=(count, 6, 3))
    return z, positions


def test_the_probe_finds_a_planted_gripper_whatever_the_order_of_tokens():
    z, positions = planted(700, 0)
    found = gripper_probe.GripperProbe(z, positions, np.arange(len(z)) // 100)
    z, positions = planted(200, 1)
    error = np.linalg.norm(found(z) - positions, axis=-1)
    assert np.median(error) < 0.25 * np.median(np.linalg.norm(positions, axis=-1))
    turned = z[:, np.random.default_rng(2).permutation(z.shape[1])]
    np.testing.assert_allclose(found(turned), found(z), atol=1e-4)


def test_a_shuffle_leaves_nothing_in_its_place():
    for count in (2, 3, 50):
        others = gripper_probe.shuffle(count)
        assert sorted(others) == list(range(count)) and (others != np.arange(count)).all()


class Obedient:
    """Predicts that all tokens move as the gripper is told to."""

    steps = (2, 4)

    def __init__(self, vae: VAE):
        self._vae = vae

    def commanded(self, clips, now):
        return commanded(clips, now, self.steps[-1])[..., 1:, :]

    def latents(self, clips, now, rows):
        anchors = rows[:, [step - 1 for step in self.steps], :3] - self._vae.middle.numpy()
        z = np.zeros((*anchors.shape[:2], self._vae.config.tokens, self._vae.config.latent))
        z[..., :3] = (anchors / self._vae.extent.numpy())[:, :, None]
        return z.astype(np.float32)


class Rigid(VAE):
    """A VAE of a scene that rides on the gripper: tokens sit around the first Gaussian, which is
    the gripper.
    """

    def encode(self, gaussians, anchors):
        place = (gaussians[:, :1, :3] - self.middle) / self.extent
        z = torch.zeros(len(gaussians), self.config.tokens, self.config.latent)
        z[..., :3] = place
        return z, z


def test_the_action_test_tells_a_model_that_obeys_from_one_given_other_actions(clips):
    scenes = clips.scenes.astype(np.float32)
    scenes[:, 0, :3] = clips.poses[:, :3]
    # an arm that is where it was told to be
    followed = replace(clips, scenes=scenes, actions=clips.poses)
    vae = Rigid(named_config("tiny", VAES)[0]).eval()
    figures = gripper_probe.action_test(Obedient(vae), vae, followed, followed, stride=3)
    assert figures["probe_mm"] < 5
    assert len(figures["excess_mm"]) == 2 and max(figures["excess_mm"]) < 2
    assert figures["ratio"][-1] > 3


def test_an_image_model_of_other_cameras_is_refused(clips):
    with pytest.raises(InputError, match="trained with 3 cameras, the episodes have 2"):
        world_model_eval.check_image_model(ImageModel(replace(CONFIG, cameras=3)), clips)


def gwm(monkeypatch, capsys, *words) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["gwm", *map(str, words)])
    code = main()
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.long
def test_the_commands_write_what_they_say(episodes, clips, model, tmp_path, monkeypatch, capsys):
    file = tmp_path / "world.json"
    monkeypatch.setattr(gripper_probe, "_WINDOWS", 20)
    code, said = gwm(
        monkeypatch,
        capsys,
        "eval",
        "world",
        "--data",
        episodes,
        "--model",
        model,
        "--image-model",
        model,
        "--horizon",
        8,
        "--stride",
        60,
        "--actions",
        "--probe-data",
        episodes,
        "--json",
        file,
    )
    assert code == 0, said
    figures = json.loads(file.read_text())
    methods = ("", "_repeat_last", "_round_trip", "_image_model")
    for region in ("whole", "moving"):
        assert set(figures[region]) == {
            kind + ending for kind in ("psnr", "ssim") for ending in methods
        }
        assert all(len(values) == len(figures["steps"]) == 2 for values in figures[region].values())
    assert len(figures["chamfer_mm"]) == 2 and len(figures["gain_image_model_ci95"]) == 2
    assert {"psnr", "psnr_parts", "chamfer_mm", "cube_mm"} == set(figures["vae"])
    assert {"probe_mm", "imagined_mm", "excess_mm", "shuffled_mm", "ratio"} <= set(
        figures["actions"]
    )
    assert "image model" in said and "gripper" in said

    out = tmp_path / "film"
    episode = list_episodes(episodes)[0]
    code, said = gwm(
        monkeypatch,
        capsys,
        "imagine",
        episode,
        "--model",
        model,
        "--horizon",
        16,
        "--out",
        out,
        "--camera",
        "side",
    )
    assert code == 0, said
    assert len(json.loads((out / "imagine.json").read_text())["whole"]["psnr"]) == 3
    assert cv2.imread(str(out / "imagine.png")) is not None
    video = cv2.VideoCapture(str(out / "imagine.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 16 and video.read()[0]


def test_imagine_throughout_shows_every_instant_beside_its_prediction(
    episodes, model, monkeypatch, capsys, tmp_path
):
    path = list_episodes(episodes)[0]
    whole, _ = read_clips(path, load_predictor(model, 4).lift_config)
    start = whole.starts(8)[5]
    short = part(whole, np.arange(start, start + 8))
    monkeypatch.setattr(rollout_video, "read_clips", lambda *_: (short, ("front", "side")))
    words = "--model", model, "--out", tmp_path, "--camera", "side", "--horizon", 4
    code, said = gwm(monkeypatch, capsys, "imagine", path, *words, "--throughout")
    assert code == 0, said
    with Image.open(tmp_path / "imagine.webp") as video:
        assert video.n_frames == 4
        for k in range(4):
            video.seek(k)
            frame = np.asarray(video.convert("RGB"), np.float32)[CAPTION_HEIGHT:]
            seen, imagined = np.hsplit(frame, 2)
            small = cv2.resize(seen, (128, 128), interpolation=cv2.INTER_AREA)
            apart = [np.abs(small - short.images[4 + j, 1]).mean() for j in range(4)]
            assert np.argmin(apart) == k and apart[k] < 5
            assert 1 < np.abs(seen - imagined).mean() < 100


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ((), "--out"),
        (("--out", "film", "--camera", "nose"), "front, side"),
        (("--out", "film", "--start", 1e3), "which this episode has from"),
        (("--out", "film", "--horizon", 3), "takes 4 or more"),
        (("--out", "film", "--throughout", "--start", 1), "leave out --start"),
        (("--out", "film", "--throughout", "--camera", "nose"), "front, side"),
        (("--out", "/proc/nothing"), "cannot write /proc/nothing"),
    ],
)
def test_imagine_says_what_would_have_been_valid(
    episodes, model, monkeypatch, capsys, tmp_path, more, complaint
):
    monkeypatch.chdir(tmp_path)
    code, said = gwm(
        monkeypatch, capsys, "imagine", list_episodes(episodes)[0], "--model", model, *more
    )
    assert code == 2 and complaint in said and len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
