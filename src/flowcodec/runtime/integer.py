"""The number format of every network in the decoder, and its exact execution by ONNX Runtime.

A network value v is held as the integer ``v * 2**FRACTION_BITS``, clipped to ``+-ACTIVATION_MAX``. ONNX Runtime computes on
these integers in float32; since every partial sum stays below 2**24, each result has one right value on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Protocol

import numpy as np

FRACTION_BITS = 6
ACTIVATION_MAX = 1023
ACCUMULATOR_LIMIT = 1 << 24
CORRECTION_BITS = 10
"""Fractional bits, in units of Delta, of what couplings and restoration add: it reaches the picture as it is."""
CORRECTION_MAX = ACTIVATION_MAX << (CORRECTION_BITS - FRACTION_BITS)
_MOSTLY_3X3 = ("stage14", "stage15")
_ARENA = {"arena_extend_strategy": 1}
"""Grown by what is asked for, not by doubling."""
LOCATION_MAX = (1 << 15) - 1
"""Largest |location| a prior may predict, in 1/64 of a band's step."""


@dataclass(frozen=True)
class GraphInfo:
    """What the runtime knows of a graph: rows of context it needs on either side, and its output rows per input row, doubled."""

    halo: int
    double_rows: int
    """2 = as many rows as the input, 4 = twice as many."""


class Runner(Protocol):
    """Executes one graph on integer-valued float32 arrays (N, C, H, W)."""

    threads: int
    """How many threads may call it at a time."""

    def __call__(self, graph: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]: ...


@cache
def _register_arena() -> None:
    """One pool of memory for the tensors of all sessions of the process that ask for it."""
    import onnxruntime

    place = onnxruntime.OrtMemoryInfo("Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg(_ARENA))


class OrtRunner:
    """ONNX Runtime on the CPU; a session per graph, made at first use.

    Threads work on tiles, each with a whole call of its own (``tiles.py``): within a call, they would wait for each other at
    every node. What may be put into a convolution is decided here (``fusion.py``); ONNX Runtime's own fusions into weights are
    switched off, since exactness must not depend on what an optimiser does.
    """

    def __init__(self, graphs: dict[str, bytes], threads: int, optimise: bool = True) -> None:
        import onnxruntime

        self._ort, self._graphs, self._optimise = onnxruntime, graphs, optimise
        self.threads = threads
        self._sessions: dict[str, tuple[object, list[str]]] = {}
        self._lock = Lock()

    def _options(self, graph: str) -> object:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # With an arena of its own, every session would keep as much as its largest tile; with none, all begin with fresh pages.
        _register_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        level = self._ort.GraphOptimizationLevel
        # These are mostly 1x1 convolutions: putting channels in blocks for them costs more than it gains. The last two stages
        # see so much that their 3x3 convolutions outweigh the others.
        unblocked = graph.startswith(("stage", "carry")) and not graph.startswith(_MOSTLY_3X3)
        optimised = level.ORT_ENABLE_EXTENDED if unblocked else level.ORT_ENABLE_ALL
        options.graph_optimization_level = optimised if self._optimise else level.ORT_DISABLE_ALL
        return options

    def _session(self, graph: str) -> tuple[object, list[str]]:
        from flowcodec.runtime.fusion import fused  # it builds on this module

        with self._lock:
            if graph not in self._sessions:
                session = self._ort.InferenceSession(
                    fused(self._graphs[graph]) if self._optimise else self._graphs[graph],
                    self._options(graph),
                    providers=["CPUExecutionProvider"],
                    disabled_optimizers=["ConvAddFusion", "ConvBNFusion"],
                )
                self._sessions[graph] = (session, [node.name for node in session.get_inputs()])
            return self._sessions[graph]

    def __call__(self, graph: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        session, names = self._session(graph)
        return session.run(None, dict(zip(names, inputs, strict=True)))  # type: ignore[attr-defined]
