"""The whole trainable codec: flow, noise channel, flow prior, restoration."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flowcodec.errors import InputError
from flowcodec.model.channel import Channel
from flowcodec.model.coupling import PLANES, Pair, contrast_planes, local_contrast
from flowcodec.model.density import ScaleMixture
from flowcodec.model.flow import MultiscaleFlow, condition_planes, detail_mask, pad_even, steps_of
from flowcodec.model.networks import Arithmetic, straight_through
from flowcodec.model.prior import LevelPrediction, LevelPrior, two_ranges
from flowcodec.model.restoration import Restoration
from flowcodec.runtime.context import CARRIED_CHANNELS, DETAIL_CHANNELS, LEVEL_GROUPS, RESTORATION_GAIN_BITS, level_group
from flowcodec.runtime.flow import level_shapes
from flowcodec.runtime.step import log2_step


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the networks; entries of a tuple are for level 1, level 2 and all coarser levels."""

    widths: tuple[int, int, int] = (40, 64, 64)
    blocks: tuple[int, int, int] = (3, 3, 3)
    coupling_width: int = 16
    restoration_width: int = 32
    prediction: bool = False
    """Whether the model is one of P-frames: its prior and restoration also see a prediction of the picture."""

    def __post_init__(self) -> None:
        for name in ("widths", "blocks"):
            values = getattr(self, name)
            if len(values) != LEVEL_GROUPS or min(values) < 1:
                raise InputError(f"model.{name}: expected {LEVEL_GROUPS} positive integers, found {values}")
        if self.coupling_width < 1 or self.restoration_width < 1:
            raise InputError("model.coupling_width and model.restoration_width: expected positive integers")


@dataclass
class CodecResult:
    """What one pass over a batch gives; all (N,) but the image."""

    bits: Tensor
    latent_sse: Tensor
    """Squared error of the conditional means in the latent, pixel units."""
    image_sse: Tensor
    """Squared error of the restored image, float pixels."""
    reconstruction: Tensor
    """(N, 3, H, W) restored RGB, float."""


