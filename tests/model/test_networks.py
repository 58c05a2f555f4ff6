"""Fixed arithmetic computes the decoder's integers exactly, within 24 bits, and stays near the float arithmetic it stands for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcodec.model.networks import (
    ACTIVATION_LIMIT,
    Arithmetic,
    FixedConv2d,
    ResidualBlock,
    clip,
    merge_phases,
    phase_of,
    rectify,
)
from flowcodec.runtime.context import PHASES
from flowcodec.runtime.integer import ACCUMULATOR_LIMIT, ACTIVATION_MAX, FRACTION_BITS

UNIT = 1 << FRACTION_BITS
LAYERS = [(3, 4, 1, 6), (20, 5, 3, 6), (27, 8, 3, 6), (6, 7, 5, 6), (9, 6, 1, 2)]
"""(inputs, outputs, kernel size, fractional bits of the output)"""


def random_conv(inputs: int, outputs: int, size: int, out_bits: int, seed: int = 0, bias: float = 1.0) -> FixedConv2d:
    torch.manual_seed(seed)
    conv = FixedConv2d(inputs, outputs, size, Arithmetic(fixed=True), out_bits=out_bits)
    with torch.no_grad():
        conv.bias.copy_(bias * torch.randn(outputs))
    return conv


def random_activations(channels: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Integers of the format, extremes among them."""
    random = np.random.default_rng(seed)
    x = random.integers(-ACTIVATION_MAX, ACTIVATION_MAX + 1, (2, channels, height, width))
    x[0] = np.sign(x[0]) * ACTIVATION_MAX
    return x


