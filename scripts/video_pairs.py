"""Makes the pairs that P-frames are trained on: a crop of a frame, and its prediction from the decoded frame before.

    python scripts/video_pairs.py --clips CLIPS --photographs TRAIN --out PAIRS

Clips give frames and their real motion; photographs give sharp ones with made-up motion: pan, zoom, rotation, an object that
moves by itself, noise, exposure. The frame before is decoded at about the step of the pair (torch, with the channel of the files)
and moved by the codec's own motion search. It is an I-frame of the image model, or, for a share of the clips' pairs, the end of a
chain of up to three P-frames of ``--inter-weights``: the error of P-frames is not that of I-frames, and it accumulates.
Every 20th clip and photograph by name is held out.
"""

import argparse
import json
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from PIL import Image

from flowcodec.model import checkpoint
from flowcodec.model.channel import Rounding
from flowcodec.model.codec import FlowCodecModel
from flowcodec.runtime.color import rgb_to_ycc, ycc_to_rgb
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.motion import compensate
from flowcodec.runtime.step import STEP_COUNT, log2_step, step_index
from flowcodec.training.pairs import ARRAY_FILE, INDEX_FILE
from flowcodec.video.search import estimate

SIDE = 256
HELD_OUT_EVERY = 20
BATCH = 8
CORE, WHOLE = (5.0, 90.0), (2.5, 180.0)
"""Quantiser steps, pixel units: three quarters of the pairs from the core."""
PREVIOUS_STEP = (-64, 49)
"""The frame before has a step of its own, from half an octave finer to almost as much coarser."""
LEVELS = 5
CHAINED = 0.65
"""Share of the clips' pairs whose frame before is a P-frame."""
LONGEST_CHAIN = 3
GAPS, GAP_SHARES = (1, 2, 3, 5, 8), (0.64, 0.08, 0.08, 0.1, 0.1)
SHIFTS, SHIFT_SHARES = (0.5, 2, 6, 20), (0.3, 0.3, 0.25, 0.15)
"""Standard deviations of the made-up motion of photographs, pixels a frame."""
SHUTTER = 0.5
"""Share of a frame's time that a shutter is open, at most: fast motion is blurred motion."""


def draw_step(random: np.random.Generator) -> int:
    low, high = CORE if random.random() < 0.75 else WHOLE
    return step_index(float(np.exp(random.uniform(np.log(low), np.log(high)))))


def from_clip(path: Path, count: int, held_out: bool, random: np.random.Generator, chains: bool) -> list[list[np.ndarray]]:
    """Crops [current, the frame before, and with ``chains`` for some up to three more, ever earlier] at random places and times.

    Some of the trained ones are two or three frames apart, some more: fast motion, for which predictions are poor.
    """
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    runs = []
    for _ in range(count):
        gap = 1 if held_out else int(random.choice(GAPS, p=GAP_SHARES))
        earlier = int(random.integers(1, LONGEST_CHAIN + 1)) if chains and random.random() < CHAINED else 0
        reach = gap * (1 + earlier)
        if len(frames) <= reach or min(frames[0].shape[:2]) < SIDE:
            continue
        now = int(random.integers(reach, len(frames)))
        top, left = (int(random.integers(0, extent - SIDE + 1)) for extent in frames[now].shape[:2])
        area = (slice(top, top + SIDE), slice(left, left + SIDE))
        runs.append([frames[now - gap * back][area] for back in range(2 + earlier)])
    return runs


def warp(image: np.ndarray, turn: np.ndarray, shift: np.ndarray, scale: float, centre: np.ndarray) -> np.ndarray:
    """float32 (SIDE, SIDE, 3): what lies at scale * turn * (x - SIDE / 2) + centre + scale * shift."""
    matrix = scale * turn
    offset = centre - matrix @ np.full(2, SIDE / 2) + scale * shift
    interpolation = cv2.INTER_LANCZOS4 if scale <= 1 else cv2.INTER_LINEAR
    transform = np.concatenate([matrix, offset[:, None]], 1)
    return cv2.warpAffine(
        image, transform, (SIDE, SIDE), flags=interpolation | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101
    ).astype(np.float32)


