"""FlowCodec itself, small, in the rivals' training loop: the same crops, optimiser and number of pixels.

One model for all rates. The channel of training is Gaussian noise, or straight-through rounding to compare with; the wavelet of
the flow stays as it is, levels learn locally. Files are those of the exported model.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flowcodec.errors import InputError
from flowcodec.model.channel import Channel, GaussianNoise, Rounding
from flowcodec.model.codec import FlowCodecModel, ModelConfig
from flowcodec.model.objective import rate_distortion_loss
from flowcodec.runtime.step import step_index


@dataclass(frozen=True)
class FlowConfig:
    channel: str = "gaussian"
    """gaussian | round, in training."""
    step_range: tuple[float, float] = (5.0, 160.0)
    test_step: float = 40.0
    """Delta of the tests on the way, by rounding."""

    def __post_init__(self) -> None:
        if self.channel not in ("gaussian", "round"):
            raise InputError(f"flowcodec: channel: expected gaussian or round, found {self.channel!r}")


SIZES = ModelConfig(widths=(16, 24, 24), blocks=(1, 1, 1), coupling_width=8, restoration_width=8)


class SmallFlow(nn.Module):
    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        self.model = FlowCodecModel(SIZES)
        # Straight through, the bits have no gradient in z, so that steps of bands would shrink without end.
        self.model.log2_multipliers.requires_grad_(config.channel == "gaussian")

    def loss(self, images: Tensor) -> Tensor:
        low, high = (step_index(step) for step in self.config.step_range)
        indices = torch.randint(low, high + 1, (len(images),))
        channel: Channel = GaussianNoise() if self.config.channel == "gaussian" else Rounding()
        result = self.model(images, indices, channel, False)
        return rate_distortion_loss(result, indices, 1.0, False, 1.0)

    @torch.no_grad()
    def evaluate(self, images: Tensor) -> tuple[float, float]:
        """(squared error, estimated bits) per pixel at the test step."""
        indices = torch.full((len(images),), step_index(self.config.test_step))
        result = self.model(images, indices, Rounding(), False)
        pixels = images[:, 0].numel()
        return float(result.image_sse.sum()) / pixels, float(result.bits.sum()) / pixels