def to_tensor(integers: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(integers / UNIT).float()


def integer_parameters(conv: FixedConv2d) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(weights (C_out, C_in, k, k), biases with the half of the rounding, shifts (C_out,)) as the decoder holds them, int64.

    From the float parameters in float64: round(w * 2^shift) and round((b + half) * 2^(shift + 6)).
    """
    shift = conv.shift().detach().numpy().astype(np.int64)
    unit = 2.0**shift
    weight = np.rint(conv.weight.detach().double().numpy() * unit[:, None])
    # float32 as the model adds it; the scaling by a power of two is exact.
    bias = np.rint((conv.bias.detach() + 0.5 / (1 << conv.out_bits)).double().numpy() * unit * UNIT)
    return weight.astype(np.int64).reshape(conv.outputs, conv.inputs, conv.size, conv.size), bias.astype(np.int64), shift


def integer_conv(conv: FixedConv2d, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(outputs in 2^-out_bits units, accumulators), int64 throughout; zero padding."""
    weight, bias, shift = integer_parameters(conv)
    r = conv.size // 2
    padded = np.pad(x, ((0, 0), (0, 0), (r, r), (r, r)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (conv.size, conv.size), (2, 3))
    total = np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]
    return total >> (shift + FRACTION_BITS - conv.out_bits)[:, None, None], total


# --- exactness ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("scale", [0.02, 1.0, 30.0])
def test_fixed_arithmetic_equals_an_int64_convolution(layer: tuple[int, int, int, int], scale: float) -> None:
    conv = random_conv(*layer)
    with torch.no_grad():
        conv.weight.mul_(scale)
    x = random_activations(layer[0], 9, 7)
    expected, total = integer_conv(conv, x)
    assert np.abs(total).max() < ACCUMULATOR_LIMIT
    y = conv(to_tensor(x)).detach().double().numpy() * (1 << conv.out_bits)
    assert np.array_equal(y, expected)


def test_outputs_are_integers_of_the_format() -> None:
    conv = random_conv(20, 5, 3, FRACTION_BITS)
    y = conv(to_tensor(random_activations(20, 6, 6))) * UNIT
    assert torch.equal(y, y.round())
    conv.arithmetic.fixed = False
    y = conv(to_tensor(random_activations(20, 6, 6))) * UNIT
    assert not torch.equal(y, y.round())


@pytest.mark.parametrize("out_bits", [6, 2])
@pytest.mark.parametrize("bias", [1e-3, 0.01, 0.1, 3.0])
def test_fixed_parameters_lie_on_their_grids(out_bits: int, bias: float) -> None:
    """Exactly: a bias off by one in the last place of float32 floors to another integer where a sum is zero."""
    conv = random_conv(9, 2000, 1, out_bits, bias=bias)
    weight, fixed_bias = (p.detach().double().numpy() for p in conv.fixed_parameters())
    expected_weight, expected_bias, shift = integer_parameters(conv)
    assert np.array_equal(weight * 2.0 ** shift[:, None], expected_weight.reshape(2000, 9))
    off = np.count_nonzero(fixed_bias * 2.0**shift * UNIT != expected_bias)
    assert off == 0, f"{off} of {len(expected_bias)} biases are off their grid"


def test_a_sum_that_cancels_is_floored_to_zero() -> None:
    """y = w*x + b with w*x = -b on the grids. Float32 may add a bias inexactly to a half of the other sign."""
    conv = random_conv(1, 4000, 1, FRACTION_BITS)
    with torch.no_grad():
        conv.bias.uniform_(-0.0078, -0.001)
        conv.weight.zero_()
    _, bias, shift = integer_parameters(conv)
    assert np.all(shift == shift[0])
    with torch.no_grad():
        # An input of one unit, 1/64, meets a weight of -64 times the rounded bias.
        conv.weight.copy_(torch.from_numpy(-bias / 2.0 ** shift[0]).float()[:, None])
    assert np.array_equal(integer_parameters(conv)[2], shift)
    x = np.ones((1, 1, 1, 1), np.int64)
    expected, total = integer_conv(conv, x)
    assert not total.any() and not expected.any()
    y = conv(to_tensor(x)).detach() * UNIT
    assert torch.equal(y, torch.zeros_like(y)), f"{int((y != 0).sum())} of {y.numel()} outputs are off by one"


# --- the bound ------------------------------------------------------------------------------------------------------------


def largest_sum(conv: FixedConv2d) -> int:
    """max over channels of sum|w|*1023 + |b|, in integers."""
    weight, bias, _ = integer_parameters(conv)
    return int((np.abs(weight).sum((1, 2, 3)) * ACTIVATION_MAX + np.abs(bias)).max())


@settings(deadline=None, max_examples=150, database=None)
@given(
    inputs=st.sampled_from([1, 3, 9, 36, 128]),
    size=st.sampled_from([1, 3, 5]),
    out_bits=st.sampled_from([2, 6]),
    log2_weight=st.floats(-20, 8),
    log2_bias=st.floats(-20, 10),
    seed=st.integers(0, 2**31),
    shape=st.sampled_from(["normal", "equal", "halves", "one"]),
)
def test_every_sum_stays_below_24_bits(
    inputs: int, size: int, out_bits: int, log2_weight: float, log2_bias: float, seed: int, shape: str
) -> None:
    """Weights normal, all equal, all a half above the grid (which rounds every one of them up), and a single large one."""
    conv = random_conv(inputs, 3, size, out_bits, seed)
    with torch.no_grad():
        if shape == "equal":
            conv.weight.fill_(1)
        elif shape == "one":
            conv.weight.zero_()[:, 0] = 1
        conv.weight.mul_(2.0**log2_weight)
        conv.bias.fill_(2.0**log2_bias)
        if shape == "halves":
            unit = torch.exp2(conv.shift())[:, None]
            conv.weight.copy_((2 * torch.floor(conv.weight.abs() * unit / 2) + 1.5) / unit)
    assert largest_sum(conv) < ACCUMULATOR_LIMIT


@pytest.mark.parametrize("exponent", range(-2, 10))
@pytest.mark.parametrize("below", [0.0, 1e-7, 1e-5, 1e-3, -1e-7, -1e-5])
def test_the_bound_holds_where_the_shift_changes(exponent: int, below: float) -> None:
    """Weights chosen so that the room is a power of two, or just beside it, where log2 in float32 may round to the wrong side."""
    conv = random_conv(30, 1, 3, FRACTION_BITS)
    with torch.no_grad():
        conv.bias.zero_()
        reach = (ACCUMULATOR_LIMIT - 1 - 270 * 0.5 * ACTIVATION_MAX - 2) / 2.0**exponent - UNIT
        conv.weight.fill_(reach * (1 + below) / ACTIVATION_MAX / 270)
    assert largest_sum(conv) < ACCUMULATOR_LIMIT
    assert largest_sum(conv) > ACCUMULATOR_LIMIT / 4


@pytest.mark.parametrize(("inputs", "size", "units"), [(1041, 3, 1.5), (317, 3, 5.5), (37, 5, 17.5), (66, 3, 27.5)])
def test_the_bound_holds_where_rounding_carries_the_weights_over_it(inputs: int, size: int, units: float) -> None:
    """All weights a half above the grid, in a layer whose sum is below 2^24 before they are rounded up and above it after."""
    conv = random_conv(inputs, 1, size, FRACTION_BITS)
    count = inputs * size * size
    assert count * units * ACTIVATION_MAX < ACCUMULATOR_LIMIT < count * (units + 0.5) * ACTIVATION_MAX
    for shift in (3, 8):
        with torch.no_grad():
            conv.weight.fill_(units / 2.0**shift)
            conv.bias.zero_()
        assert largest_sum(conv) < ACCUMULATOR_LIMIT


def test_the_shift_wastes_at_most_one_bit_of_the_accumulator() -> None:
    """The largest shift for which the bound holds: with one more it would break, slack aside."""
    conv = random_conv(36, 5, 3, FRACTION_BITS)
    with torch.no_grad():
        conv.weight.mul_(10)
    assert largest_sum(conv) > 0.4 * ACCUMULATOR_LIMIT


def test_extreme_inputs_reach_the_bound_exactly() -> None:
    """The sum of the bound is attained by the inputs of the weights' signs, and the convolution is still exact there."""
    conv = random_conv(36, 4, 3, FRACTION_BITS)
    with torch.no_grad():
        conv.weight.mul_(10)
    weight, _, _ = integer_parameters(conv)
    for channel in range(4):
        for sign in (-1, 1):
            x = sign * np.sign(weight[channel])[None] * ACTIVATION_MAX
            expected, total = integer_conv(conv, x)
            assert np.abs(total).max() > 0.4 * ACCUMULATOR_LIMIT
            assert np.array_equal(conv(to_tensor(x)).detach().double().numpy() * UNIT, expected)


# --- closeness and gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_fixed_stays_close_to_float(layer: tuple[int, int, int, int]) -> None:
    """Never off by more than the roundings of output, weights (at the largest input) and bias; 1 % of a usual output."""
    conv = random_conv(*layer)
    for x in (to_tensor(random_activations(layer[0], 9, 7)), torch.round(torch.randn(2, layer[0], 9, 7) * UNIT) / UNIT):
        with torch.no_grad():
            conv.arithmetic.fixed = True
            fixed = conv(x)
            conv.arithmetic.fixed = False
            plain = conv(x)
        weight_unit = 2.0 ** -conv.shift().min().item()
        output_unit = 1 / (1 << conv.out_bits)
        limit = 0.5 * output_unit + 0.5 * weight_unit * (ACTIVATION_LIMIT * conv.weight.shape[1] + 1)
        difference = fixed - plain
        assert difference.abs().max() <= limit
        assert difference.std() < 0.01 * plain.std() + 0.5 * output_unit


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_outputs_are_rounded_and_not_floored(layer: tuple[int, int, int, int]) -> None:
    """With parameters on their grids the outputs' rounding is all that is left: half a unit at most, and none on average."""
    conv = random_conv(*layer)
    shift = conv.shift().detach()
    with torch.no_grad():
        conv.weight.copy_(conv.fixed_parameters()[0])
        conv.bias.copy_(torch.round(conv.bias * torch.exp2(shift)) / torch.exp2(shift))
    assert torch.equal(conv.shift(), shift)
    x = to_tensor(random_activations(layer[0], 24, 24)[1:])
    with torch.no_grad():
        fixed = conv(x)
        conv.arithmetic.fixed = False
        units = (fixed - conv(x)) * (1 << conv.out_bits)
    assert units.abs().max() <= 0.5
    assert abs(units.mean().item()) < 0.05


def test_gradients_pass_straight_through() -> None:
    """Those of the fixed layer are those of a plain convolution with the fixed weights."""
    conv = random_conv(3, 4, 3, FRACTION_BITS)
    x = to_tensor(random_activations(3, 5, 5)).requires_grad_()
    direction = torch.randn(2, 4, 5, 5)
    conv(x).backward(direction)
    weight = conv.fixed_parameters()[0].detach().view(4, 3, 3, 3).requires_grad_()
    twin = x.detach().clone().requires_grad_()
    torch.nn.functional.conv2d(twin, weight, padding=1).backward(direction)
    assert x.grad is not None and twin.grad is not None and weight.grad is not None and conv.weight.grad is not None
    assert torch.allclose(x.grad, twin.grad, atol=1e-5)
    assert torch.allclose(conv.weight.grad, weight.grad.view(4, -1), atol=1e-3)
    assert conv.bias.grad is not None and torch.allclose(conv.bias.grad, direction.sum((0, 2, 3)), atol=1e-4)


def test_the_arithmetic_is_shared_and_blocks_keep_the_format() -> None:
    arithmetic = Arithmetic()
    block = ResidualBlock(6, 3, arithmetic)
    x = to_tensor(random_activations(6, 5, 5))
    arithmetic.fixed = True
    y = block(x) * UNIT
    assert torch.equal(y, y.round()) and y.abs().max() <= ACTIVATION_MAX


def test_clips_are_those_of_the_format() -> None:
    x = torch.tensor([-1e6, -ACTIVATION_LIMIT, -0.5, 0.0, 0.5, 1e6])
    assert (clip(x) * UNIT).tolist() == [-1023, -1023, -32, 0, 32, 1023]
    assert (rectify(x) * UNIT).tolist() == [0, 0, 0, 0, 32, 1023]


# --- phases ---------------------------------------------------------------------------------------------------------------


def test_phases_partition_the_grid() -> None:
    """Each holds the sites of its row and column parity; together all sites once."""
    y, x = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
    sites = [phase_of(torch.stack([y, x])[None].float(), phase) for phase in range(4)]
    for (row, column), found in zip(PHASES, sites, strict=True):
        assert found.shape == (1, 2, 2, 3)
        assert torch.all(found[:, 0] % 2 == row) and torch.all(found[:, 1] % 2 == column)
    assert len({tuple(site) for found in sites for site in found[0].permute(1, 2, 0).reshape(-1, 2).tolist()}) == 24


def test_merging_undoes_the_phases() -> None:
    x = torch.randn(3, 5, 6, 8)
    phases = [phase_of(x, phase) for phase in range(4)]
    assert torch.equal(merge_phases(phases), x)
    assert not torch.equal(merge_phases(phases[::-1]), x)
