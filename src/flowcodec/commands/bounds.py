"""``flowcodec bounds``: certificates of files, and bounds on the rate of a model. Imports inside each body, as in ``cli.py``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flowcodec.commands.options import AsJson, FileModel

app = typer.Typer(no_args_is_help=True, help="Bounds on the rate that hold: for a file, for a model, for a source.")


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help=".flow files encoded with --certificate; - is stdin.")],
    as_json: AsJson = False,
    model: FileModel = None,
) -> None:
    """Decode files and hold their certificates against what they contain."""
    from flowcodec.bounds.file import check_certificate
    from flowcodec.jobs import read_bytes
    from flowcodec.runtime.bundle import load_model

    loaded = None if model is None else load_model(model)
    rows = []
    for name in files:
        found = check_certificate(read_bytes(name), model=loaded)
        rows.append({"file": name, "size_bytes": found.size_bytes, "bound_bytes": found.bytes, "ideal_bytes": found.ideal_bytes})
        if not as_json:
            typer.echo(f"{name}: {found.size_bytes} bytes, certified to have at most {found.bytes}")
    if as_json:
        typer.echo(json.dumps(rows))


@app.command()
def model(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="weights.safetensors of a model.")],
    data: Annotated[
        list[Path],
        typer.Option(
            "--data", metavar="DIR", help="Folder of pictures, repeatable; the held-out ones certify, the others train."
        ),
    ],
    certify: Annotated[
        list[Path] | None, typer.Option("--certify", metavar="DIR", help="Certify on these pictures instead of held-out ones.")
    ] = None,
    step: Annotated[list[float] | None, typer.Option("--step", help="Quantiser step in grey levels, repeatable.")] = None,
    crops: Annotated[int, typer.Option(min=2, help="Random crops that certify.")] = 300,
    side: Annotated[int, typer.Option(help="Pixels on each side of a crop, a power of two.")] = 64,
    divergence: Annotated[
        list[str] | None, typer.Option(help="kl, hellinger, jensen-shannon or renyi-ALPHA, repeatable; kl by default.")
    ] = None,
    delta: Annotated[float, typer.Option(help="Probability with which a bound may fail.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Of crops, noise and critic.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Bound the rate at which a model conveys its latent, with confidence; needs the extra 'research'."""
    from flowcodec.extras import extra

    with extra("research"):
        from flowcodec.bounds import divergence as divergences
        from flowcodec.bounds.model import ReportSettings, report, split
        from flowcodec.model.checkpoint import load_model
        from flowcodec.training.config import DataConfig

    chosen = [divergences.named(name) for name in divergence or ["kl"]]
    for member in chosen:
        member.lower_bound_on_kl(0.0)  # one that says nothing about KL is refused before anything is computed
    settings = ReportSettings(tuple(step or ReportSettings.steps), crops=crops, side=side, delta=delta, seed=seed)
    network, _ = load_model(checkpoint)
    critic_images, certification = split(data, certify or [], DataConfig().validation_every, settings.critic_images)
    rows = []
    for row in report(network, critic_images, certification, settings, chosen):
        rows.append(row)
        if not as_json:
            certified = ", ".join(f"{name} {value:.3f}" for name, value in row["certified_bpp"].items())
            typer.echo(
                f"step {row['step']:.1f}: PSNR {row['psnr_db']:.2f} dB, KL {row['kl_bpp']:.3f} bpp (an estimate, no file size),"
                f" at most {row['upper_bpp']['betting']:.3f} bpp, with the divergence off: {certified}"
            )
    if as_json:
        typer.echo(json.dumps(rows))
