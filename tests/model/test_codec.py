"""The whole trainable codec: exact without noise, images apart, gradients where they are wanted, integers in fixed arithmetic."""

import pytest
import torch
from torch import Tensor

from flowcodec.errors import InputError
from flowcodec.model import flow
from flowcodec.model.channel import Channel, GaussianNoise, Rounding
from flowcodec.model.codec import CodecResult, FlowCodecModel, ModelConfig
from flowcodec.model.density import ScaleMixture
from flowcodec.model.networks import FixedConv2d
from flowcodec.runtime.context import condition_planes, valid_coefficients
from flowcodec.runtime.integer import ACTIVATION_MAX, FRACTION_BITS

TINY = ModelConfig(widths=(4, 4, 4), blocks=(1, 1, 1), coupling_width=4, restoration_width=4)
SIZES = [(1, 1), (1, 5), (3, 4), (5, 5), (16, 18), (33, 16)]
Pair = tuple[Tensor, Tensor]


class Perfect:
    """No noise: what is sent is received, for a bit each."""

    def __call__(self, z: Tensor, location: Tensor, log2_scale: Tensor, density: ScaleMixture, kind: int) -> Pair:
        return z, torch.ones_like(z)


class Displaced:
    """Every coefficient is received with the error of a sine of its index, deterministic and of the batch's own images."""

    def __call__(self, z: Tensor, location: Tensor, log2_scale: Tensor, density: ScaleMixture, kind: int) -> Pair:
        error = torch.sin(torch.arange(z[0].numel(), dtype=z.dtype)).view(1, *z.shape[1:])
        return z + 0.3 * error, (z - location).square() + log2_scale


def build(seed: int = 0, random_flow: bool = False) -> FlowCodecModel:
    torch.manual_seed(seed)
    model = FlowCodecModel(TINY)
    with torch.no_grad():
        # Unlike at the start of a training: every part does something.
        model.log2_multipliers.normal_(0, 0.3)
        for coupling in model.flow.couplings if random_flow else []:
            for parameter in coupling.parameters():
                parameter.normal_(0, 0.1)
    return model


