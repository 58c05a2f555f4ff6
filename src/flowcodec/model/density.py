"""The learned shape of the prior: a symmetric scale mixture of Gaussians around the location."""

import math

import torch
from torch import Tensor, nn

MIXTURE_LOG_RATIOS = (-0.7, 0.0, 0.8)
"""ln of each component's standard deviation over the predicted scale."""
KINDS = 2
"""0: luma, 1: chroma."""


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-x * 2**-0.5)


class ScaleMixture(nn.Module):
    """p(v) = sum_i w_i(s) N(v; 0, (s r_i)^2), log-weights affine in ln s, one set for each kind.

    Scales are given as log2 s in steps. All methods are elementwise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(KINDS, len(MIXTURE_LOG_RATIOS), 2))

    def components(self, log2_scale: Tensor, kind: int) -> tuple[Tensor, Tensor]:
        """(log weights, standard deviations), each with a leading axis over the components."""
        log_scale = log2_scale * math.log(2)
        affine = self.logits[kind].view(len(MIXTURE_LOG_RATIOS), 2, *[1] * log2_scale.ndim)
        log_weights = torch.log_softmax(affine[:, 0] + affine[:, 1] * 0.1 * log_scale, dim=0)
        deviations = torch.stack([torch.exp(log_scale + r) for r in MIXTURE_LOG_RATIOS])
        return log_weights, deviations

    def noisy(self, offset: Tensor, log2_scale: Tensor, kind: int, variance: float) -> tuple[Tensor, Tensor]:
        """(ln density of v + noise at ``offset``, E[v | v + noise = offset]) for Gaussian noise of the given variance."""
        log_weights, deviations = self.components(log2_scale, kind)
        clean = deviations.square()
        total = clean + variance
        joint = log_weights - 0.5 * (torch.log(2 * math.pi * total) + offset.square() / total)
        log_prob = torch.logsumexp(joint, dim=0)
        gain = (torch.exp(joint - log_prob) * (clean / total)).sum(0)
        return log_prob, offset * gain

    def cell(self, low: Tensor, high: Tensor, log2_scale: Tensor, kind: int) -> tuple[Tensor, Tensor]:
        """(mass, mean) of v on [low, high]; a cell beyond the tails has its centre for a mean."""
        log_weights, deviations = self.components(log2_scale, kind)
        a, b = low / deviations, high / deviations
        weights = log_weights.exp()
        # On the far side both CDFs are near 1: mirror, so that their difference keeps its digits.
        mirrored = a > 0
        a_, b_ = torch.where(mirrored, -b, a), torch.where(mirrored, -a, b)
        mass = weights * (_normal_cdf(b_) - _normal_cdf(a_))
        moment = weights * deviations * (torch.exp(-0.5 * a.square()) - torch.exp(-0.5 * b.square())) / math.sqrt(2 * math.pi)
        total = mass.sum(0)
        # In a cell far narrower than the density the mean is the centre; a difference of exponentials has lost its digits there.
        known = (total > 1e-9) & (high - low > deviations[0] / 64)
        centroid = torch.where(known, moment.sum(0) / total.clamp(min=1e-9), (low + high) / 2)
        return total, torch.maximum(torch.minimum(centroid, high), low)
