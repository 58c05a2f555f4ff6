"""Made-up graphics on training crops: frames, rules, boxes, lettering.

Pictures from the web carry what a camera never makes: a frame of one pixel, a caption, a logo. A prior that has seen photographs
alone gives them next to no probability, and a frame can cost more than all the rest of a dark picture
(``benchmarks/graphics.py``). A crop's sides stand for a picture's: what is drawn along them is a frame.
"""

import string
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LETTERS = string.ascii_letters + string.digits + "  .,:-!?"
Colour = tuple[int, int, int]


def _colour(random: np.random.Generator) -> Colour:
    """Black, white, grey or any."""
    kind = random.random()
    if kind < 0.5:
        return (255, 255, 255) if kind < 0.25 else (0, 0, 0)
    if kind < 0.7:
        level = int(random.integers(256))
        return (level, level, level)
    red, green, blue = (int(value) for value in random.integers(0, 256, 3))
    return (red, green, blue)


def frame(draw: ImageDraw.ImageDraw, side: int, random: np.random.Generator) -> None:
    """Along all sides or some, mostly a pixel or two wide."""
    colour, width = _colour(random), int(random.choice((1, 2, 3, 8), p=(0.55, 0.2, 0.15, 0.1)))
    last = side - 1
    bars = [(0, 0, last, width - 1), (0, side - width, last, last), (0, 0, width - 1, last), (side - width, 0, last, last)]
    everywhere = random.random() < 0.5
    for bar in bars:
        if everywhere or random.random() < 0.5:
            draw.rectangle(bar, fill=colour)


def rules(draw: ImageDraw.ImageDraw, side: int, random: np.random.Generator) -> None:
    """One to four straight lines, upright or level three times of four."""
    for _ in range(int(random.integers(1, 5))):
        x0, y0, x1, y1 = (int(value) for value in random.integers(0, side, 4))
        turn = random.random()
        if turn < 0.375:
            x1 = x0
        elif turn < 0.75:
            y1 = y0
        draw.line((x0, y0, x1, y1), fill=_colour(random), width=int(random.integers(1, 4)))


def boxes(draw: ImageDraw.ImageDraw, side: int, random: np.random.Generator) -> None:
    """One to three flat rectangles or ellipses of up to half the side, some with a border."""
    for _ in range(int(random.integers(1, 4))):
        width, height = (int(value) for value in random.integers(4, max(side // 2, 5), 2))
        left, top = (int(value) for value in random.integers(-width // 2, side, 2))
        shape = draw.rectangle if random.random() < 0.7 else draw.ellipse
        border = _colour(random) if random.random() < 0.4 else None
        shape((left, top, left + width, top + height), fill=_colour(random), outline=border)


def lettering(draw: ImageDraw.ImageDraw, side: int, random: np.random.Generator) -> None:
    """One to three lines of random letters, half of them on a flat ground."""
    for _ in range(int(random.integers(1, 4))):
        font = ImageFont.load_default(float(random.integers(9, 28)))
        text = "".join(random.choice(list(LETTERS), int(random.integers(3, 24))))
        left, top = (float(value) for value in random.integers(-8, side - 8, 2))
        place = (left, top)
        if random.random() < 0.5:
            draw.rectangle(draw.textbbox(place, text, font), fill=_colour(random))
        draw.text(place, text, _colour(random), font)


KINDS: dict[str, Callable[[ImageDraw.ImageDraw, int, np.random.Generator], None]] = {
    "frame": frame,
    "rules": rules,
    "boxes": boxes,
    "lettering": lettering,
}


def with_graphics(crop: np.ndarray, random: np.random.Generator, kind: str | None = None) -> np.ndarray:
    """uint8 (S, S, 3) -> a copy with graphics of one of ``KINDS``, of a random one without ``kind``."""
    image = Image.fromarray(np.ascontiguousarray(crop))
    KINDS[kind or str(random.choice(list(KINDS)))](ImageDraw.Draw(image), len(crop), random)
    return np.asarray(image)