def blur_along(picture: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Mean of the picture moved along ``path``, (right, down) in pixels, in steps of at most one."""
    count = 1 + int(np.ceil(np.abs(path).max()))
    moved = np.zeros_like(picture)
    for part in (np.arange(count) + 0.5) / count - 0.5:
        transform = np.array([[1, 0, part * path[0]], [0, 1, part * path[1]]])
        moved += cv2.warpAffine(picture, transform, picture.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)
    return moved / count


def from_photograph(image: np.ndarray, object_image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(current, previous): both interpolated by half of the motion, so that neither is the softer one."""
    height, width = image.shape[:2]
    scale = float(random.choice([1.0, 1.25, 1.5])) if min(height, width) >= 1.6 * SIDE else 1.0
    if scale > 1:
        image = cv2.GaussianBlur(image, (0, 0), 0.35 * scale)
    reach = SIDE * scale / 2
    centre = np.array([random.uniform(reach, max(extent - reach, reach + 1)) for extent in (width, height)])
    moving = random.random() >= 0.3
    angle, zoom = random.normal(0, 0.006) * moving, 1 + random.normal(0, 0.008) * moving
    shift = random.normal(0, 1, 2) * random.choice(SHIFTS, p=SHIFT_SHARES) * moving
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * zoom - np.eye(2)
    place = random.uniform(-0.5, 0.5, 2)
    pair = [warp(image, np.eye(2) + sign * turn, sign * shift + place, scale, centre) for sign in (0.5, -0.5)]
    if random.random() < 0.5:
        y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
        middle, radius = random.uniform(0.2, 0.8, 2) * SIDE, random.uniform(0.1, 0.3, 2) * SIDE
        velocity = random.normal(0, 1, 2) * random.choice([1, 3, 8])
        object_centre = np.array(object_image.shape[1::-1]) / 2
        for index, sign in enumerate((0.5, -0.5)):
            distance = ((y - middle[0] - sign * velocity[0]) / radius[0]) ** 2 + (
                (x - middle[1] - sign * velocity[1]) / radius[1]
            ) ** 2
            cover = np.clip((1 - distance) * 12, 0, 1)[..., None]
            # Vectors of pictures are (down, right), those of ``warp`` (right, down).
            pair[index] += cover * (warp(object_image, np.eye(2), -sign * velocity[::-1], 1.0, object_centre) - pair[index])
    if random.random() < 0.5:
        pair = [blur_along(picture, shift * random.uniform(0, SHUTTER)) for picture in pair]
    if random.random() < 0.2:
        pair[1] = pair[1] * random.uniform(0.96, 1.04) + random.uniform(-3, 3)
    if random.random() < 0.6:
        deviation = random.uniform(0.4, 3.5)
        pair = [picture + random.normal(0, deviation, picture.shape) for picture in pair]
    current, previous = (np.clip(np.rint(picture), 0, 255).astype(np.uint8) for picture in pair)
    return current, previous


@torch.no_grad()
def decoded(model: FlowCodecModel, pictures: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3), or (N, H, W, 6) with predictions -> (N, H, W, 3): what a file would hold of them."""
    batch = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = model(batch, torch.from_numpy(steps), Rounding(0.7), False, LEVELS).reconstruction
    return np.ascontiguousarray(result.float().clamp(0, 255).round().byte().numpy().transpose(0, 2, 3, 1))


def predicted(current: np.ndarray, previous: np.ndarray, step: int) -> np.ndarray:
    """uint8 (H, W, 3): the decoded frame before, moved."""
    motion = estimate(current, previous, 2.0 ** log2_step(step))
    planes = np.rint(rgb_to_ycc(previous) * (1 << FRACTION_BITS)).astype(np.int32)
    return ycc_to_rgb(compensate(planes, motion.vectors, motion.block))


def last_decoded(
    models: dict[str, FlowCodecModel], runs: list[list[np.ndarray]], steps: np.ndarray, random: np.random.Generator
) -> list[np.ndarray]:
    """The frame before each run's current one, as a file holds it: the earliest frame is an I-frame, those after it P-frames."""
    first = np.clip(steps + random.integers(*PREVIOUS_STEP, len(runs)), 0, STEP_COUNT - 1)
    before = list(decoded(models["image"], np.stack([run[-1] for run in runs]), first))
    for place in range(LONGEST_CHAIN):
        going = [n for n, run in enumerate(runs) if len(run) > 2 + place]
        if not going:
            break
        frames = [runs[n][len(runs[n]) - 2 - place] for n in going]
        with_prediction = [
            np.concatenate([frame, predicted(frame, before[n], int(steps[n]))], 2) for frame, n in zip(frames, going, strict=True)
        ]
        for n, picture in zip(going, decoded(models["inter"], np.stack(with_prediction), steps[going]), strict=True):
            before[n] = picture
    return before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=Path("weights/default.safetensors"))
    chains = "weights of P-frames, for chains; without them all frames before are I-frames"
    parser.add_argument("--inter-weights", type=Path, help=chains)
    parser.add_argument("--per-clip", type=int, default=3)
    parser.add_argument("--from-photographs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    torch.set_num_threads(1)
    models = {"image": checkpoint.load_model(options.weights)[0]}
    if options.inter_weights:
        models["inter"] = checkpoint.load_model(options.inter_weights)[0]
    items: list[tuple[list[np.ndarray], bool]] = []
    for number, path in enumerate(sorted(options.clips.glob("*.mp4"))):
        held_out = number % HELD_OUT_EVERY == 0
        count = options.per_clip + held_out
        items += [(run, held_out) for run in from_clip(path, count, held_out, random, "inter" in models)]
    photographs = sorted(options.photographs.glob("*.avif"))
    trained = [n for n in range(len(photographs)) if n % HELD_OUT_EVERY]
    held = list(range(0, len(photographs), HELD_OUT_EVERY))[:4]
    for number in [*random.choice(trained, max(options.from_photographs - len(held), 0), replace=False), *held]:
        image, other = (np.asarray(Image.open(photographs[n]).convert("RGB")) for n in (number, random.choice(trained)))
        items.append((list(from_photograph(image, other, random)), number in held))
    items = [items[n] for n in random.permutation(len(items))]
    steps = [draw_step(random) for _ in items]
    options.out.mkdir(parents=True, exist_ok=True)
    array = np.lib.format.open_memmap(options.out / ARRAY_FILE, "w+", np.uint8, (len(items), SIDE, SIDE, 6))
    for begin in range(0, len(items), BATCH):
        runs = [run for run, _ in items[begin : begin + BATCH]]
        own = np.array(steps[begin : begin + BATCH])
        before = last_decoded(models, runs, own, random)
        for place, (run, previous, step) in enumerate(zip(runs, before, own, strict=True), start=begin):
            array[place] = np.concatenate([run[0], predicted(run[0], previous, int(step))], 2)
        print(f"{begin + len(runs)} of {len(items)} pairs", flush=True)
    array.flush()
    (options.out / INDEX_FILE).write_text(json.dumps({"step": steps, "held": [bool(held_out) for _, held_out in items]}))


if __name__ == "__main__":
    main()
