"""Fits the tables of the channel ``trellis``: ``python scripts/fit_trellis.py [WEIGHTS] [OUT.npz]`` (needs the extra 'train').

Coefficients are drawn from the learned density of the weights, of all scales alike; the encoder's own search
chooses their symbols, under tables counted in the round before. What few samples leave open is taken from the cells of the two
quantisers without a choice of path. The result are constants of the format: another fit would be another format.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from flowcodec.export.tables import table_of_masses
from flowcodec.model import checkpoint
from flowcodec.model.density import KINDS, ScaleMixture
from flowcodec.runtime import trellis
from flowcodec.runtime.channel import SCALE_BITS, SCALE_LOG2_FIRST
from flowcodec.runtime.coder import Tables
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.trellis import FINE_STEP, FIRST_SCALE, NEAR, SCALE_END, TrellisTables

ROOT = Path(__file__).parents[1]
ROUNDS, CHUNK = 5, 1 << 20
"""The last round has four chunks of coefficients of each kind, the others one."""
PRIOR_COUNT = 300
CELLS = 1 << 11
LEAST_SEEN = 100
"""Symbols below which a reconstruction stays in the middle."""
SCALES = SCALE_END - FIRST_SCALE


def log2_scales(indices: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(indices / (1 << SCALE_BITS) + SCALE_LOG2_FIRST)


def cells(density: ScaleMixture) -> np.ndarray:
    """(2, scales, 2, CELLS + 1) mass of the cells about the points of either quantiser, by magnitude; that of both signs."""
    masses = np.zeros((KINDS, SCALES, 2, CELLS + 1))
    for kind in range(KINDS):
        for scale in range(SCALES):
            for quantiser in range(2):
                points = 2.0 * np.arange(CELLS + 2) - quantiser
                points[0] = 0
                edges = np.concatenate([[0], (points[1:] + points[:-1]) / 2]) * FINE_STEP / (1 << FRACTION_BITS)
                where = log2_scales(np.full(CELLS + 1, scale + FIRST_SCALE, np.float64))
                mass, _ = density.cell(torch.from_numpy(edges[:-1]), torch.from_numpy(edges[1:]), where, kind)
                masses[kind, scale, quantiser] = 2 * mass.numpy()
    return masses


def freeze(masses: np.ndarray, centroids: np.ndarray) -> TrellisTables:
    tables = []
    for mass in masses.reshape(-1, masses.shape[-1]):
        tables.append(table_of_masses(np.concatenate([mass[:0:-1] / 2, mass[:1], mass[1:] / 2])))
    starts = np.concatenate([[0], np.cumsum([len(table) for table in tables])]).astype(np.int64)
    return TrellisTables(Tables(np.concatenate(tables), starts, np.zeros(len(tables), np.int64)), centroids)


def draw(density: ScaleMixture, kind: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(values in 1/64 step, scale indices) in the order of a chunk."""
    scales = np.sort(generator.integers(FIRST_SCALE, SCALE_END, CHUNK))
    log_weights, deviations = density.components(log2_scales(scales.astype(np.float64)), kind)
    shares = log_weights.exp().cumsum(0).numpy()
    component = np.minimum((generator.random(len(scales)) > shares).sum(0), len(shares) - 1)
    deviation = np.take_along_axis(deviations.numpy(), component[None], 0)[0]
    return generator.standard_normal(len(scales)) * deviation * (1 << FRACTION_BITS), scales


def fit(density: ScaleMixture) -> TrellisTables:
    generator = np.random.default_rng(0)
    prior = cells(density)
    middle = 2 * FINE_STEP * np.arange(NEAR + 1)[None] - FINE_STEP * np.arange(2)[:, None]
    middle[:, 0] = 0
    middles = np.broadcast_to(middle, (KINDS, SCALES, 2, NEAR + 1)).astype(np.int32)
    constants = freeze(prior, middles)
    for number in range(ROUNDS):
        counts, sums = np.zeros(prior.shape), np.zeros(prior.shape)
        for kind in range(KINDS):
            for _ in range(4 if number == ROUNDS - 1 else 1):
                values, scales = draw(density, kind, generator)
                symbols = trellis.search(values, 2 * (kind * SCALES + scales - FIRST_SCALE), constants)
                magnitudes = np.minimum(np.abs(symbols), CELLS)
                place = (scales - FIRST_SCALE, trellis.quantisers(symbols), magnitudes)
                np.add.at(counts[kind], place, 1)
                np.add.at(sums[kind], place, np.abs(values))
        totals = counts.sum(-1, keepdims=True)
        masses = (counts + PRIOR_COUNT * prior) / (totals + PRIOR_COUNT)
        means = (sums / np.maximum(counts, 1))[..., : NEAR + 1]
        centroids = np.where(counts[..., : NEAR + 1] >= LEAST_SEEN, np.rint(means), middles).astype(np.int32)
        centroids[..., 0] = 0
        constants = freeze(masses, centroids)
    return constants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="?", default=ROOT / "weights" / "default.safetensors")
    parser.add_argument("out", type=Path, nargs="?", default=trellis.DATA)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network, _ = checkpoint.load_model(arguments.weights)
    density = network.density.double().requires_grad_(False)
    constants = fit(density)
    np.savez_compressed(
        arguments.out,
        frequencies=constants.tables.frequencies,
        starts=constants.tables.starts,
        centroids=constants.centroids.astype(np.int16),
    )


if __name__ == "__main__":
    main()
