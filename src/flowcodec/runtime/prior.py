"""The walk over the levels, coarse to fine, that encoder and decoder share: prior -> channel -> one step of synthesis.

At each level and stage the prior's integer networks give a location and a scale index for every coefficient from what is already
reconstructed; an ``Exchange`` then gives the reconstructed values: the encoder's by quantising the true latent and keeping the
symbols, the decoder's by reading symbols. Everything here is integer arithmetic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flowcodec.errors import ModelError
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.context import (
    CARRIED_CHANNELS,
    DETAIL_CHANNELS,
    LUMA,
    LUMA_BANDS,
    PHASES,
    STAGE_NUMBERS,
    STAGES,
    Stage,
    clip_activations,
    condition_planes,
    contrast_planes,
    filled,
    joined,
    level_group,
    pad_even,
    phase_of,
    to_pixels,
    two_ranges,
    valid_coefficients,
)
from flowcodec.runtime.coupling import Coupling
from flowcodec.runtime.flow import level_shapes, narrowed, synthesise_level
from flowcodec.runtime.integer import FRACTION_BITS, Runner
from flowcodec.runtime.prediction import LevelPrediction, Prediction, Unpredicted, blend
from flowcodec.runtime.step import step_fixed
from flowcodec.runtime.tiles import Place, Read, Whole, Write, channel_groups, even, in_parallel, run_in_tiles

PLANES = 3
_COARSEST_LIMIT = 1 << 26


@dataclass(frozen=True)
class Site:
    """Where in the walk an exchange takes place."""

    level: int
    stage: Stage

    @property
    def number(self) -> int:
        """Number of the exchange within a file."""
        return STAGE_NUMBERS * self.level + self.stage.number


class Exchange(Protocol):
    def coarsest(self, step: int, base: np.ndarray) -> np.ndarray:
        """(3,) integers: the single coarsest sample of each plane, in steps; ``base`` (3,) is what is expected of it."""

    def coefficients(self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Reconstructed values (1/64 band step, locations included) at the sites of a phase; all arrays (bands, H/2, W/2)."""

    def level_done(self, level: int) -> None:
        """Called when a level's last coefficient has been exchanged."""


LevelBegun = Callable[[int, np.ndarray, tuple[int, int]], None]
"""(level, planes (3, h, w) in 1/64 pixel units that it refines, size that it refines them to)."""


