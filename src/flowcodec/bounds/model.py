"""A model's report: R*, its confidence bound, what a certified f-divergence takes off it, all on data kept apart.

Three sets of images, no two of which may share a picture: those the model was trained on, those the critic sees, and those that
certify. From one set of folders, the held-out rule of training (every n-th file) gives the certification images and the rest are
the critic's; other certification folders are compared with the critic's by content. One i.i.d. unit is a random crop of a random
picture of the certification list: the population that is certified is those crops, not photographs at large.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowcodec.bounds.confidence import METHODS, Range, upper_bound
from flowcodec.bounds.critic import train_critic
from flowcodec.bounds.divergence import Divergence, certify, content_hash
from flowcodec.bounds.rate import BLOCK, RAW_BPP, RECORDED_LEVELS, ModelRates, model_rates
from flowcodec.errors import InputError
from flowcodec.model.codec import FlowCodecModel
from flowcodec.runtime.image import read_picture
from flowcodec.runtime.step import log2_step, step_index
from flowcodec.training.data import list_images

_PRIOR_DRAWS = 100_000
_CRITIC_BLOCKS = 200_000


@dataclass(frozen=True)
class ReportSettings:
    """How a report is made; every field has the default of the command line."""

    steps: tuple[float, ...] = (6.0, 20.0, 60.0)  # quantiser steps, pixel units
    crops: int = 300  # of the certification images
    critic_crops: int = 300
    critic_images: int = 60
    side: int = 64  # pixels, a power of two
    delta: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.crops, self.critic_crops) < 2:
            raise InputError(f"crops: expected at least 2 for a confidence bound, found {min(self.crops, self.critic_crops)}")
        if not 0 < self.delta < 1:
            raise InputError(f"delta: expected a probability between 0 and 1, found {self.delta}")


@dataclass(frozen=True)
class ImageSet:
    """Pictures and their content hashes."""

    pictures: list[np.ndarray]
    hashes: frozenset[str]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> "ImageSet":
        pictures = []
        for path in paths:
            pixels = read_picture(path).pixels
            if pixels.dtype != np.uint8:
                raise InputError(f"{path}: expected 8 bits a channel, found 16; convert it first")
            pictures.append(pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2))
        return cls(pictures, frozenset(content_hash(picture) for picture in pictures))

    def crops(self, count: int, side: int, rng: np.random.Generator) -> np.ndarray:
        """uint8 (count, 3, side, side): independent draws, a picture and then a place in it."""
        large = [picture for picture in self.pictures if min(picture.shape[:2]) >= side]
        if not large:
            raise InputError(f"no picture is at least {side} pixels on each side; lower --side")
        drawn = []
        for index in rng.integers(0, len(large), count):
            top, left = (int(rng.integers(0, extent - side + 1)) for extent in large[index].shape[:2])
            drawn.append(large[index][top : top + side, left : left + side].transpose(2, 0, 1))
        return np.stack(drawn)


def split(data: Sequence[Path], certify_on: Sequence[Path], every: int, most: int) -> tuple[ImageSet, ImageSet]:
    """(critic's images, certification images); ``every`` is the held-out rule, ``most`` how many the critic may have.

    Raises InputError where the two sets share a picture.
    """
    files = list_images(data)
    training = [path for path, position in files if position % every]
    held_out = [path for path, position in files if position % every == 0]
    stride = max(len(training) // most, 1)
    critic = ImageSet.read(training[::stride][:most])
    certification = ImageSet.read([path for path, _ in list_images(certify_on)] if certify_on else held_out)
    if shared := critic.hashes & certification.hashes:
        raise InputError(
            f"{len(shared)} pictures are both the critic's and the certification's; a critic fitted to its own test proves"
            " nothing: give --certify other folders than --data"
        )
    if not critic.pictures or not certification.pictures:
        raise InputError(f"expected at least {every} pictures in --data, to split them, found {len(files)}")
    return critic, certification


def report(
    model: FlowCodecModel,
    critic_images: ImageSet,
    certification: ImageSet,
    settings: ReportSettings,
    divergences: Sequence[Divergence],
) -> Iterator[dict[str, Any]]:
    """One row for each step; rates in bits per pixel, divergences in nats a block of 36 coefficients.

    ``kl_bpp`` is an estimate of R* (the KL is not the size of a file); ``certified_bpp[D]`` bounds I(X;Z) from above with
    probability 1 - delta: half of delta goes to R*, half to the divergences of the levels.
    """
    rng = np.random.default_rng(settings.seed)
    for step in settings.steps:
        index = step_index(step)
        seen = model_rates(model, critic_images.crops(settings.critic_crops, settings.side, rng), index, settings.seed)
        fresh = model_rates(model, certification.crops(settings.crops, settings.side, rng), index, settings.seed + 1)
        row: dict[str, Any] = {
            "step": 2 ** log2_step(index),
            "kl_bpp": float(fresh.kl_bpp.mean()),
            "kl_sd_bpp": float(fresh.kl_bpp.std(ddof=1)),
            "psnr_db": float(fresh.psnr_db.mean()),
            "sent_raw": int((fresh.kl_bpp > RAW_BPP).sum()),
        }
        limits = Range(0.0, fresh.cap_bpp)
        row["upper_bpp"] = {name: upper_bound(fresh.capped_bpp, limits, settings.delta, name) for name in METHODS}
        share = upper_bound(fresh.capped_bpp, limits, settings.delta / 2)
        corrections = _corrections(seen, fresh, critic_images.hashes, certification.hashes, settings, divergences)
        row["correction_bpp"] = corrections
        row["certified_bpp"] = {name: share - sum(found.values()) for name, found in corrections.items()}
        yield row


def _corrections(
    seen: ModelRates,
    fresh: ModelRates,
    seen_hashes: frozenset[str],
    fresh_hashes: frozenset[str],
    settings: ReportSettings,
    divergences: Sequence[Divergence],
) -> dict[str, dict[str, float]]:
    """divergence -> level -> bits per pixel, lower bounds on the levels' shares of KL(q(z) || p(z)).

    In the space of u the prior is a product, so KL(q || p) >= sum over disjoint blocks of KL(q_block || N(0, I)), superadditive;
    that is at least the number of blocks times the KL of a block at a random place (convexity).
    """
    rng = np.random.default_rng(settings.seed + 2)
    corrections: dict[str, dict[str, float]] = {divergence.name: {} for divergence in divergences}
    for level in RECORDED_LEVELS:
        blocks = seen.blocks[level].reshape(-1, BLOCK)
        chosen = rng.permutation(len(blocks))[:_CRITIC_BLOCKS]
        critic = train_critic(
            blocks[chosen], rng.normal(size=(len(chosen), BLOCK)), seen_hashes, limit=4.0, seed=settings.seed + level
        )
        prior = rng.normal(size=(_PRIOR_DRAWS, BLOCK))
        bits = fresh.blocks[level].shape[1] / fresh.pixels / math.log(2)
        for divergence in divergences:
            delta = settings.delta / (2 * len(RECORDED_LEVELS))
            found = certify(divergence, critic, list(fresh.blocks[level]), prior, delta, fresh_hashes)
            corrections[divergence.name][f"level {level}"] = bits * found.kl
    return corrections
