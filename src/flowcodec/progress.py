"""What the command line shows on stderr while something takes long: a live line on a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

Item = TypeVar("Item")
Say = Callable[[str], None]


def _console(silent: bool = False) -> Console:
    return Console(stderr=True, highlight=False, markup=False, emoji=False, quiet=silent)


def _progress(console: Console) -> Progress:
    text = TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, overflow="fold"))
    columns = (BarColumn(bar_width=12), MofNCompleteColumn(), TimeRemainingColumn(), text)
    return Progress(*columns, console=console, expand=True, disable=not console.is_terminal)


@contextmanager
def over(items: Sequence[Item], description: str) -> Iterator[tuple[Iterator[Item], Say]]:
    """(the items, each counted on a progress bar; a function that prints a line beside the bar)"""
    console = _console()
    with _progress(console) as progress:
        yield iter(progress.track(items, description=description)), lambda text: console.print(text, soft_wrap=True)


@contextmanager
def busy(description: str) -> Iterator[Say]:
    """Shows what is being done; the function given changes it."""
    console = _console()
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=None)
        yield lambda text: progress.update(task, description=text)


class _Report:
    """A bar with a text on a terminal, now and then a plain line elsewhere."""

    def __init__(self, description: str, silent: bool = False) -> None:
        self.console = _console(silent)
        self.progress = _progress(self.console)
        self.task = self.progress.add_task(description, total=None)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.console.print(text, soft_wrap=True)

    def show(self, text: str, done: int, total: int, plainly: bool) -> None:
        """``plainly``: whether a line is due where there is no terminal."""
        self.progress.update(self.task, description=text, completed=done, total=total)
        if plainly and not self.console.is_terminal:
            self.say(f"{done}/{total}  {text}")


class CountReport(_Report):
    """Shows ``done`` of ``total``; where there is no terminal, at every tenth part."""

    def __init__(self, description: str) -> None:
        super().__init__(description)
        self.description, self._tenths = description, 0

    def __call__(self, done: int, total: int) -> None:
        before, self._tenths = self._tenths, done * 10 // total
        self.show(self.description, done, total, self._tenths > before)


class FilmReport(_Report):
    """Shows frames done, frames per second and the time left; where there is no terminal, nothing."""

    def __init__(self, description: str, total: int | None) -> None:
        super().__init__(description)
        self.description, self.total, self._begun = description, total, perf_counter()

    def __call__(self, done: int) -> None:
        text = f"{self.description}  {done / max(perf_counter() - self._begun, 1e-9):.1f} fps"
        total = None if self.total is None else max(self.total, done)
        self.progress.update(self.task, description=text, completed=done, total=total)


class TrainingReport(_Report):
    """Rows of a training run: {"event": "decode" | "train" | "validation", ...} as flowcodec.training.loop.Trainer gives them."""

    def __init__(self, silent: bool = False) -> None:
        super().__init__("starting", silent)
        self.file_rate = ""

    def __call__(self, row: dict[str, Any]) -> None:
        event = row.get("event")
        if event == "decode":
            self.show(
                "decoding the training images", row["done"], row["total"], row["done"] % 100 == 0 or row["done"] == row["total"]
            )
        elif event == "validation":
            self.file_rate = file_rate_text(row)
            self.say(f"step {row['step']}  validation  {validation_text(row)}")
        elif event == "train":
            self.show("  ".join(filter(None, [training_text(row), self.file_rate])), row["step"], row["steps"], True)


def training_text(row: dict[str, Any]) -> str:
    return (
        f"loss {row['loss']:.4f}  kl {row['kl_bpp']:.3f} bpp  PSNR {row['psnr_db']:.2f} dB  {row['pixels_per_s'] / 1e6:.3f} Mpx/s"
    )


def file_rate_text(row: dict[str, Any]) -> str:
    """Bits per pixel of rounded latents, one for each step of the validation: ``file 3.10 1.24 0.41 0.11 bpp``."""
    rates = [f"{values['bpp']:.2f}" for name, values in row.get("steps", {}).items() if name.endswith("_file")]
    return f"file {' '.join(rates)} bpp" if rates else ""


def validation_text(row: dict[str, Any]) -> str:
    parts = [f"loss {row['loss']:.4f}  file loss {row['file_loss']:.4f}"]
    for name, values in row.get("steps", {}).items():
        if name.endswith("_file"):
            step = name.removeprefix("step_").removesuffix("_file")
            parts.append(f"Δ {step}: file {values['bpp']:.3f} bpp {values['psnr_db']:.2f} dB")
    return "  ".join(parts)
