"""Channel-noise flow: a conditional normalizing flow p(y | s, c) of a link, fitted to (sent, received) pairs.

y is a complex use, s what was sent, c the CSNR that the receiver was told. In the frame turned to the phase of s the two real
parts (u1, u2) of y are mapped to e ~ N(0, I), one after the other:

    e1 = Phi^-1(F1(u1 | s, c)),   e2 = Phi^-1(F2(u2 | u1, s, c)),   F = sum_k w_k Phi((u - m_k) / d_k)

with weights, locations and deviations from small networks. A mixture of few Gaussians holds heavy tails of known places of the
data; that any learned tail is too light or too heavy is why rates are only ever measured on the true link.
References: Dinh et al. 2017 (normalizing flows); Ho et al., Flow++, 2019, sec. 3.2 (mixture CDF as the monotone map).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from flowcodec.errors import InputError
from flowcodec.radio.modulation import points, ratios_of

COMPONENTS, WIDTH = 6, 48
_LOG_2PI = math.log(2 * math.pi)
_CHUNK = 1 << 12
_TAIL = 1e-300
_BISECTIONS = 60


@dataclass
class _Mixture:
    """Parameters (..., K) of sum_k w_k N(m_k, d_k^2)."""

    log_weights: Tensor
    means: Tensor
    log_deviations: Tensor

    def log_density(self, u: Tensor) -> Tensor:
        z = (u[..., None] - self.means) * torch.exp(-self.log_deviations)
        return torch.logsumexp(self.log_weights - self.log_deviations - 0.5 * (z.square() + _LOG_2PI), -1)

    def normal(self, u: Tensor) -> Tensor:
        """Phi^-1(F(u)), by the tail that is the smaller one so that no digits are lost."""
        z = (u[..., None] - self.means) * torch.exp(-self.log_deviations)
        below, above = (torch.logsumexp(self.log_weights + torch.special.log_ndtr(s * z), -1).exp() for s in (1, -1))
        smaller = torch.minimum(below, above).clamp(min=_TAIL)
        return torch.where(below < above, 1.0, -1.0) * torch.special.ndtri(smaller)

    def solve(self, e: Tensor) -> Tensor:
        """u with normal(u) = e by bisection, and one Newton step that carries the gradient of e and of the parameters."""
        with torch.no_grad():
            reach = 40 * torch.exp(self.log_deviations)
            low, high = (self.means - reach).min(-1).values, (self.means + reach).max(-1).values
            for _ in range(_BISECTIONS):
                middle = (low + high) / 2
                beyond = self.normal(middle) > e
                low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
            u = (low + high) / 2
            slope = torch.exp(self.log_density(u) + 0.5 * (e.square() + _LOG_2PI))
        return u - (self.normal(u) - e) / slope


class NoiseFlow(nn.Module):
    """e, logdet = forward(y, s, c);  y = inverse(e, s, c);  ln p(y | s, c) = ln N(e; 0, I) + logdet.

    Shapes: y, s, e real (..., 2) with the real and the imaginary part of a complex use; c (...,) CSNR in dB; logdet (...,) nats.
    All in float64, since the tails of the base need the digits, but the networks, which only shape the mixtures.
    """

    def __init__(self) -> None:
        super().__init__()
        outputs = 3 * COMPONENTS + 1
        self.first = _network(5, outputs)
        self.second = _network(8, outputs)

    def forward(self, y: Tensor, s: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        u = _turn(y, s, -1)
        mixtures = self._mixtures(u[..., 0], s, c)
        e = torch.stack([mixture.normal(u[..., i]) for i, mixture in enumerate(mixtures)], -1)
        density = sum(mixture.log_density(u[..., i]) for i, mixture in enumerate(mixtures))
        return e, density + (0.5 * (e.square() + _LOG_2PI)).sum(-1)

    def log_density(self, y: Tensor, s: Tensor, c: Tensor) -> Tensor:
        """ln p(y | s, c), nats: the sum of both terms of ``forward``, with no base value in between."""
        u = _turn(y, s, -1)
        first, second = self._mixtures(u[..., 0], s, c)
        return first.log_density(u[..., 0]) + second.log_density(u[..., 1])

    def inverse(self, e: Tensor, s: Tensor, c: Tensor) -> Tensor:
        """y = F(e; s, c), differentiable in e, s and c: the link as a layer of a network."""
        first, size, told = self._first(s, c)
        u1 = first.solve(e[..., 0])
        u2 = self._second(u1, s, size, told).solve(e[..., 1])
        return _turn(torch.stack([u1, u2], -1), s, 1)

    def _mixtures(self, u1: Tensor, s: Tensor, c: Tensor) -> tuple[_Mixture, _Mixture]:
        first, size, told = self._first(s, c)
        return first, self._second(u1, s, size, told)

    def _first(self, s: Tensor, c: Tensor) -> tuple[_Mixture, Tensor, Tensor]:
        size = _size(s)
        told = c.expand(size.shape)
        return _mixture(self.first(_features(s, size, told).float()), size, told), size, told

    def _second(self, u1: Tensor, s: Tensor, size: Tensor, told: Tensor) -> _Mixture:
        offset = (u1 - size) / _deviation(told)
        seen = torch.stack([torch.tanh(offset / 4), torch.asinh(offset), torch.log1p(offset.square())], -1)
        parameters = self.second(torch.cat([_features(s, size, told), seen], -1).float())
        return _mixture(parameters, torch.zeros_like(size), told)


def _network(inputs: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(WIDTH, outputs)
    nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.zero_()
        # Deviations start spread over two octaves, so that the components differ.
        last.bias[2 * COMPONENTS : 3 * COMPONENTS] = torch.linspace(-0.7, 1.5, COMPONENTS)
    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), last)


def _mixture(parameters: Tensor, centre: Tensor, told: Tensor) -> _Mixture:
    """Means about ``centre`` plus a shift in signal units, spread in units of the noise's deviation, which scales the rest."""
    logits, means, log_deviations, shift = parameters.double().split([COMPONENTS, COMPONENTS, COMPONENTS, 1], -1)
    deviation = _deviation(told)[..., None]
    means = centre[..., None] + shift + deviation * means
    return _Mixture(torch.log_softmax(logits, -1), means, log_deviations + deviation.log())


