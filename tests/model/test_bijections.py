"""Every bijection: inverse(forward(x)) = x, and logdet = log|det| of the Jacobian that autograd finds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from flowcodec.model.bijections import ColorRotation, Lifting
from flowcodec.model.coupling import AdditiveCoupling
from flowcodec.model.flow import MultiscaleFlow, condition_planes, detail_mask, steps_of
from flowcodec.model.networks import Arithmetic
from flowcodec.runtime.color import rgb_to_ycc
from flowcodec.runtime.flow import analyse_level, level_shapes

Size = tuple[int, int]
Tensors = list[Tensor]
STEP_INDEX = torch.tensor([150])
ODD_SIZES = [(1, 1), (1, 5), (3, 4), (5, 5)]
# Pixels span 255, so the promised 1e-4 of the pixel scale is 0.0255 grey levels. Latents of these sizes reach 255*sqrt(3)*2^3 =
# 3500, where float32 resolves 2.4e-4, and a few dozen roundings later 3e-3 is what a sound inverse needs. In float64 it is 1e-9,
# with the colours 5e-5, since their matrix is held in float32 and orthonormal to 1e-7.
SINGLE, DOUBLE, DOUBLE_WITH_COLOR = 3e-3, 1e-9, 5e-5
assert max(SINGLE, DOUBLE, DOUBLE_WITH_COLOR) < 1e-4 * 255


@dataclass(frozen=True)
class Case:
    """A bijection for planes of one size, as maps between lists of tensors, with the places that exist in each of them."""

    forward: Callable[[Tensors], tuple[Sequence[Tensor], Tensor]]
    inverse: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    inputs: Tensors
    outputs: Tensors
    """Boolean masks (C, h, w)."""


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Random weights everywhere, the layers that start at zero too: He scaled, so that corrections reach a few steps."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.3
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


def everywhere(channels: int, height: int, width: int) -> Tensor:
    return torch.ones(channels, height, width, dtype=torch.bool)


def latent_places(height: int, width: int) -> Tensors:
    """(ll, detail) masks of one level."""
    return [everywhere(3, (height + 1) // 2, (width + 1) // 2), detail_mask(height, width).bool()]


def color_rotation(size: Size, dtype: torch.dtype) -> Case:
    module = ColorRotation().to(dtype)
    places = [everywhere(3, *size)]

    def forward(x: Tensors) -> tuple[Tensors, Tensor]:
        y, logdet = module(x[0])
        return [y], logdet

    return Case(forward, lambda y: [module.inverse(y[0])], places, places)


def lifting(size: Size, dtype: torch.dtype) -> Case:
    module = Lifting().to(dtype)
    return Case(
        lambda x: module(x[0]), lambda y: [module.inverse((y[0], y[1]), size)], [everywhere(3, *size)], latent_places(*size)
    )


def additive_coupling(size: Size, dtype: torch.dtype) -> Case:
    module = AdditiveCoupling(6, Arithmetic()).to(dtype)
    randomise(module)
    places = latent_places(*size)
    arguments = steps_of(STEP_INDEX), condition_planes(STEP_INDEX, 1, *places[0].shape[1:]), detail_mask(*size)
    return Case(lambda x: module((x[0], x[1]), *arguments), lambda y: module.inverse((y[0], y[1]), *arguments), places, places)


def multiscale_flow(size: Size, dtype: torch.dtype) -> Case:
    module = MultiscaleFlow(6, Arithmetic()).to(dtype)
    randomise(module)
    details = [detail_mask(*shape).bool() for shape in reversed(level_shapes(*size)[:-1])]
    return Case(
        lambda x: module(x[0], STEP_INDEX),
        lambda z: [module.inverse(list(z), STEP_INDEX, size)],
        [everywhere(3, *size)],
        [everywhere(3, 1, 1), *details],
    )


BIJECTIONS = [color_rotation, lifting, additive_coupling, multiscale_flow]


def flatten(tensors: Sequence[Tensor], places: Tensors) -> Tensor:
    return torch.cat([tensor[0][mask] for tensor, mask in zip(tensors, places, strict=True)])


def spread(flat: Tensor, places: Tensors) -> Tensors:
    """Inverse of ``flatten``: zeros in the places that do not exist."""
    parts = flat.split([int(mask.sum()) for mask in places])
    return [flat.new_zeros(mask.shape).masked_scatter(mask, part)[None] for mask, part in zip(places, parts, strict=True)]


def pixel_values(places: Tensors, dtype: torch.dtype, seed: int = 0) -> Tensor:
    count = sum(int(mask.sum()) for mask in places)
    return 255 * torch.rand(count, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("size", [*ODD_SIZES, (2, 2), (7, 6), (17, 23)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("build", BIJECTIONS, ids=lambda build: build.__name__)
def test_the_inverse_undoes_the_forward_map(build: Callable[[Size, torch.dtype], Case], size: Size, dtype: torch.dtype) -> None:
    case = build(size, dtype)
    x = pixel_values(case.inputs, dtype)
    with torch.no_grad():
        y, _ = case.forward(spread(x, case.inputs))
        back = case.inverse(y)
    assert [tensor.shape[1:] for tensor in y] == [mask.shape for mask in case.outputs]
    double = DOUBLE_WITH_COLOR if build in (color_rotation, multiscale_flow) else DOUBLE
    assert (flatten(back, case.inputs) - x).abs().max() < (SINGLE if dtype == torch.float32 else double)


@pytest.mark.parametrize("size", ODD_SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("build", BIJECTIONS, ids=lambda build: build.__name__)
def test_logdet_is_that_of_the_jacobian(build: Callable[[Size, torch.dtype], Case], size: Size) -> None:
    """In float64, on the square part: the samples that exist on both sides; the places that do not are zero and stay so."""
    case = build(size, torch.float64)
    x = pixel_values(case.inputs, torch.float64)

    def mapped(flat: Tensor) -> Tensor:
        return flatten(case.forward(spread(flat, case.inputs))[0], case.outputs)

    jacobian = torch.autograd.functional.jacobian(mapped, x)
    assert jacobian.shape == (len(x), len(x))
    y, logdet = case.forward(spread(x, case.inputs))
    assert logdet.shape == (1,)
    # ColorRotation holds its matrix in float32: 1e-7 for each pixel.
    assert logdet.item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-5)
    assert all(not tensor[0][~mask].any() for tensor, mask in zip(y, case.outputs, strict=True))


def test_logdet_of_the_lifting_is_not_trivially_zero() -> None:
    """So that the comparison with the Jacobian can fail: one plane of 4x4 has 4 log gains of each kind in each direction."""
    low, high = np.log(1.139764), np.log(0.887277)
    assert Lifting.log_det(4, 4) == pytest.approx(4 * 2 * (2 * low + 2 * high), rel=1e-2)
    assert Lifting.log_det(5, 1) == pytest.approx(3 * low + 2 * high, rel=1e-3)
    assert Lifting.log_det(1, 1) == 0
    assert abs(Lifting.log_det(5, 5)) > 0.1


@pytest.mark.parametrize("size", ODD_SIZES)
def test_the_constant_logdet_of_the_flow_is_what_forward_returns(size: Size) -> None:
    logdet = MultiscaleFlow(4, Arithmetic())(torch.rand(2, 3, *size), torch.tensor([100, 200]))[1]
    assert logdet.tolist() == pytest.approx([MultiscaleFlow.log_det(*size)] * 2, abs=1e-5)


@pytest.mark.parametrize("build", [additive_coupling, multiscale_flow], ids=lambda build: build.__name__)
def test_random_couplings_change_the_latent(build: Callable[[Size, torch.dtype], Case]) -> None:
    """What the tests above rely on: these couplings move every coefficient by a share of a step at least, and depend on Delta."""
    case = build((7, 6), torch.float64)
    x = spread(pixel_values(case.inputs, torch.float64), case.inputs)
    plain = x if build is additive_coupling else MultiscaleFlow(6, Arithmetic()).double()(x[0], STEP_INDEX)[0]
    moved = (flatten(case.forward(x)[0], case.outputs) - flatten(plain, case.outputs)).abs()
    assert moved.median() > 0.1 * steps_of(STEP_INDEX).item()


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 5), (16, 24), (33, 20)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_pyramid_of_an_untrained_model_is_the_wavelet(size: Size) -> None:
    """Whatever Delta, to the roundings of float32 on values of up to 442*2^6."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    ll, details = rgb_to_ycc(pixels), []
    for _ in level_shapes(*size)[1:]:
        ll, detail = analyse_level(ll)
        details.append(detail)
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float()
    for index in (0, 1408):
        latent, _ = MultiscaleFlow(8, Arithmetic())(image[None], torch.tensor([index]))
        for found, expected in zip(latent, [ll, *reversed(details)], strict=True):
            assert np.allclose(found[0].detach().numpy(), expected, atol=4e-3)


def test_each_image_of_a_batch_is_mapped_with_its_own_step() -> None:
    flow = MultiscaleFlow(6, Arithmetic()).double()
    randomise(flow)
    x = 255 * torch.rand(2, 3, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    indices = torch.tensor([100, 250])
    together = flow(x, indices)[0]
    for n in range(2):
        alone = flow(x[n : n + 1], indices[n : n + 1])[0]
        for a, b in zip(together, alone, strict=True):
            assert torch.allclose(a[n], b[0], atol=1e-9)
    assert torch.allclose(flow.inverse(together, indices, (6, 5)), x, atol=DOUBLE_WITH_COLOR)
