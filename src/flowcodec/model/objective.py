"""The objective: distortion + beta * KL, normalised so that all rates weigh alike."""

import math

import torch
from torch import Tensor

from flowcodec.model.codec import CodecResult
from flowcodec.model.flow import steps_of

BIT_PRICE = math.log(2) / 6
"""Squared steps per bit at high rate: -dD/dR of D = Delta^2 / 12 at one bit for each halving of Delta (6 dB)."""

_BALANCE_CENTRE = 16.0


def rate_distortion_loss(
    result: CodecResult, step_index: Tensor, beta: float, train_flow: bool, restoration_weight: float, balance: float = 0.0
) -> Tensor:
    """mean over images of (Delta / 16)^balance * (SSE / Delta^2 + beta * (ln 2 / 6) * bits) / pixels; a scalar.

    With ``balance`` 0 an image weighs by its bits, with about 0.75 a percent of the bits weighs alike at all rates.

    With the flow in training the error is that of the restored image. Without, the prior learns from the latent's error and the
    restoration from the image's, weighted by ``restoration_weight``.
    """
    pixels = result.reconstruction[0, 0].numel()
    distortion = result.image_sse if train_flow else result.latent_sse + restoration_weight * result.image_sse
    step = steps_of(step_index).view(-1)
    weight = (step / _BALANCE_CENTRE) ** balance
    return (weight * (distortion / step.square() + beta * BIT_PRICE * result.bits) / pixels).mean()


def psnr_db(image_sse: Tensor, pixels: int) -> Tensor:
    """PSNR of RGB images from their squared errors (N,)."""
    return 10 * torch.log10(255**2 * 3 * pixels / image_sse.clamp(min=1e-9))
