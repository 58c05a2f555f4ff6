"""Speed: warm encoding and decoding of one image, start-up of the command line, and the decoder's multiply-accumulates.

    python benchmarks/speed.py IMAGE [--threads 2] [--repeats 15] [--quality 60] [--out results/speed.json]

Encoding and decoding go through the Python API in one process, from pixels to bytes and back; the first call is not counted.
Start-up is the wall time of a new process. Run it with nothing else on the machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import onnx

import flowcodec
from flowcodec.benchmark.datasets import DatasetImage
from flowcodec.benchmark.environment import environment
from flowcodec.runtime import container
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.decode import decode_latent, make_runner
from flowcodec.runtime.integer import Runner

RESULTS = Path(__file__).parents[1] / "results"
EFFORT = 6
"""Of the encoding that is timed beside the default, once."""
COMMAND = (sys.executable, "-c", "from flowcodec.cli import main; main()")


class CountingRunner:
    """Runs graphs and counts the multiply-accumulates of their convolutions, halos of strips included."""

    def __init__(self, model: Model, runner: Runner) -> None:
        self.model, self.runner, self.macs = model, runner, 0
        self._known: dict[tuple[Any, ...], int] = {}

    def __call__(self, graph: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        key = (graph, *(x.shape for x in inputs))
        if key not in self._known:
            self._known[key] = convolution_macs(self.model.graphs[graph], [x.shape for x in inputs])
        self.macs += self._known[key]
        return self.runner(graph, inputs)


def convolution_macs(graph: bytes, shapes: Sequence[tuple[int, ...]]) -> int:
    """Multiply-accumulates of all convolutions of an ONNX graph, for inputs of the given shapes."""
    model = onnx.load_from_string(graph)
    uncounted = {node.op_type for node in model.graph.node} & {"ConvTranspose", "Gemm", "MatMul"}
    if uncounted:
        raise NotImplementedError(f"{uncounted.pop()} in a graph of the model: teach convolution_macs to count it")
    for value, shape in zip(model.graph.input, shapes, strict=True):
        for dimension, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
            dimension.dim_value = size
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*inferred.value_info, *inferred.output)}
    weights = {initializer.name: list(initializer.dims) for initializer in inferred.initializer}
    convolutions = [node for node in inferred.node if node.op_type == "Conv"]
    return sum(prod(values[node.output[0]]) * prod(weights[node.input[1]][1:]) for node in convolutions)


def seconds(call: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median and range of ``repeats`` calls after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return {"median_s": median(times), "min_s": min(times), "max_s": max(times)}


def start_up(arguments: Sequence[str], repeats: int) -> dict[str, float]:
    command = [*COMMAND, *arguments]
    return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), repeats)


def decoder_kmac_per_pixel(data: bytes) -> float:
    file = container.read(data)
    model = flowcodec.load_model("default")
    runner = CountingRunner(model, make_runner(model, 1))
    decode_latent(file.latents, file.header, model, runner)
    return runner.macs / (file.header.width * file.header.height) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quality", type=float, default=60)
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.json")
    arguments = parser.parse_args()
    image = DatasetImage(arguments.image.stem, arguments.image)
    pixels = image.pixels()

    def encode() -> bytes:
        return flowcodec.encode(pixels, arguments.quality, threads=arguments.threads)

    data = encode()
    height, width = pixels.shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.flow"
        file.write_bytes(data)
        start = {"help": start_up(["--help"], arguments.repeats), "info": start_up(["info", str(file)], arguments.repeats)}
    refined = seconds(lambda: flowcodec.encode(pixels, arguments.quality, threads=arguments.threads, effort=EFFORT), 1)
    result = {
        "environment": environment() | {"load_average": os.getloadavg()[0]},
        "model": flowcodec.load_model("default").id.hex(),
        "settings": {"threads": arguments.threads, "quality": arguments.quality, "repeats": arguments.repeats},
        "image": {"name": image.name, "width": width, "height": height, "bpp": 8 * len(data) / (width * height)},
        "encode": seconds(encode, arguments.repeats),
        "encode_refined": refined | {"effort": EFFORT},
        "decode": seconds(lambda: flowcodec.decode(data, threads=arguments.threads), arguments.repeats),
        "start_up": start,
        "decoder_kmac_per_pixel": decoder_kmac_per_pixel(data),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
