"""Films of the benchmark: clips as YUV 4:2:0 planes and as RGB, and what is measured of their decodes.

PSNR is the mean over frames of each frame's PSNR, as is usual for films; ``psnr_yuv_db`` weighs Y, U and V by 6:1:1. Planes are
those of the file; RGB is made of them by ``flowcodec.video.yuv`` for all codecs alike. Needs the extra 'video'.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np

from flowcodec.benchmark.sources import VIDEO_SUFFIXES, spread
from flowcodec.errors import InputError
from flowcodec.runtime.quality import ms_ssim, psnr_db
from flowcodec.video.search import dense_flow
from flowcodec.video.yuv import Matrix, Planes, yuv_to_rgb

MS_SSIM_EVERY = 8
"""MS-SSIM of every so many-th frame, on the luma."""
CAMERA_EVERY = 4
QUICK_FRAMES = 9
_LOSSLESS_DB = 100.0
_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{4}|[A-Za-z0-9_-]{11}")
YOUTUBE_8M_HINT = (
    "a folder with the videos themselves, each named by its id: the 4 characters of YouTube-8M or the 11 of YouTube "
    "(FOLDER/nXSc.mp4, or FOLDER/nX/nXSc.mp4). YouTube-8M distributes features and labels only, the videos are on YouTube"
)


@dataclass(frozen=True)
class Clip:
    """A film held in memory: 8-bit 4:2:0 planes of each frame."""

    name: str
    rate: Fraction
    planes: tuple[Planes, ...]
    matrix: Matrix

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        height, width = self.planes[0][0].shape
        return height, width

    @property
    def seconds(self) -> float:
        return float(len(self.planes) / self.rate)

    @cached_property
    def rgb(self) -> list[np.ndarray]:
        """uint8 (H, W, 3) of each frame."""
        return [yuv_to_rgb(planes, self.matrix) for planes in self.planes]


def read_clip(path: Path, limit: int | None = None) -> Clip:
    """The first ``limit`` frames of a film, or all. Raises InputError for what is not 8-bit 4:2:0 of one size."""
    planes: list[Planes] = []
    try:
        with av.open(str(path)) as film:
            stream = film.streams.video[0]
            rate = Fraction(stream.average_rate or 25)
            for frame in film.decode(stream):
                if frame.format.name not in ("yuv420p", "yuvj420p"):
                    raise InputError(f"{path}: expected 8-bit 4:2:0, found {frame.format.name}; convert it first")
                planes.append(frame_planes(frame))
                full = frame.format.name == "yuvj420p" or frame.color_range == 2
                if planes[-1][0].shape != planes[0][0].shape:
                    raise InputError(f"{path}: changes its size after {len(planes) - 1} frames")
                if len(planes) == limit:
                    break
            code = int(stream.codec_context.colorspace or 2)
    except (av.FFmpegError, OSError, IndexError) as error:
        raise InputError(f"{path}: cannot be read as a film ({error})") from error
    if not planes:
        raise InputError(f"{path}: holds no frames")
    return Clip(path.stem, rate, tuple(planes), Matrix(code, full, planes[0][0].shape[0]))


def frame_planes(frame: Any) -> Planes:
    """Y, U, V of an 8-bit frame, copied."""
    y, u, v = (np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width].copy() for p in frame.planes[:3])
    return y, u, v


def films_in(path: Path, limit: int | None = None) -> list[Path]:
    """A film, or those of a folder by name, at most ``limit`` of them evenly spread. Raises InputError."""
    films = [path]
    if path.is_dir():
        films = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES)
    if not films or not path.exists():
        raise InputError(f"{path}: no films; expected files ending in {', '.join(sorted(VIDEO_SUFFIXES))}")
    return spread(films, limit)


def youtube_8m(folder: Path, limit: int | None = None) -> list[Path]:
    """Videos of YouTube-8M by id, evenly spread. Raises InputError that says how the folder must be laid out.

    Reference: Abu-El-Haija et al., YouTube-8M: a large-scale video classification benchmark, 2016.
    """
    found: dict[str, Path] = {}
    if folder.is_dir():
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in VIDEO_SUFFIXES and _YOUTUBE_ID.fullmatch(file.stem):
                found.setdefault(file.stem, file)
    if not found:
        raise InputError(f"{folder}: no YouTube-8M videos here; expected {YOUTUBE_8M_HINT}")
    return spread([found[name] for name in sorted(found)], limit)


def about(clip: Clip) -> dict[str, Any]:
    """What a clip is; ``camera_px``: pixels that the whole picture moves from frame to frame, the median over both."""
    height, width = clip.size
    digest = hashlib.sha256()
    for planes in clip.planes:
        for plane in planes:
            digest.update(plane.tobytes())
    lumas = [planes[0] for planes in clip.planes]
    moves = [
        float(np.hypot(*np.median(dense_flow(now, before).reshape(-1, 2), axis=0)))
        for before, now in zip(lumas[::CAMERA_EVERY], lumas[1::CAMERA_EVERY], strict=False)
    ]
    camera = round(float(np.median(moves)), 2) if moves else None
    facts = {"width": width, "height": height, "frames": len(clip.planes), "fps": float(clip.rate), "seconds": clip.seconds}
    return facts | {"camera_px": camera, "sha256": digest.hexdigest()}


def measure(clip: Clip, planes: Sequence[Planes], rgb: Sequence[np.ndarray]) -> dict[str, Any]:
    """Columns of a result row: PSNR of Y, U, V, their 6:1:1 mean and RGB in dB, MS-SSIM of the luma, PSNR of each frame."""
    if len(planes) != len(clip.planes) or len(rgb) != len(clip.planes):
        raise InputError(f"{clip.name}: expected {len(clip.planes)} frames, decoded {len(planes)}")
    components = np.array([[_psnr(a, b) for a, b in zip(x, y, strict=True)] for x, y in zip(clip.planes, planes, strict=True)])
    frames = components @ np.array([6, 1, 1]) / 8
    similar = [ms_ssim(clip.planes[k][0], planes[k][0]) for k in range(0, len(planes), MS_SSIM_EVERY)]
    return {
        "psnr_y_db": float(components[:, 0].mean()),
        "psnr_u_db": float(components[:, 1].mean()),
        "psnr_v_db": float(components[:, 2].mean()),
        "psnr_yuv_db": float(frames.mean()),
        "psnr_rgb_db": float(np.mean([_psnr(a, b) for a, b in zip(clip.rgb, rgb, strict=True)])),
        "ms_ssim_y": None if similar[0] is None else float(np.mean([value for value in similar if value is not None])),
        "frames_psnr_yuv_db": [round(float(value), 2) for value in frames],
    }


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    """dB, of equal pictures 100: a mean over frames has no place for infinity."""
    return min(psnr_db(a, b), _LOSSLESS_DB)
