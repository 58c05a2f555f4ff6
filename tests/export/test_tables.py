"""Tables from a density and from counts: what a quantiser and its code cost on the values they were made for."""

import numpy as np
import pytest
import torch

from flowcodec.export.statistics import BINS, count_latents
from flowcodec.export.tables import build_tables
from flowcodec.model.codec import FlowCodecModel, ModelConfig
from flowcodec.runtime.channel import SCALE_BITS, SCALE_LOG2_FIRST, Rounding

SCALE = 24
DEVIATION = 2 ** (SCALE / (1 << SCALE_BITS) + SCALE_LOG2_FIRST)


@pytest.fixture(scope="module")
def network() -> FlowCodecModel:
    torch.manual_seed(0)
    return FlowCodecModel(ModelConfig((4, 4, 4), (1, 1, 1), 4, 4)).eval()


def laplacian(count: int, seed: int) -> np.ndarray:
    """Values in 1/64 step of the deviation that a scale index stands for, with heavier tails than the untrained density."""
    return np.random.default_rng(seed).laplace(scale=64 * DEVIATION / 2**0.5, size=count)


def counts_of(values: np.ndarray) -> np.ndarray:
    counts = np.zeros((2, 128, BINS), np.int64)
    counts[0, SCALE] = np.bincount(np.abs(values).astype(int), minlength=BINS)[:BINS]
    return counts


def cost(network: FlowCodecModel, counts: np.ndarray | None, values: np.ndarray) -> tuple[float, float]:
    """(bits, squared error) a value under the tables made with these counts."""
    tables, channels = build_tables(network, 0.7, counts)
    scales = np.full(len(values), SCALE)
    rounding = Rounding(channels)
    symbols = rounding.quantise(values, 0, scales, (0, 0))
    error = np.square((rounding.reconstruct(symbols, 0, scales, (0, 0)) - values) / 64).mean()
    reach = tables.reach[SCALE]
    return tables.bits(SCALE, np.clip(symbols, -reach, reach) + reach) / len(values), float(error)


def test_counts_make_the_code_fit_what_was_counted(network: FlowCodecModel) -> None:
    """On fresh values of the counted distribution: fewer bits than the learned density, and D + lambda R lower."""
    fresh = laplacian(100_000, 1)
    bits, error = cost(network, counts_of(laplacian(200_000, 0)), fresh)
    plain_bits, plain_error = cost(network, None, fresh)
    assert bits < plain_bits
    price = 0.7 * np.log(2) / 6
    assert error + price * bits < 0.995 * (plain_error + price * plain_bits)


def test_a_few_counts_move_the_tables_little(network: FlowCodecModel) -> None:
    """Ten observations against the weight of the learned density: the code changes by less than a tenth of a percent."""
    fresh = laplacian(50_000, 1)
    assert cost(network, counts_of(laplacian(10, 2)), fresh)[0] == pytest.approx(cost(network, None, fresh)[0], rel=1e-3)


def test_all_coefficients_are_counted_once(network: FlowCodecModel) -> None:
    """A 32x32 image has 3 * (1024 - 1) details and 27 padded places at its coarsest level; three steps count them all."""
    image = np.random.default_rng(0).integers(100, 156, (32, 32, 3), dtype=np.uint8)
    counts = count_latents(network, [image])
    assert counts.sum() == 3 * (3 * 1023 + 27)
    assert counts[0].sum() == counts[1].sum() / 2
    assert not network.arithmetic.fixed
