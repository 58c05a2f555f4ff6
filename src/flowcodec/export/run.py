"""``flowcodec export``: build the model file, prove its bounds, measure what the integers cost."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowcodec.export.graph import build_graphs, decoder_kmac_per_pixel
from flowcodec.export.statistics import count_latents
from flowcodec.export.tables import RATE_WEIGHT, build_step_multipliers, build_tables
from flowcodec.model import checkpoint
from flowcodec.model.channel import GaussianNoise
from flowcodec.model.codec import FlowCodecModel
from flowcodec.model.objective import BIT_PRICE, rate_distortion_loss
from flowcodec.runtime.bundle import write_model
from flowcodec.runtime.step import step_index

Report = Callable[[dict[str, Any]], None]
LOSS_STEPS = (5.0, 14.0, 40.0, 110.0)
"""Quantiser steps at which the integer model is compared with the float one."""


@torch.no_grad()
def integer_loss(
    model: FlowCodecModel, reference: FlowCodecModel, images: Sequence[np.ndarray], step: float, indices: Sequence[int] = ()
) -> dict[str, float]:
    """Rate lost by the integers at one step, or at ``indices``, one for each image: both models see the same images and noise.

    ``rate_lost_percent`` is the difference of the objectives over the price of the reference's bits, so that a picture made
    worse counts like the bits that would mend it.
    """
    totals = {"float": np.zeros(2), "integer": np.zeros(2)}
    for name, network, fixed in (("float", reference, False), ("integer", model, True)):
        before, network.arithmetic.fixed = network.arithmetic.fixed, fixed
        for number, image in enumerate(images):
            batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float()
            index = torch.tensor([indices[number] if indices else step_index(step)])
            result = network(batch, index, GaussianNoise(torch.Generator().manual_seed(0)))
            pixels = batch[0, 0].numel()
            loss = rate_distortion_loss(result, index, 1.0, True, 0.0).item()
            totals[name] += np.array([loss, result.bits.item() / pixels]) / len(images)
        network.arithmetic.fixed = before
    (float_loss, float_bpp), (fixed_loss, fixed_bpp) = totals["float"], totals["integer"]
    lost = 100 * (fixed_loss - float_loss) / (BIT_PRICE * float_bpp)
    return {"step": step, "float_kl_bpp": float(float_bpp), "integer_kl_bpp": float(fixed_bpp), "rate_lost_percent": float(lost)}


def export_model(
    source: Path,
    target: Path,
    report: Report,
    images: Sequence[np.ndarray] = (),
    reference: Path | None = None,
    counted: Sequence[np.ndarray] = (),
    indices: tuple[Sequence[int], Sequence[int]] = ((), ()),
) -> dict[str, Any]:
    """Writes the model file of a checkpoint. Reports a row for each layer's bound and for each step's loss; returns the card.

    ``reference``: the checkpoint in float to compare with, where ``source`` has been trained with integers in the loop.
    ``images`` measure the loss, ``counted`` (training photographs of 2^n pixels a side) give the tables their shape. For a
    model of P-frames both are pairs (H, W, 6), and ``indices`` their steps, of the first and of the second.
    Raises MissingModel, ModelError.
    """
    model, header = checkpoint.load_model(source)
    graphs, info, proofs = build_graphs(model)
    for proof in proofs:
        report(
            {
                "event": "bound",
                "graph": proof.graph,
                "layer": proof.layer,
                "bound": proof.bound,
                "of_limit": proof.bound / (1 << 24),
            }
        )
    if model.config.prediction and not indices[0]:
        images, counted = (), ()  # photographs say nothing of P-frames
    losses = []
    if images:
        float_model = checkpoint.load_model(reference)[0] if reference else model
        for step in (0.0,) if model.config.prediction else LOSS_STEPS:
            losses.append(integer_loss(model, float_model, images, step, indices[0]))
            report({"event": "loss", **losses[-1]})
    counts = count_latents(model, counted, RATE_WEIGHT, indices[1]) if counted else None
    tables, channels = build_tables(model, RATE_WEIGHT, counts)
    card = {
        "name": target.stem,
        "licence": "Apache-2.0",
        "training": {"config": header["config"], "steps": header["step"], "pixels_seen": header["pixels_seen"]},
        "prediction": model.config.prediction,
        "parameters": sum(p.numel() for p in model.parameters()),
        "kmac_per_pixel": round(decoder_kmac_per_pixel(proofs), 2),
        "largest_sum": max(proof.bound for proof in proofs),
        "rate_lost_percent": [round(row["rate_lost_percent"], 3) for row in losses],
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    model_id = write_model(target, card, graphs, info, build_step_multipliers(model), tables, channels)
    return card | {"id": model_id.hex(), "size_bytes": target.stat().st_size}
