"""Metrics of predicted images: which pixels count, and the sums over them.

All methods are scored on the same pixels, which depend on the observed images alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from skimage.metrics import structural_similarity

from gwm_core.training.datasets.clips import CUBE, ROBOT, WORKSPACE

REGIONS = ("whole", "moving")
CHANGED = 0.1  # change of the largest channel above which a pixel counts as moving
_SAMPLES = 2000  # of the bootstrap


def masks(
    before: np.ndarray, regions_before: np.ndarray, after: np.ndarray, regions_after: np.ndarray
) -> np.ndarray:
    """Pixels (2, H, W) bool that count, in the order of ``REGIONS``.

    ``whole``: the surface before or after lies in the workspace. ``moving``: those of them whose
    colour changed, or that robot or cube entered or left.

    Args:
        before, after: images (H, W, 3) in [0, 1]; regions: (H, W), bits as in ``SceneClips``.
    """
    whole = (regions_before | regions_after) & WORKSPACE > 0
    changed = np.abs(before - after).max(-1) > CHANGED
    parts = (regions_before ^ regions_after) & (ROBOT | CUBE) > 0
    return np.stack([whole, whole & (changed | parts)])


def similarity(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """SSIM (H, W) around every pixel of images (H, W, 3) in [0, 1], mean over channels."""
    return structural_similarity(truth, image, channel_axis=2, data_range=1.0, full=True)[1].mean(
        -1
    )


@dataclass
class ImageScores:
    """Sums over pixels for every episode, region, step and method."""

    episodes: int
    horizon: int
    methods: tuple[str, ...]
    pixels: np.ndarray = field(init=False)  # (E, 2, H)
    squares: np.ndarray = field(init=False)  # (M, E, 2, H): squared error, mean over channels
    similarities: np.ndarray = field(init=False)  # (M, E, 2, H): SSIM

    def __post_init__(self):
        self.pixels = np.zeros((self.episodes, len(REGIONS), self.horizon))
        self.squares, self.similarities = np.zeros((2, len(self.methods), *self.pixels.shape))

    def add(
        self,
        episode: int,
        step: int,
        images: dict[str, np.ndarray],
        truth: np.ndarray,
        mask: np.ndarray,
    ) -> None:
        """Add images (H, W, 3) in [0, 1] of all methods at a step, on pixels ``mask`` (2, H, W)."""
        self.pixels[episode, :, step] += mask.sum((1, 2))
        for m, method in enumerate(self.methods):
            image = images[method].clip(0, 1)
            square, alike = ((image - truth) ** 2).mean(-1), similarity(image, truth)
            self.squares[m, episode, :, step] += (mask * square).sum((1, 2))
            self.similarities[m, episode, :, step] += (mask * alike).sum((1, 2))

    def psnr(self, method: str, counts: np.ndarray | None = None) -> np.ndarray:
        """PSNR (2, H) [dB] of the pooled squared error.

        (B, 2, H) with ``counts`` (B, E) of each episode. NaN where no pixel counts, infinite where
        nothing differs.
        """
        return self._pooled(self.squares, method, counts, lambda mean: -10 * np.log10(mean))

    def ssim(self, method: str) -> np.ndarray:
        """Mean SSIM (2, H) over the pixels; NaN where none counts."""
        return self._pooled(self.similarities, method, None, lambda mean: mean)

    def _pooled(
        self, sums: np.ndarray, method: str, counts: np.ndarray | None, figure
    ) -> np.ndarray:
        sums = sums[self.methods.index(method)]
        sums, pixels = (
            x.sum(0) if counts is None else np.tensordot(counts, x, 1) for x in (sums, self.pixels)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return figure(sums / pixels)

    def figures(self, first: str) -> dict:
        """Lists over the horizon by region.

        ``psnr`` and ``ssim`` are those of the method ``first``; others carry their method's name.
        """
        names = {method: "" if method == first else f"_{method}" for method in self.methods}
        return {
            region: {
                f"{kind}{ending}": figure(method)[r].tolist()
                for kind, figure in (("psnr", self.psnr), ("ssim", self.ssim))
                for method, ending in names.items()
            }
            for r, region in enumerate(REGIONS)
        }

    def gain_ci95(self, method: str, over: str) -> list[float]:
        """95 % interval [dB] of the PSNR that ``method`` gains on moving pixels at the last step.

        Percentile bootstrap (Efron 1979) over episodes, whose moments are not independent.
        """
        rng = np.random.default_rng(0)
        counts = rng.multinomial(self.episodes, np.full(self.episodes, 1 / self.episodes), _SAMPLES)
        gain = (self.psnr(method, counts) - self.psnr(over, counts))[:, REGIONS.index("moving"), -1]
        return (
            np.percentile(gain[np.isfinite(gain)], [2.5, 97.5]).tolist()
            if np.isfinite(gain).any()
            else [np.nan] * 2
        )