def _features(s: Tensor, size: Tensor, told: Tensor) -> Tensor:
    return torch.stack([size, size.square(), told / 10 - 1, s[..., 0], s[..., 1]], -1)


def _deviation(told: Tensor) -> Tensor:
    """Of one real dimension of noise of the CSNR told: sqrt(N0 / 2)."""
    return math.sqrt(0.5) * torch.pow(10.0, -told / 20)


def _size(s: Tensor) -> Tensor:
    return torch.sqrt(s.square().sum(-1) + 1e-12)


def _turn(y: Tensor, s: Tensor, way: int) -> Tensor:
    """y e^(+-j arg s): a rotation, of Jacobian 1."""
    size = _size(s)
    cosine, sine = s[..., 0] / size, way * s[..., 1] / size
    return torch.stack([y[..., 0] * cosine - y[..., 1] * sine, y[..., 0] * sine + y[..., 1] * cosine], -1)


def to_parts(values: np.ndarray) -> Tensor:
    """complex (...,) -> float64 (..., 2)."""
    return torch.from_numpy(np.stack([values.real, values.imag], -1).astype(np.float64))


def fit(
    sent: np.ndarray, received: np.ndarray, csnr_db: np.ndarray, steps: int = 2500, batch: int = 512, seed: int = 0
) -> NoiseFlow:
    """Maximum likelihood on pairs: complex (n,), complex (n,) and the CSNR of each in dB. Raises InputError.

    A tenth of the pairs, held out, chooses between the weights of every 250 steps, so that few pairs do not overfit.
    """
    if not len(sent) == len(received) == len(csnr_db) or len(sent) < 100:
        raise InputError(f"expected at least 100 pairs of one length, found {len(sent)}, {len(received)} and {len(csnr_db)}")
    if not np.isfinite(received).all():
        raise InputError("received: expected finite numbers")
    torch.manual_seed(seed)
    flow = NoiseFlow()
    s, y, c = to_parts(sent), to_parts(received), torch.from_numpy(np.asarray(csnr_db, np.float64))
    held, rng = len(sent) // 10, np.random.default_rng(seed)
    optimizer = torch.optim.Adam(flow.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps, pct_start=0.1)
    best, kept = math.inf, {name: value.clone() for name, value in flow.state_dict().items()}
    for step in range(1, steps + 1):
        chosen = torch.from_numpy(rng.integers(held, len(sent), batch))
        loss = -flow.log_density(y[chosen], s[chosen], c[chosen]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == steps:
            with torch.no_grad():
                found = -float(flow.log_density(y[:held], s[:held], c[:held]).mean())
            if found < best:
                best, kept = found, {name: value.clone() for name, value in flow.state_dict().items()}
    flow.load_state_dict(kept)
    return flow.eval()


@torch.no_grad()
def log_densities(flow: NoiseFlow, samples: np.ndarray, symbols: np.ndarray, csnr_db: float) -> np.ndarray:
    """ln p(y | s) of every sample under every symbol: complex (k,), (M,) -> (k, M), nats."""
    candidates, told = to_parts(symbols), torch.tensor(csnr_db, dtype=torch.float64)
    found = np.empty((len(samples), len(symbols)))
    for begin in range(0, len(samples), _CHUNK):
        part = to_parts(samples[begin : begin + _CHUNK])
        shape = (len(part), len(symbols), 2)
        found[begin : begin + len(part)] = flow.log_density(part[:, None].expand(shape), candidates.expand(shape), told).numpy()
    return found


def llrs(flow: NoiseFlow, samples: np.ndarray, csnr_db: float, bits: int) -> np.ndarray:
    """(k m,) ln sum_{s: b=1} p(y | s) - ln sum_{s: b=0} p(y | s), the sign of ``modulation.llrs``."""
    return ratios_of(log_densities(flow, samples, points(bits), csnr_db)).reshape(-1)
