"""The channel-noise flow: a bijection with the right Jacobian, and certificates that never exceed what the link carries."""

import numpy as np
import pytest

for package in ("scipy", "torch"):
    pytest.importorskip(package, reason=f"radio needs {package}: pip install 'flowcodec[radio]'")

import torch

from flowcodec.errors import InputError
from flowcodec.radio import noise_flow
from flowcodec.radio.capacity import awgn_capacity
from flowcodec.radio.certified_rate import GaussianModel, certify, terms
from flowcodec.radio.distortion import UNKNOWN_LINKS, DistortedLink
from flowcodec.radio.modulation import llrs, points
from flowcodec.radio.noise_flow import NoiseFlow, to_parts

AWGN = DistortedLink("awgn")


@pytest.fixture(scope="module")
def moved_flow() -> NoiseFlow:
    """Random weights everywhere: nothing about the map is as it starts."""
    torch.manual_seed(1)
    flow = NoiseFlow()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.15 * torch.randn_like(parameter)
    return flow


@pytest.fixture(scope="module")
def awgn_flow() -> NoiseFlow:
    rng = np.random.default_rng(2)
    sent = points(2)[rng.integers(0, 4, 20_000)]
    return noise_flow.fit(sent, AWGN.transmit(sent, 5.0, rng), np.full(len(sent), 5.0), steps=250)