class FlowCodecModel(nn.Module):
    """x -> flow -> z -> channel under the prior -> conditional mean -> inverse flow -> restoration -> x_hat."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.arithmetic = Arithmetic()
        self.flow = MultiscaleFlow(config.coupling_width, self.arithmetic)
        self.density = ScaleMixture()
        self.priors = nn.ModuleList(
            LevelPrior(config.widths[g], config.blocks[g], g > 0, self.arithmetic, config.prediction) for g in range(LEVEL_GROUPS)
        )
        self.restoration = Restoration(config.restoration_width, self.arithmetic, config.prediction)
        # log2 of a band's step over Delta: offset and slope in (log2 Delta - 4) / 4.
        self.log2_multipliers = nn.Parameter(torch.zeros(LEVEL_GROUPS, DETAIL_CHANNELS, 2))

    def step_multipliers(self, step_index: Tensor, group: int) -> Tensor:
        """(N,) -> (N, 9, 1, 1): step of each band over Delta."""
        offset, slope = self.log2_multipliers[group].unbind(-1)
        position = (log2_step(step_index.float()) - 4) / 4
        return torch.exp2(offset + position[:, None] * slope)[:, :, None, None]

    def forward(
        self, image: Tensor, step_index: Tensor, channel: Channel, train_flow: bool = True, levels: int | None = None
    ) -> CodecResult:
        """``image`` (N, 3, H, W) in 0 ... 255. Without ``train_flow`` no gradient passes through the flow.

        A model of P-frames is given (N, 6, H, W): the picture, then its prediction. With ``levels`` only so many of the finest
        are coded, on top of the rounded ``ll`` of the coarsest of them: training need not pay for tiny levels in every step.
        """
        image, prediction = image[:, :PLANES], image[:, PLANES:] if self.config.prediction else None
        n, _, height, width = image.shape
        shapes = level_shapes(height, width)
        step = steps_of(step_index)
        with torch.set_grad_enabled(train_flow and torch.is_grad_enabled()):
            planes, _ = self.flow.color(image)
            pyramid = [pair for pair, _ in self.flow.levels(planes, step_index)]
        predicted, predicted_pyramid = self.analyse_prediction(prediction, step_index)
        top = len(pyramid) if levels is None else min(levels, len(pyramid))
        ll = pyramid[top - 1][0] if top else planes
        # The single coarsest sample costs a fixed handful of bits in a file and is not modelled.
        ll = straight_through(step * torch.round(ll / step), ll)
        bits, latent_sse = image.new_zeros(n), image.new_zeros(n)
        carried: Tensor | None = None
        for level in range(top, 0, -1):
            detail = pyramid[level - 1][1]
            prior: LevelPrior = self.priors[level_group(level)]  # type: ignore[assignment]
            band_step = step * self.step_multipliers(step_index, level_group(level))
            target = pad_even(detail / band_step)
            inputs = self.prior_inputs(ll, carried, step_index, level)
            mask = pad_even(detail_mask(*shapes[level - 1], image.device))
            expected = None
            if predicted is not None:
                low, expected_detail = predicted_pyramid[level - 1]
                in_steps = pad_even((low - ll.detach()) / step), pad_even(expected_detail / band_step.detach())
                expected = LevelPrediction.of(*in_steps, self.arithmetic)
            result = prior(inputs, target, mask, channel, self.density, expected)
            bits = bits + result.bits
            h, w = detail.shape[2:]
            reconstruction = result.reconstruction[:, :, :h, :w] * band_step
            latent_sse = latent_sse + (reconstruction - detail).square().sum((1, 2, 3))
            with torch.set_grad_enabled(train_flow and torch.is_grad_enabled()):
                ll = self.flow.inverse_level(level, ll, reconstruction, step_index, shapes[level - 1])
            finer_h, finer_w = shapes[level - 1]
            carried = None if result.carried is None else result.carried[:, :, :finer_h, :finer_w]
        restored = self.restore(ll if train_flow else ll.detach(), step_index, predicted)
        reconstruction = self.flow.color.inverse(restored)
        return CodecResult(bits, latent_sse, (reconstruction - image).square().sum((1, 2, 3)), reconstruction)

    @torch.no_grad()
    def analyse_prediction(self, prediction: Tensor | None, step_index: Tensor) -> tuple[Tensor | None, list[Pair]]:
        """RGB (N, 3, H, W) -> its planes, and (ll, detail) of each level, fine to coarse, pixel units; data, not trained."""
        if prediction is None:
            return None, []
        planes, _ = self.flow.color(prediction)
        return planes, [pair for pair, _ in self.flow.levels(planes, step_index)]

    def prior_inputs(self, ll: Tensor, carried: Tensor | None, step_index: Tensor, level: int) -> Tensor:
        """(N, 27, H, W) on an even grid: contrast of the reconstruction so far, carried features, condition."""
        h, w = ll.shape[2:]
        if carried is None:
            carried = ll.new_zeros(len(ll), CARRIED_CHANNELS, h, w)
        planes = [contrast_planes(ll, steps_of(step_index), self.arithmetic), carried, condition_planes(step_index, level, h, w)]
        return pad_even(torch.cat(planes, 1))

    def restore(self, planes: Tensor, step_index: Tensor, prediction: Tensor | None = None) -> Tensor:
        """Planes (N, 3, H, W) in pixel units after the synthesis -> restored planes. ``prediction``: planes of it."""
        h, w = planes.shape[2:]
        step = steps_of(step_index)

        def squeezed(values: Tensor) -> Tensor:
            copies = pad_even(two_ranges(values * (2.0**RESTORATION_GAIN_BITS / step), self.arithmetic))
            return nn.functional.pixel_unshuffle(copies, 2)

        contrast = squeezed(local_contrast(planes))
        inputs = torch.cat([contrast, condition_planes(step_index, 0, *contrast.shape[2:])], 1)
        difference = None if prediction is None else squeezed(prediction - planes)
        return planes + step * self.restoration(inputs, difference)[:, :, :h, :w]
