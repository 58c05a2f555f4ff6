"""Commands that make models: ``train`` and ``export``. Imports are inside, as in ``cli``."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from flowcodec.commands.options import Threads
from flowcodec.errors import InputError
from flowcodec.extras import extra
from flowcodec.text import facts_of, lines

app = typer.Typer()


class _ManyFolders(TyperCommand):
    """``--data A B`` means ``--data A --data B``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        expanded: list[str] = []
        within = False
        for position, arg in enumerate(args):
            if arg.startswith("-"):
                within = arg == "--data"
            elif within and args[position - 1] != "--data":
                expanded.append("--data")
            expanded.append(arg)
        return super().parse_args(ctx, expanded)


@app.command(cls=_ManyFolders)
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file, see configs/.")],
    data: Annotated[list[Path], typer.Option("--data", metavar="DIR...", help="Folders of training images.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the run: state, weights, metrics.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in OUT stopped.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after this time; --resume goes on.")] = None,
    threads: Threads = None,
) -> None:
    """Train a model; needs the extra 'train'. Several GPUs: torchrun --nproc-per-node N -m flowcodec.cli train ..."""
    with extra("train"):
        import torch

        from flowcodec.training.config import TrainingConfig
        from flowcodec.training.loop import STATE_FILE, WEIGHTS_FILE, Trainer
    from flowcodec.progress import TrainingReport

    settings = TrainingConfig.read(config)
    if not resume and (out / STATE_FILE).exists():
        raise InputError(f"{out}: already holds a run; pass --resume to go on with it, or give another --out")
    if threads is not None:
        torch.set_num_threads(threads)
    with TrainingReport(silent=os.environ.get("RANK", "0") != "0") as report:
        trainer = Trainer(settings, data, out, device, report)
        if resume:
            trainer.resume()
        trainer.run(minutes)
        report.say(f"step {trainer.step} of {settings.optimizer.steps}; averaged weights in {out / WEIGHTS_FILE}")


@app.command(cls=_ManyFolders)
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="weights.safetensors of a run.")],
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model file to write, ending in .flowmodel.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="DIR...",
            help="Folders of photographs (of pairs for P-frames): training ones give the tables their shape, held-out ones "
            "measure the rate lost. Without them the density as learned and a bundled photograph.",
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="The checkpoint to compare with, if CHECKPOINT was trained in integers.")
    ] = None,
) -> None:
    """Turn a checkpoint into a model file and prove its integer bounds; needs the extra 'train'."""
    with extra("train"):
        from flowcodec.export.run import export_model
        from flowcodec.training.config import DataConfig
        from flowcodec.training.data import held_out_crops, training_crops
        from flowcodec.training.pairs import INDEX_FILE, PairStore, spread_pairs

    from flowcodec.demo import PHOTO
    from flowcodec.runtime.image import read_picture

    # Without other photographs the bundled one serves, which is held out from training too.
    indices: tuple[list[int], list[int]] = ([], [])
    if data and (data[0] / INDEX_FILE).exists():
        store = PairStore(data)
        (images, held_out), (counted, trained) = spread_pairs(store, True, 8), spread_pairs(store, False, 48)
        indices = (held_out, trained)
    else:
        images = held_out_crops(data, DataConfig()) if data else [read_picture(PHOTO).pixels]
        counted = training_crops(data, DataConfig(), count=96, side=256) if data else []
    card = export_model(checkpoint, model, lambda row: typer.echo("  ".join(facts_of(row))), images, reference, counted, indices)
    typer.echo("\n".join(lines({name: value for name, value in card.items() if name != "training"})))