def batch(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    sent = points(4)[rng.integers(0, 16, count)]
    return to_parts(UNKNOWN_LINKS["impulsive"].transmit(sent, 8.0, rng)), to_parts(sent), torch.full((count,), 8.0).double()


def test_the_inverse_gives_back_what_was_received(moved_flow: NoiseFlow) -> None:
    y, s, c = batch(200, 3)
    with torch.no_grad():
        e, _ = moved_flow(y, s, c)
        assert torch.isfinite(e).all()
        assert (moved_flow.inverse(e, s, c) - y).abs().max() < 1e-5


def test_the_log_determinant_is_the_jacobians(moved_flow: NoiseFlow) -> None:
    for y, s, c in zip(*batch(12, 4), strict=True):
        _, logdet = moved_flow(y, s, c)
        jacobian = torch.autograd.functional.jacobian(lambda value, s=s, c=c: moved_flow(value, s, c)[0], y)
        assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(logdet.item(), abs=1e-3)


def test_the_density_is_the_base_through_the_jacobian_and_integrates_to_one(moved_flow: NoiseFlow) -> None:
    y, s, c = batch(50, 5)
    with torch.no_grad():
        e, logdet = moved_flow(y, s, c)
        base = -(0.5 * (e.square() + np.log(2 * np.pi))).sum(-1)
        assert torch.allclose(base + logdet, moved_flow.log_density(y, s, c), atol=1e-6)
        axis = torch.linspace(-12, 12, 600).double()
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
        density = moved_flow.log_density(grid, s[:1].expand_as(grid), c[0]).exp()
        assert float(density.sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=0.01)


def test_gradients_pass_through_the_link(moved_flow: NoiseFlow) -> None:
    """d y / d s of the inverse against finite differences."""
    s, c = to_parts(np.array([0.5 + 0.3j])), torch.tensor([8.0]).double()
    e = torch.tensor([[0.4, -1.1]]).double()
    with torch.no_grad():
        shift = torch.tensor([[1e-3, 0.0]]).double()
        difference = (moved_flow.inverse(e, s + shift, c) - moved_flow.inverse(e, s - shift, c)) / 2e-3
    tracked = s.clone().requires_grad_(True)
    moved_flow.inverse(e, tracked, c)[0, 0].backward()
    assert tracked.grad is not None
    assert tracked.grad[0, 0].item() == pytest.approx(difference[0, 0].item(), rel=0.02, abs=0.02)


@pytest.mark.parametrize("csnr_db", [0.0, 5.0])
def test_integration_gives_the_information_of_links_that_are_known(csnr_db: float) -> None:
    """QPSK over AWGN is two binary links; at low CSNR and many points it nears capacity from below."""
    qpsk = AWGN.information(points(2), csnr_db)
    roots, weights = np.polynomial.hermite.hermgauss(60)
    csnr = 10 ** (csnr_db / 10)
    binary = 1 - np.sum(weights * np.log2(1 + np.exp(-2 * csnr - 2 * np.sqrt(csnr) * np.sqrt(2) * roots))) / np.sqrt(np.pi)
    assert qpsk == pytest.approx(2 * binary, abs=2e-3)
    assert qpsk <= AWGN.information(points(8), csnr_db) <= awgn_capacity(csnr)


@pytest.mark.parametrize("link", [AWGN, UNKNOWN_LINKS["impulsive"], UNKNOWN_LINKS["all-three"]], ids=lambda link: link.name)
def test_no_model_certifies_more_than_the_link_carries(link: DistortedLink, moved_flow: NoiseFlow, awgn_flow: NoiseFlow) -> None:
    """Wrong, untrained and right models: each certificate is below the true rate, by sign and not by luck of the samples."""
    rng, csnr_db = np.random.default_rng(6), 5.0
    constellation = points(2)
    sent = rng.integers(0, 4, 6000)
    received = link.transmit(constellation[sent], csnr_db, rng)
    true = link.information(constellation, csnr_db, nodes=12)
    right = link.log_density(received, constellation, csnr_db)
    models = {
        "true": right,
        "untrained": noise_flow.log_densities(moved_flow, received, constellation, csnr_db),
        "trained on AWGN": noise_flow.log_densities(awgn_flow, received, constellation, csnr_db),
        "overconfident": 3 * right,
        "Gaussian": GaussianModel.fit(constellation[sent[:500]], received[:500]).log_density(received, constellation),
    }
    reference = terms(right, sent)
    for name, density in models.items():
        found = certify(density, sent)
        assert found.lower < true, name
        difference = terms(density, sent) - reference
        assert difference.mean() <= 4 * difference.std() / np.sqrt(len(sent)) + 1e-9, name
        assert found.mean == pytest.approx(true, abs=0.1) or name != "true"


def test_a_fitted_flow_is_within_three_percent_and_its_llrs_are_the_true_ones(awgn_flow: NoiseFlow) -> None:
    rng = np.random.default_rng(7)
    sent = rng.integers(0, 4, 20_000)
    received = AWGN.transmit(points(2)[sent], 5.0, rng)
    found = certify(noise_flow.log_densities(awgn_flow, received, points(2), 5.0), sent)
    assert found.mean > 0.97 * AWGN.information(points(2), 5.0)
    true = llrs(received[:2000], np.ones(2000, complex), AWGN.noise(5.0), 2)
    assert np.corrcoef(noise_flow.llrs(awgn_flow, received[:2000], 5.0, 2), true)[0, 1] > 0.98


def test_a_certificate_stays_finite_where_a_model_is_sure_and_wrong() -> None:
    density = np.full((100, 4), -1e9)
    density[:, 1] = 0.0
    found = certify(density, np.zeros(100, int))
    assert np.isfinite(found.mean) and found.lower < found.mean < -10


def test_errors_are_one_line() -> None:
    with pytest.raises(InputError, match="pairs"):
        noise_flow.fit(np.zeros(10, complex), np.zeros(10, complex), np.zeros(10))
    with pytest.raises(InputError, match="finite"):
        noise_flow.fit(np.ones(200, complex), np.full(200, np.nan, complex), np.zeros(200))
    with pytest.raises(InputError, match="density for each"):
        certify(np.zeros((3, 4)), np.zeros(2, int))
    with pytest.raises(InputError, match="phase_deviation"):
        DistortedLink("x", phase_deviation=2.0)
    with pytest.raises(InputError, match="quarter turns"):
        AWGN.information(np.array([1.0 + 1j]), 5.0)
