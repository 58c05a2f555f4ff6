"""The studies: their channels and prices, and one run of two steps from configuration to table."""

import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowcodec.errors import InputError
from flowcodec.model.density import ScaleMixture

ROOT = Path(__file__).parents[2]
STUDY = runpy.run_path(str(ROOT / "benchmarks/study.py"))


@pytest.mark.parametrize("path", sorted((ROOT / "configs/studies").glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_studies_can_be_read(path: Path) -> None:
    study, arms = STUDY["read_study"](path)
    assert len({arm.name for arm in arms}) == len(arms) >= 3 and len(study["seeds"]) >= 2
    if path.stem == "beta":
        assert len({arm.beta for arm in arms}) >= 8


def test_uniform_noise_costs_the_entropy_over_the_uniform() -> None:
    """A prior far wider than a cell: bits = h(prior) = log2(s sqrt(2 pi e)) on average, for one Gaussian component."""
    density = ScaleMixture()
    with torch.no_grad():
        density.logits[:, 0, 0], density.logits[:, 2, 0] = -50.0, -50.0
    z = 16 * torch.randn(200_000, generator=torch.Generator().manual_seed(1))
    channel = STUDY["UniformNoise"](torch.Generator().manual_seed(2))
    mean, bits = channel(z, torch.zeros_like(z), torch.full_like(z, 4.0), density, 0)
    assert float(bits.mean()) == pytest.approx(math.log2(16 * math.sqrt(2 * math.pi * math.e)), abs=0.01)
    assert float((mean - z).square().mean()) == pytest.approx(1 / 12, rel=0.01)


def test_prices() -> None:
    arm, step = STUDY["Arm"], torch.tensor([10.0, 40.0])
    theory = STUDY["price_of"](arm("a", beta=2.0), step)
    assert theory.tolist() == pytest.approx([2 * math.log(2) / 6 * 100, 2 * math.log(2) / 6 * 1600])
    fixed = STUDY["price_of"](arm("a", price="fixed"), step)
    assert fixed[0] == fixed[1] == pytest.approx(math.log(2) / 6 * STUDY["FIXED_STEP"] ** 2)
    with pytest.raises(InputError, match="arm 'a'"):
        arm("a", channel="salt")


def test_the_slope_of_the_theory_is_one() -> None:
    """D = Delta^2 / 12 for each of three colours at R = -3 log2 Delta: -dD/dR is the price of a bit."""
    steps = np.array(STUDY["TEST_STEPS"])
    row = {"squared_error": list(3 * steps**2 / 12), "bpp": list(20 - 3 * np.log2(steps))}
    assert STUDY["slope"](row) == pytest.approx(1.0, abs=0.1)
    assert STUDY["slope"]({**row, "bpp": [1.0] * len(steps)}) is None


def test_slopes_between_betas() -> None:
    """Arms on D = 2^(-2 R) with -dD/dR = beta times the price, at every step."""
    price = np.array(STUDY["TEST_STEPS"]) ** 2 * math.log(2) / 6
    arms = [STUDY["Arm"](f"beta {beta:g}", beta=beta) for beta in (0.9, 1.0, 1.1)]
    rows = []
    for arm in arms:
        error = arm.beta * price / (2 * math.log(2))
        rate = -np.log2(error) / 2
        rows.append({"arm": arm.name, "seed": 1, "squared_error": list(error), "bpp": list(rate + 9), "psnr_db": list(-error)})
        rows[-1] |= {"loss": 1.0, "way": [{"step": 1, "cpu_s": 1.0, "loss": 1.0}]}
    lines = STUDY["summarise"](rows, arms)
    for line in lines[:2]:
        assert line["-dD/dR to the next beta"] == pytest.approx(line["theory of that"], rel=0.01)
    assert lines[2]["-dD/dR to the next beta"] is None
    mixed = [*arms[:2], STUDY["Arm"]("beta 1.1", beta=1.1, channel="round")]
    assert "theory of that" not in STUDY["summarise"](rows, mixed)[0]


def test_from_configuration_to_table_and_no_arm_twice(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for k in range(3):
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (72, 80, 3), np.uint8)).save(folder / f"{k}.png")
    arms = [STUDY["Arm"]("one"), STUDY["Arm"]("two", beta=0.0, channel="uniform"), STUDY["Arm"]("three", channel="round")]
    out = tmp_path / "study.json"
    document = STUDY["run"]({"title": "T", "seeds": [1]}, arms, [folder], 2, out)
    assert [row["arm"] for row in document["rows"]] == ["one", "two", "three"] and document["rows"][0][
        "BD-rate %"
    ] == pytest.approx(0)
    assert document["runs"][0]["way"][-1]["step"] == 2 and document["runs"][0]["cpu_s"] > 0
    first = json.loads(out.read_text())["runs"]
    assert STUDY["run"]({"title": "T", "seeds": [1]}, arms, [folder], 2, out)["runs"] == first
    bad = tmp_path / "bad.toml"
    bad.write_text('title = "T"\nsteps = 1\nseeds = [1]\n[[arms]]\nname = "a"\ngamma = 1\n')
    with pytest.raises(InputError, match="found name, gamma"):
        STUDY["read_study"](bad)
