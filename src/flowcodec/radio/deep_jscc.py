"""Deep JSCC: convolutional encoder and decoder with the link between them, trained end to end. A baseline.

Reference: Bourtsoulatze, Kurka & Gunduz, Deep joint source-channel coding for wireless image transmission, 2019, fig. 2.
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcodec.errors import InputError
from flowcodec.model import checkpoint

_PEAK = 255.0
_DOWN = 4
"""The encoder halves height and width twice."""


class DeepJscc(nn.Module):
    """x -> five 5x5 convolutions -> symbols of power 1 -> y = s + v -> five transposed convolutions -> x_hat.

    ``filters`` c of the last convolution set the uses: k = H W c / 32 complex, i.e. CBR = c / 96.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        if filters < 1:
            raise InputError(f"filters: expected at least 1, found {filters}")
        self.filters = filters
        widths = (3, 16, 32, 32, 32, filters)
        strides = (2, 2, 1, 1, 1)
        encoder: list[nn.Module] = []
        for layer, stride in enumerate(strides):
            encoder.append(nn.Conv2d(widths[layer], widths[layer + 1], 5, stride, padding=2))
            if layer < len(strides) - 1:
                encoder.append(nn.PReLU(widths[layer + 1]))
        self.encoder = nn.Sequential(*encoder)
        widths = (filters, 32, 32, 32, 16, 3)
        decoder: list[nn.Module] = []
        for layer, stride in enumerate(reversed(strides)):
            decoder.append(nn.ConvTranspose2d(widths[layer], widths[layer + 1], 5, stride, padding=2, output_padding=stride - 1))
            decoder.append(nn.PReLU(widths[layer + 1]) if layer < len(strides) - 1 else nn.Sigmoid())
        self.decoder = nn.Sequential(*decoder)

    def send(self, pixels: Tensor) -> Tensor:
        """uint8 or float (N, 3, H, W), 0 ... 255 -> real (N, c, H/4, W/4): mean square exactly 1 for every image."""
        height, width = pixels.shape[2:]
        if height % _DOWN or width % _DOWN:
            raise InputError(f"expected sides that are multiples of {_DOWN}, found {width}x{height}")
        symbols = self.encoder(pixels.float() / _PEAK)
        return symbols / symbols.square().mean((1, 2, 3), keepdim=True).clamp(min=1e-12).sqrt()

    def receive(self, samples: Tensor) -> Tensor:
        """(N, c, H/4, W/4) -> float (N, 3, H, W), 0 ... 255."""
        return self.decoder(samples) * _PEAK

    def forward(self, pixels: Tensor, csnr_db: float, generator: torch.Generator | None = None) -> Tensor:
        """Through AWGN; each real dimension has signal power 1 and noise power 1 / CSNR."""
        symbols = self.send(pixels)
        noise = torch.empty_like(symbols).normal_(generator=generator) * 10 ** (-csnr_db / 20)
        return self.receive(symbols + noise)


def filters_for(cbr: float) -> int:
    """c for complex uses per colour sample. Raises InputError where it is no whole number."""
    filters = 96 * cbr
    if filters < 0.5 or abs(filters - round(filters)) > 1e-9:
        raise InputError(f"cbr: expected a multiple of 1/96 for Deep JSCC, found {cbr}")
    return round(filters)


def train(
    pixels: np.ndarray,
    cbr: float,
    csnr_db: float,
    steps: int,
    batch: int = 64,
    peak_rate: float = 2e-3,
    seed: int = 0,
) -> tuple[DeepJscc, float]:
    """(the model, its mean loss over the last 200 steps) after minimising the squared error by Adam.

    ``pixels``: uint8 (n, 3, H, W). The rate of learning falls along a cosine, for a training far shorter than the paper's.
    """
    torch.manual_seed(seed)
    model = DeepJscc(filters_for(cbr))
    optimizer = torch.optim.Adam(model.parameters(), peak_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, total_steps=steps, pct_start=0.05)
    rng, data = np.random.default_rng(seed), torch.from_numpy(pixels)
    recent: list[float] = []
    for _ in range(steps):
        chosen = data[torch.from_numpy(rng.integers(0, len(data), batch))]
        loss = F.mse_loss(model(chosen, csnr_db), chosen.float())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        recent = [*recent[-199:], loss.item()]
    return model.eval(), math.fsum(recent) / len(recent)


def save(path: Path, model: DeepJscc, facts: dict[str, object]) -> None:
    """Weights with how they were trained."""
    checkpoint.save(path, dict(model.state_dict()), {"filters": model.filters, **facts})


def load(path: Path) -> tuple[DeepJscc, dict[str, object]]:
    """(model, facts). Raises MissingModel, ModelError."""
    tensors, header = checkpoint.load(path)
    model = DeepJscc(int(header["filters"]))
    model.load_state_dict(tensors)
    return model.eval(), header