def draw_images(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, *size), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("random_flow", [False, True], ids=["wavelet", "couplings"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_without_noise_only_the_coarsest_sample_is_rounded(size: tuple[int, int], random_flow: bool) -> None:
    """Its error, at most half a step a plane, spreads over the image; with the smallest step, 1/4, that is below 0.2 grey levels.

    Couplings pass it on to the details they predict, hence up to twice that with random ones.
    """
    with torch.no_grad():
        result = build(random_flow=random_flow)(draw_images(2, size), torch.tensor([0, 0]), Perfect())
    assert result.latent_sse.max() < 1e-5 * size[0] * size[1]
    assert (result.reconstruction - draw_images(2, size)).abs().max() < (0.5 if random_flow else 0.25)
    difference = (result.reconstruction - draw_images(2, size)).square().sum((1, 2, 3))
    assert torch.allclose(result.image_sse, difference, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_existing_coefficient_is_paid_for_once(size: tuple[int, int]) -> None:
    """3*H*W samples less the three coarsest, at a bit each from the perfect channel."""
    with torch.no_grad():
        result = build()(draw_images(2, size), torch.tensor([150, 150]), Perfect())
    assert result.bits.tolist() == [3 * size[0] * size[1] - 3] * 2


def test_squared_error_in_the_latent_is_nearly_that_in_the_image() -> None:
    """What the loss relies on: to 10 % for an error in all bands, with the plain wavelet and no restoration."""
    with torch.no_grad():
        model = build()
        result = model(draw_images(4, (32, 32)), torch.full((4,), 224), Displaced())
    assert result.image_sse.sum().item() == pytest.approx(result.latent_sse.sum().item(), rel=0.1)


@pytest.mark.parametrize("size", [(5, 5), (16, 18)], ids=str)
def test_each_image_of_a_batch_is_coded_as_if_alone(size: tuple[int, int]) -> None:
    model, images, indices = build(random_flow=True), draw_images(3, size), torch.tensor([100, 200, 300])
    with torch.no_grad():
        together = model(images, indices, Displaced())
        for n in range(3):
            alone = model(images[n : n + 1], indices[n : n + 1], Displaced())
            assert torch.allclose(together.reconstruction[n], alone.reconstruction[0], atol=1e-2)
            for name in ("bits", "latent_sse", "image_sse"):
                # float32 planes of some hundred grey levels leave 1e-5 a sample.
                expected = pytest.approx(getattr(alone, name)[0].item(), rel=1e-4, abs=1e-3)
                assert getattr(together, name)[n].item() == expected, name


# --- gradients ------------------------------------------------------------------------------------------------------------


def run(train_flow: bool, channel: Channel, model: FlowCodecModel) -> CodecResult:
    return model(draw_images(2, (16, 16)), torch.tensor([150, 250]), channel, train_flow)


def total(result: CodecResult) -> Tensor:
    return (result.bits + result.latent_sse + result.image_sse).sum()


def with_gradient(model: FlowCodecModel) -> set[str]:
    return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.mark.parametrize("channel", [GaussianNoise(), Rounding()], ids=["gaussian", "round"])
def test_gradients_reach_every_part(channel: Channel) -> None:
    model = build(random_flow=True)
    with torch.no_grad():
        model.restoration.leave.weight.normal_(0, 0.1)
    total(run(True, channel, model)).backward()
    assert with_gradient(model) == {"flow", "density", "priors", "restoration", "log2_multipliers"}
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_without_train_flow_no_gradient_passes_through_the_flow() -> None:
    """Couplings get none, and the error of the image teaches the restoration alone."""
    model = build(random_flow=True)
    with torch.no_grad():
        model.restoration.leave.weight.normal_(0, 0.1)
    result = run(False, GaussianNoise(), model)
    result.image_sse.sum().backward(retain_graph=True)
    assert with_gradient(model) == {"restoration"}
    (result.bits + result.latent_sse).sum().backward()
    assert with_gradient(model) == {"density", "priors", "restoration", "log2_multipliers"}


def test_train_flow_changes_no_value() -> None:
    model = build(random_flow=True)
    first, second = (run(flag, GaussianNoise(torch.Generator().manual_seed(0)), model) for flag in (True, False))
    for name in ("bits", "latent_sse", "image_sse", "reconstruction"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


# --- fixed arithmetic -----------------------------------------------------------------------------------------------------


def record_inputs(model: FlowCodecModel) -> dict[str, list[Tensor]]:
    inputs: dict[str, list[Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, FixedConv2d):
            module.register_forward_pre_hook(lambda _, x, name=name: inputs.setdefault(name, []).append(x[0].detach()))
    return inputs


def off_grid(inputs: dict[str, list[Tensor]]) -> list[str]:
    """Layers that were given something else than the integers -1023 ... 1023 over 64."""
    units = {name: torch.cat([x.reshape(-1) for x in given]) * (1 << FRACTION_BITS) for name, given in inputs.items()}
    return [name for name, x in units.items() if not torch.equal(x, x.round()) or x.abs().max() > ACTIVATION_MAX]


@pytest.mark.parametrize("part", ["priors", "restoration", "flow"])
def test_in_fixed_arithmetic_every_convolution_is_given_integers(part: str) -> None:
    """Otherwise its sums are not those of the decoder, and neither is what training sees."""
    model = build(random_flow=True)
    inputs = record_inputs(model)
    model.arithmetic.fixed = True
    with torch.no_grad():
        run(True, GaussianNoise(torch.Generator().manual_seed(0)), model)
    of_part = {name: given for name, given in inputs.items() if name.startswith(part)}
    assert of_part
    assert not off_grid(of_part)


def test_in_float_arithmetic_they_are_not() -> None:
    """So that the test above can fail."""
    model = build()
    inputs = record_inputs(model)
    with torch.no_grad():
        run(True, GaussianNoise(), model)
    assert len(off_grid(inputs)) > 10


def test_fixed_arithmetic_stays_close_to_float() -> None:
    model = build()
    results = []
    for fixed in (False, True):
        model.arithmetic.fixed = fixed
        with torch.no_grad():
            results.append(run(True, GaussianNoise(torch.Generator().manual_seed(0)), model))
    assert results[1].bits.sum().item() == pytest.approx(results[0].bits.sum().item(), rel=0.02)
    assert results[1].bits.sum() != results[0].bits.sum()
    assert results[1].image_sse.sum().item() == pytest.approx(results[0].image_sse.sum().item(), rel=0.02)


# --- what the model shares with the runtime -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (4, 6), (5, 3)], ids=str)
def test_masks_and_condition_planes_are_those_of_the_runtime(size: tuple[int, int]) -> None:
    assert torch.equal(flow.detail_mask(*size).bool(), torch.from_numpy(valid_coefficients(*size)))
    planes = torch.from_numpy(condition_planes(201, 4, *size).astype("float32")) / (1 << FRACTION_BITS)
    assert torch.equal(flow.condition_planes(torch.tensor([201]), 4, *size)[0], planes)


# --- configuration --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"widths": (4, 4)}, "widths"),
        ({"widths": (4, 0, 4)}, "widths"),
        ({"blocks": (1, 1, 1, 1)}, "blocks"),
        ({"coupling_width": 0}, "coupling_width"),
        ({"restoration_width": -1}, "restoration_width"),
    ],
    ids=str,
)
def test_a_bad_size_is_refused_by_name(values: dict, key: str) -> None:
    with pytest.raises(InputError, match=key):
        ModelConfig(**values)
