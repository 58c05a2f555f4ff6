"""Causality of the prior: a prediction depends on what is decoded before it, and on nothing else."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from flowcodec.model.density import ScaleMixture
from flowcodec.model.networks import Arithmetic, phase_of
from flowcodec.model.prior import CONTRAST_CHANNELS, LevelPrior, StageNetwork
from flowcodec.runtime.channel import SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST
from flowcodec.runtime.context import CARRIED_CHANNELS, CHROMA, CONDITION_CHANNELS, LUMA, PHASES, STAGES
from flowcodec.runtime.integer import FRACTION_BITS, LOCATION_MAX

Pair = tuple[Tensor, Tensor]
HEIGHT, WIDTH = 6, 8
INPUTS = CONTRAST_CHANNELS + CARRIED_CHANNELS + CONDITION_CHANNELS
COUNT = len(STAGES)


@dataclass
class Recorder:
    """A channel without noise that keeps what it is given; it costs one bit plus |z| for each coefficient."""

    locations: list[Tensor] = field(default_factory=list)
    scales: list[Tensor] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)

    def __call__(self, z: Tensor, location: Tensor, log2_scale: Tensor, density: ScaleMixture, kind: int) -> Pair:
        self.latents.append(z)
        self.locations.append(location)
        self.scales.append(log2_scale)
        self.kinds.append(kind)
        return z, 1 + z.abs()


@pytest.fixture(params=[False, True], ids=["float", "fixed"])
def prior(request: pytest.FixtureRequest) -> LevelPrior:
    torch.manual_seed(0)
    result = LevelPrior(8, 1, carries=True, arithmetic=Arithmetic(request.param))
    with torch.no_grad():
        for stage in result.stages:
            # Larger than at the start of a training, so that a dependence is not lost in the grid of a location.
            assert isinstance(stage, StageNetwork)
            stage.location.weight.mul_(20)
            stage.scale.weight.mul_(10)
    return result.requires_grad_(False)


def draw(count: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(inputs, details) on the grid of 1/64."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, INPUTS, HEIGHT, WIDTH, generator=generator)
    detail = 3 * torch.randn(count, 9, HEIGHT, WIDTH, generator=generator)
    return torch.round(inputs * 64) / 64, torch.round(detail * 64) / 64


def sites(stage: int) -> Tensor:
    """bool (9, H, W): the coefficients that a stage decodes."""
    row, column = PHASES[STAGES[stage].phase]
    mask = torch.zeros(9, HEIGHT, WIDTH, dtype=torch.bool)
    mask[STAGES[stage].bands, row::2, column::2] = True
    return mask


def predict(prior: LevelPrior, inputs: Tensor, detail: Tensor, mask: Tensor | None = None) -> Recorder:
    recorder = Recorder()
    prior(inputs, detail, torch.ones(9, HEIGHT, WIDTH) if mask is None else mask, recorder, ScaleMixture())
    return recorder


def test_stages_partition_the_coefficients() -> None:
    assert torch.equal(
        torch.stack([sites(stage) for stage in range(COUNT)]).sum(0), torch.ones(9, HEIGHT, WIDTH, dtype=torch.int64)
    )


def test_each_stage_is_given_its_coefficients_in_order(prior: LevelPrior) -> None:
    inputs, detail = draw()
    recorder = predict(prior, inputs, detail)
    assert recorder.kinds == [LUMA] * 12 + [CHROMA] * 4
    for index, stage in enumerate(STAGES):
        assert torch.equal(recorder.latents[index], phase_of(detail[:, stage.bands], stage.phase))
        assert recorder.locations[index].shape == recorder.scales[index].shape == recorder.latents[index].shape


@pytest.mark.parametrize("stage", range(COUNT))
def test_predictions_ignore_what_is_decoded_later(prior: LevelPrior, stage: int) -> None:
    """Its own coefficients and those of later stages, changed beyond recognition, leave location and scale as they were."""
    inputs, detail = draw()
    later = torch.stack([sites(s) for s in range(stage, COUNT)]).any(0)
    before = predict(prior, inputs, detail)
    after = predict(prior, inputs, torch.where(later, -7 * detail + 11, detail))
    for done in range(stage + 1):
        assert torch.equal(before.locations[done], after.locations[done])
        assert torch.equal(before.scales[done], after.scales[done])


@pytest.mark.parametrize(
    ("earlier", "stage"), [(0, 1), (1, 2), (0, 3), (2, 8), (4, 11), (0, 12), (11, 12), (12, 13), (7, 15), (14, 15)]
)
def test_predictions_see_what_is_decoded_before(prior: LevelPrior, earlier: int, stage: int) -> None:
    """So that the test above can fail: every earlier stage moves most predictions of every later one."""
    inputs, detail = draw()
    before = predict(prior, inputs, detail)
    after = predict(prior, inputs, torch.where(sites(earlier), -detail + 1, detail))
    assert (before.locations[stage] != after.locations[stage]).float().mean() > 0.5
    assert (before.scales[stage] != after.scales[stage]).float().mean() > 0.02


@pytest.mark.parametrize("stage", range(COUNT))
def test_one_coefficient_reaches_later_stages_only(prior: LevelPrior, stage: int) -> None:
    """A single changed coefficient, in the middle: nothing before it or in its stage moves, and something in each later one."""
    inputs, detail = draw(1)
    band, y, x = next((b, y, x) for b, y, x in sites(stage).nonzero().tolist() if y in (2, 3) and x in (3, 4))
    changed = detail.clone()
    changed[0, band, y, x] += 5
    before, after = predict(prior, inputs, detail), predict(prior, inputs, changed)
    moved = [bool((a != b).any()) for a, b in zip(before.locations, after.locations, strict=True)]
    assert moved == [s > stage for s in range(COUNT)]


def test_places_that_do_not_exist_cost_nothing_and_are_not_seen(prior: LevelPrior) -> None:
    """Odd grids pad a row and a column; what stands there changes no prediction, no bit and no reconstruction."""
    inputs, detail = draw()
    mask = torch.ones(9, HEIGHT, WIDTH)
    mask[:, -1] = mask[:, :, -1] = 0
    results, recorders = [], []
    for filling in (0.0, 50.0):
        recorders.append(Recorder())
        results.append(prior(inputs, torch.where(mask > 0, detail, filling), mask, recorders[-1], ScaleMixture()))
    assert torch.equal(results[0].bits, results[1].bits)
    assert torch.equal(results[0].reconstruction, results[1].reconstruction)
    assert torch.equal(results[0].carried, results[1].carried)
    assert all(torch.equal(a, b) for a, b in zip(recorders[0].locations, recorders[1].locations, strict=True))
    assert not results[1].reconstruction[:, mask == 0].any()
    assert torch.equal(results[0].reconstruction, detail * mask)


def test_bits_belong_to_their_image(prior: LevelPrior) -> None:
    """The recorder's price summed over each image's own coefficients."""
    inputs, detail = draw(3)
    detail = detail * torch.tensor([0.0, 1.0, 4.0])[:, None, None, None]
    result = prior(inputs, detail, torch.ones(9, HEIGHT, WIDTH), Recorder(), ScaleMixture())
    assert torch.allclose(result.bits, 9.0 * HEIGHT * WIDTH + detail.abs().sum((1, 2, 3)))


def test_images_of_a_batch_do_not_see_each_other(prior: LevelPrior) -> None:
    inputs, detail = draw(2)
    together = predict(prior, inputs, detail)
    for n in range(2):
        alone = predict(prior, inputs[n : n + 1], detail[n : n + 1])
        for stage in range(COUNT):
            assert torch.allclose(together.locations[stage][n : n + 1], alone.locations[stage], atol=1e-5)


def test_the_carry_sees_all_details_and_doubles_the_grid(prior: LevelPrior) -> None:
    inputs, detail = draw(1)
    mask = torch.ones(9, HEIGHT, WIDTH)
    carried = prior(inputs, detail, mask, Recorder(), ScaleMixture()).carried
    assert carried is not None and carried.shape == (1, CARRIED_CHANNELS, 2 * HEIGHT, 2 * WIDTH)
    for stage in range(COUNT):
        other = prior(inputs, torch.where(sites(stage), -detail + 1, detail), mask, Recorder(), ScaleMixture()).carried
        assert (carried != other).float().mean() > 0.01


def test_predictions_are_clipped_to_the_format(prior: LevelPrior) -> None:
    """|location| <= (2^15 - 1)/64 steps; a scale at most that of the last table."""
    location, log2_scale = prior.predictions(torch.tensor([-1e6, 3.25, 1e6]), torch.tensor([-100.0, 2.25, 100.0]))
    assert (location * (1 << FRACTION_BITS)).tolist() == [-LOCATION_MAX, 208, LOCATION_MAX]
    assert log2_scale[1].item() == 2.25 + SCALE_LOG2_FIRST
    assert log2_scale[2].item() == (SCALE_COUNT - 1) / (1 << SCALE_BITS) + SCALE_LOG2_FIRST
    assert log2_scale[0].item() <= SCALE_LOG2_FIRST


def test_fixed_predictions_are_integers_of_the_format() -> None:
    torch.manual_seed(0)
    prior = LevelPrior(8, 1, carries=True, arithmetic=Arithmetic(fixed=True))
    recorder = predict(prior, *draw())
    for location, log2_scale in zip(recorder.locations, recorder.scales, strict=True):
        for value in (location * (1 << FRACTION_BITS), (log2_scale - SCALE_LOG2_FIRST) * (1 << SCALE_BITS)):
            assert torch.equal(value, value.round())


def test_the_phases_are_put_back_where_they_came_from(prior: LevelPrior) -> None:
    inputs, detail = draw(1)
    result = prior(inputs, detail, torch.ones(9, HEIGHT, WIDTH), Recorder(), ScaleMixture())
    assert torch.equal(result.reconstruction, detail)
