"""ST-LPIPS: a perceptual distance from AlexNet features that forgives small shifts.

d(a, b) = sum over 5 layers of mean_pixels w . (f_a / |f_a| - f_b / |f_b|)^2, with learned weights w >= 0 per channel.
The weights are those that the package stlpips-pytorch ships; the network is written here, since the package's own code asks for
three packages that this one does not need. Not LPIPS: the two scales of values are not to be compared.
Reference: Ghildyal and Liu, Shift-tolerant perceptual similarity metric, 2022.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcodec.errors import InputError

_WEIGHTS = "weights/vST0.0/alex_shift_tolerant.pth"
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_CONVOLUTIONS = ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")
_PADDING = (2, 2, 1, 1, 1)


class StLpips(nn.Module):
    """(N, 3, H, W) twice, in [-1, 1], sides of 16 and more -> (N,); 0 for equal pictures."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.weights = dict(weights)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.distance(self.features(a), self.features(b))

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Of what ``features`` gives: (N,)"""
        total = torch.zeros(len(a[0]))
        for layer, (f, g) in enumerate(zip(a, b, strict=True)):
            total = total + F.conv2d((f - g) ** 2, self.weights[f"lin{layer}.model.1.weight"]).mean(dim=(1, 2, 3))
        return total

    def features(self, x: Tensor) -> list[Tensor]:
        """Output of each of the five layers, of unit length at each pixel."""
        x = (x - torch.tensor(_SHIFT)[:, None, None]) / torch.tensor(_SCALE)[:, None, None]
        features = []
        for layer, (name, padding) in enumerate(zip(_CONVOLUTIONS, _PADDING, strict=True)):
            if layer in (1, 2):
                x = _blur_and_halve(F.max_pool2d(x, 3, stride=1))
            x = F.conv2d(x, self.weights[f"net.{name}.weight"], self.weights[f"net.{name}.bias"], padding=padding)
            x = F.relu(_blur_and_halve(x) if layer == 0 else x)
            features.append(_unit(x))
        return features


def load() -> StLpips:
    """Raises InputError where the package with the weights is missing."""
    found = find_spec("stlpips_pytorch")
    if found is None or found.origin is None:
        raise InputError("ST-LPIPS: needs the weights in the package stlpips-pytorch: pip install --no-deps stlpips-pytorch")
    weights = torch.load(Path(found.origin).parent / _WEIGHTS, map_location="cpu", weights_only=True)
    return StLpips(weights).eval()


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _blur_and_halve(x: Tensor) -> Tensor:
    """Binomial 3x3 at every second sample, two mirrored samples around."""
    taps = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (taps[:, None] * taps)[None, None].repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])