class LevelNetworks:
    """The prior networks of one level, run on its grid."""

    def __init__(self, model: Model, runner: Runner, level: int, step_index: int) -> None:
        self.model, self.runner, self.group = model, runner, level_group(level)
        self.level, self.step_index = level, step_index

    def _run(self, name: str, size: tuple[int, int], read: Read, write: Write) -> None:
        graph = f"{name}_{self.group}"
        run_in_tiles(self.runner, graph, self.model.graph_info[graph], size, read, write)

    def trunk(self, ll: np.ndarray, carried: np.ndarray | None, prediction: LevelPrediction | None = None) -> list[np.ndarray]:
        """int16 features (C, H/2, W/2) of the sites of each phase of the even grid."""
        size = even(ll.shape[1]), even(ll.shape[2])

        def read(place: Place) -> list[np.ndarray]:
            contrast = contrast_planes(ll, self.step_index, place)
            shape = contrast.shape[1:]
            planes = np.zeros((CARRIED_CHANNELS, *shape), np.int16) if carried is None else filled(carried[:, *place], place)
            inputs = [contrast, planes, condition_planes(self.step_index, self.level, *shape)]
            return inputs if prediction is None else [*inputs, filled(prediction.planes(ll, place), place)]

        phases = [Whole(size[0] // 2, size[1] // 2, [np.int16]) for _ in PHASES]

        def write(place: Place, outputs: list[np.ndarray]) -> None:
            half = slice(place[0].start // 2, place[0].stop // 2), slice(place[1].start // 2, place[1].stop // 2)
            for phase, whole in enumerate(phases):
                whole(half, [phase_of(outputs[0], phase)])

        self._run("trunk", size, read, write)
        return [whole.arrays[0] for whole in phases]

    def stage(self, stage: Stage, trunk: np.ndarray, others: list[np.ndarray]) -> list[np.ndarray]:
        """Locations int16 and scale indices uint8 (bands, H/2, W/2) of a stage, of a P-frame also the gates int8.

        ``others``: beside the trunk at the phase of the stage, the two-range copies of what is seen, unless nothing is; in a
        P-frame then what is decoded less its prediction and the predictions of this stage, clipped.
        """
        size = trunk.shape[1], trunk.shape[2]
        found = Whole(*size, [np.int16, np.uint8, np.int8])
        self._run(f"stage{stage.number}", size, lambda place: [x[:, *place] for x in (trunk, *others)], found)
        return found.arrays

    def carry(self, trunk: list[np.ndarray], detail: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """int16 features (16, H, W) for the next finer level, whose planes have the given size."""
        features = Whole(*size, [np.int16])
        grid = detail.shape[1], detail.shape[2]
        self._run("carry", grid, lambda place: [joined(trunk, place), two_ranges(detail[:, *place])], features)
        return features.arrays[0]


def band_steps(model: Model, step_index: int, level: int) -> list[int]:
    """The nine band steps of a level, integers with STEP_BITS fractional bits."""
    multipliers = model.step_multipliers[step_index, level_group(level)]
    return [(step_fixed(step_index) * int(m) + (1 << 11)) >> 12 for m in multipliers]


def _narrow(values: np.ndarray, dtype: type, out: np.ndarray | None = None) -> np.ndarray:
    """Converted with saturation well inside the range, so that sums of a few stay inside too; only hostile files reach it."""
    limit = np.iinfo(dtype).max >> 4
    if np.iinfo(values.dtype).max <= limit:
        return values.astype(dtype)
    narrow = np.empty(values.shape, dtype) if out is None else out
    return np.clip(values, -limit, limit, out=narrow, casting="unsafe")


class _Alone:
    """The networks of pictures at one level of a P-frame, for its unpredicted blocks."""

    def __init__(self, unpredicted: Unpredicted, level: int, step_index: int, ll: np.ndarray, carried: np.ndarray | None) -> None:
        self.networks = LevelNetworks(unpredicted.model, unpredicted.runner, level, step_index)
        self.trunk = self.networks.trunk(ll, carried)
        self._blocks = unpredicted.at_level(level, even(ll.shape[1]), even(ll.shape[2]))

    def replace(self, stage: Stage, others: list[np.ndarray], locations: np.ndarray, scales: np.ndarray) -> None:
        """In these blocks, what the prior of P-frames says by what that of pictures does."""
        own = self.networks.stage(stage, self.trunk[stage.phase], others)
        here = phase_of(self._blocks[None], stage.phase)
        np.copyto(locations, own[0], where=here)
        np.copyto(scales, own[1], where=here)


class Walk:
    """One pass over the levels of an image of the given size."""

    def __init__(
        self,
        model: Model,
        runner: Runner,
        height: int,
        width: int,
        channels: int,
        step_index: int,
        prediction: Prediction | None = None,
        unpredicted: Unpredicted | None = None,
    ) -> None:
        """With a ``prediction`` of the same size: a P-frame, of which some blocks may be ``unpredicted``.

        Raises ModelError where the model is for the other kind.
        """
        if model.predicts != (prediction is not None):
            kind = "P-frames, which need a prediction" if model.predicts else "pictures without a prediction"
            raise ModelError(f"model {model.card.get('name', model.id.hex())}: it is for {kind}; pass another model")
        self.model, self.runner, self.prediction = model, runner, prediction
        self.shapes = level_shapes(height, width)
        self.channels, self.step_index = channels, step_index
        self.carried: np.ndarray | None = None
        """Features (16, H, W) for the level at which the walk stands, none at the coarsest."""
        self._unpredicted = unpredicted
        self._carried_alone: np.ndarray | None = None

    def run(
        self, exchange: Exchange, synthesise_image: bool = True, last_level: int = 0, level_begun: LevelBegun | None = None
    ) -> np.ndarray:
        """Planes (3, H, W) in 1/64 pixel units, before restoration; without the last synthesis, those of the finest ``ll``.

        With a ``last_level`` above 0 the walk ends there: no finer level is exchanged, and the planes are those of that level.
        ``level_begun`` is told of each level before its first coefficient.
        """
        step = step_fixed(self.step_index)
        base = np.zeros(PLANES, np.int64) if self.prediction is None else self.prediction.coarsest(step)
        coarsest = np.clip(exchange.coarsest(step, base), -_COARSEST_LIMIT, _COARSEST_LIMIT)
        ll = to_pixels(coarsest << FRACTION_BITS, step).reshape(PLANES, 1, 1)
        self.carried = self._carried_alone = None
        for level in range(len(self.shapes) - 1, last_level, -1):
            if level_begun is not None:
                level_begun(level, ll, self.shapes[level - 1])
            detail = self._details(level, ll, exchange)
            exchange.level_done(level)
            if level > 1 or synthesise_image:
                ll = self._synthesise(level, ll, detail)
        return ll

    def _take_carried(self) -> np.ndarray | None:
        """What the coarser level left, with no reference kept: it is large, and is padded to another array on odd sizes."""
        carried, self.carried = self.carried, None
        return carried

    def _details(self, level: int, ll: np.ndarray, exchange: Exchange) -> np.ndarray:
        """Details (9, H, W) in 1/64 band step on the even grid; leaves the features for the next level in ``carried``."""
        networks = LevelNetworks(self.model, self.runner, level, self.step_index)
        finer = self.shapes[level - 1]
        valid = pad_even(valid_coefficients(*finer))
        predicted = self._predicted(level)
        trunk = networks.trunk(ll, self._take_carried(), predicted)
        expected = None if predicted is None else pad_even(predicted.detail)
        alone = None if self._unpredicted is None else _Alone(self._unpredicted, level, self.step_index, ll, self._carried_alone)
        detail = np.zeros(valid.shape, np.int32)
        stages = STAGES if self.channels == PLANES else [stage for stage in STAGES if stage.kind == LUMA]
        # Each stage sees the copies made by those before it: a prefix of one array, filled as decoding goes on.
        seen = np.empty((2 * stages[-1].seen, valid.shape[1] // 2, valid.shape[2] // 2), np.int16)
        # Likewise the comparisons: a stage finds its predictions where later ones find what they were off by.
        compared = np.empty((stages[-1].seen + stages[-1].outputs, *seen.shape[1:]), np.int16)
        for stage in stages:
            others = [seen[: 2 * stage.seen]] if stage.seen else []
            own = slice(stage.seen, stage.seen + stage.outputs)
            if expected is not None:
                wanted = phase_of(expected[stage.bands], stage.phase)
                compared[own] = clip_activations(wanted)
                others.append(compared[: own.stop])
            locations, scales, *gates = networks.stage(stage, trunk[stage.phase], others)
            if expected is not None:
                locations = blend(locations, gates[0], wanted)
            if alone is not None:
                alone.replace(stage, others[: bool(stage.seen)], locations, scales)
            bands = phase_of(valid[stage.bands], stage.phase)
            values = exchange.coefficients(Site(level, stage), locations, scales, bands)
            phase_of(detail[stage.bands], stage.phase)[:] = values
            if stage is not stages[-1]:
                two_ranges(values, seen[2 * own.start : 2 * own.stop])
                if expected is not None:
                    compared[own] = clip_activations(values - wanted)
        if level > 1:
            self.carried = networks.carry(trunk, detail, finer)
            self._carried_alone = None if alone is None else alone.networks.carry(alone.trunk, detail, finer)
        return detail

    def _predicted(self, level: int) -> LevelPrediction | None:
        if self.prediction is None:
            return None
        return LevelPrediction(self.prediction, level, band_steps(self.model, self.step_index, level), self.step_index)

    def _synthesise(self, level: int, ll: np.ndarray, detail: np.ndarray) -> np.ndarray:
        """Details in steps -> couplings undone -> the planes of the next finer level."""
        height, width = ll.shape[1:]
        steps = band_steps(self.model, self.step_index, level)
        # The narrow type holds what the synthesis of the image accepts; coarser levels may exceed it.
        dtype = np.int32 if level == 1 else np.int64
        pixels = np.empty((DETAIL_CHANNELS, height, width), dtype)

        def scale(bands: slice) -> None:
            factors = np.array(steps[bands], np.int64).reshape(-1, 1, 1)
            _narrow(to_pixels(detail[bands, :height, :width], factors), dtype, pixels[bands])

        in_parallel(self.runner.threads, scale, channel_groups(DETAIL_CHANNELS, height * width))
        coupling = Coupling(self.model, self.runner, level, self.step_index)
        if coupling.present:
            prediction = coupling.prediction(ll)
            if any(side % 2 for side in self.shapes[level - 1]):
                prediction *= valid_coefficients(*self.shapes[level - 1])
            pixels += prediction
            del prediction
            ll = ll - coupling.update(pixels)
        ll = _narrow(ll, dtype)
        if self.channels != PLANES:
            ll[self.channels :] = 0
            pixels[LUMA_BANDS:] = 0
        if level > 1:
            ll, pixels = narrowed(ll, pixels)
        return synthesise_level(ll, pixels, *self.shapes[level - 1], self.runner.threads)
