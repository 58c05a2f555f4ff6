"""The number format of every network in the decoder, and its exact execution by ONNX Runtime.

A network value v is held as the integer ``v * 2**FRACTION_BITS``, clipped to ``+-ACTIVATION_MAX``. ONNX Runtime computes on
these integers in float32; since every partial sum stays below 2**24, each result has one right value on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flowcodec.runtime.memory import return_freed_memory

FRACTION_BITS = 6
ACTIVATION_MAX = 1023
ACCUMULATOR_LIMIT = 1 << 24
CORRECTION_BITS = 10
"""Fractional bits, in units of Delta, of what couplings and restoration add: it reaches the picture as it is."""
CORRECTION_MAX = ACTIVATION_MAX << (CORRECTION_BITS - FRACTION_BITS)
LOCATION_MAX = (1 << 15) - 1
"""Largest |location| a prior may predict, in 1/64 of a band's step."""

STRIP_SITES = 1 << 16
"""Sites of a strip: enough to keep the cores busy, few enough to stay in their caches."""
_LARGE_SITES = 1 << 18


@dataclass(frozen=True)
class GraphInfo:
    """What the runtime knows of a graph: rows of context it needs on either side, and its output rows per input row, doubled."""

    halo: int
    double_rows: int
    """2 = as many rows as the input, 4 = twice as many."""


class Runner(Protocol):
    """Executes one graph on integer-valued float32 arrays (N, C, H, W)."""

    def __call__(self, graph: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]: ...


class OrtRunner:
    """ONNX Runtime on the CPU; a session per graph, made at first use.

    The fusions that would fold factors into weights are switched off: exactness must not depend on what an optimiser does.
    """

    def __init__(self, graphs: dict[str, bytes], threads: int, optimise: bool = True) -> None:
        import onnxruntime

        self._ort, self._graphs = onnxruntime, graphs
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.log_severity_level = 3
        # Every session would keep an arena as large as its largest strip.
        self._options.enable_cpu_mem_arena = False
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        level = onnxruntime.GraphOptimizationLevel
        self._options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
        self._sessions: dict[str, tuple[object, list[str]]] = {}

    def __call__(self, graph: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        if graph not in self._sessions:
            session = self._ort.InferenceSession(
                self._graphs[graph],
                self._options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["ConvMulFusion", "ConvAddFusion", "ConvBNFusion"],
            )
            self._sessions[graph] = (session, [node.name for node in session.get_inputs()])
        session, names = self._sessions[graph]
        return session.run(None, dict(zip(names, inputs, strict=True)))  # type: ignore[attr-defined]


def run_in_strips(
    runner: Runner,
    graph: str,
    info: GraphInfo,
    inputs: Sequence[np.ndarray],
    dtypes: Sequence[type],
    strip_sites: int = STRIP_SITES,
) -> list[np.ndarray]:
    """Runs a graph on strips of rows with a halo; exact, since zero padding only ever reaches rows that are cut away.

    ``inputs`` are integer arrays (C, H, W) with even H, all of one size; ``dtypes`` of the outputs. Returns (N, C, H', W').
    """
    height, width = inputs[0].shape[1:]
    rows = max(strip_sites // width // 2 * 2, 2)
    halo = (info.halo + 1) // 2 * 2
    outputs: list[np.ndarray] = []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(top - halo, 0), min(bottom + halo, height)
        results = runner(graph, [np.ascontiguousarray(x[None, :, first:last], np.float32) for x in inputs])
        begin, end = (top - first) * info.double_rows // 2, (bottom - first) * info.double_rows // 2
        if not outputs:
            full = height * info.double_rows // 2
            outputs = [np.empty((*r.shape[:2], full, r.shape[3]), dtype) for r, dtype in zip(results, dtypes, strict=True)]
        target = top * info.double_rows // 2
        for output, result in zip(outputs, results, strict=True):
            output[:, :, target : target + end - begin] = result[:, :, begin:end]
    if height * width >= _LARGE_SITES:
        return_freed_memory()
    return outputs
