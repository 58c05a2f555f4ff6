"""The torch twin of ``runtime.integer.OrtRunner``: the trainable model in fixed arithmetic, on the decoder's integers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from flowcodec.model.codec import FlowCodecModel
from flowcodec.runtime.channel import SCALE_BITS, SCALE_LOG2_FIRST
from flowcodec.runtime.integer import CORRECTION_BITS, FRACTION_BITS


class TorchRunner:
    """Runs graphs by the names the exporter gives them; equal to ONNX Runtime and to the NumPy oracle, bit for bit."""

    threads = 1

    def __init__(self, model: FlowCodecModel) -> None:
        self.model = model
        self.unit = float(1 << FRACTION_BITS)

    @torch.no_grad()
    def __call__(self, graph: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        fixed, self.model.arithmetic.fixed = self.model.arithmetic.fixed, True
        try:
            tensors = [torch.from_numpy(np.ascontiguousarray(x, np.float32)) / self.unit for x in inputs]
            return [y.numpy() for y in self._run(graph, tensors)]
        finally:
            self.model.arithmetic.fixed = fixed

    def _run(self, graph: str, x: list[torch.Tensor]) -> list[torch.Tensor]:
        if graph == "restoration":
            return [self.model.restoration(torch.cat(x[:2], 1), *x[2:]) * (1 << CORRECTION_BITS)]
        name, _, group = graph.rpartition("_")
        if name in ("update", "predict"):
            return [getattr(self.model.flow.couplings[int(group)], name)(torch.cat(x, 1)) * (1 << CORRECTION_BITS)]
        prior: Any = self.model.priors[int(group)]
        if name == "trunk":
            return [prior.trunk(torch.cat(x[:3], 1), *x[3:]) * self.unit]
        if name == "carry":
            return [prior.carry(*x) * self.unit]
        stage = prior.stages[int(name.removeprefix("stage"))]
        trunk, *others = x
        location, scale, gate = stage(trunk, others[0] if stage.from_seen is not None else None, others[-1] if others else None)
        location, log2_scale = prior.predictions(location, scale)
        outputs = [location * self.unit, (log2_scale - SCALE_LOG2_FIRST).clamp(min=0) * (1 << SCALE_BITS)]
        return outputs if gate is None else [*outputs, gate * self.unit]
