"""``flowcodec radio``: pictures over noisy links. Everything heavy is imported inside the commands."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import typer

from flowcodec.errors import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Pictures over noisy radio links; needs the extra 'radio'.")

Cbr = Annotated[str, typer.Option("--cbr", help="Complex channel uses per colour sample, such as 1/12.")]
DesignSnr = Annotated[float, typer.Option("--design-snr", min=-5, max=25, help="CSNR in dB that the modes are chosen for.")]
Share = Annotated[float, typer.Option(min=0.005, max=0.5, help="Share of the power in the analog layer (hybrid).")]


def _cbr(text: str) -> float:
    try:
        value = float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        value = 0.0
    if not 0 < value <= 2:
        raise typer.BadParameter(f"expected a number or a fraction above 0 and up to 2, found {text!r}", param_hint="--cbr")
    return value


def _range(text: str) -> tuple[float, ...]:
    """``A:B:STEP``, both ends included, or numbers separated by commas."""
    try:
        if ":" in text:
            low, high, step = (float(part) for part in text.split(":"))
            count = int((high - low) / step + 1e-9) + 1
            values = tuple(round(low + step * index, 6) for index in range(count))
        else:
            values = tuple(float(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        values = ()
    if not values:
        raise typer.BadParameter(f"expected LOW:HIGH:STEP or numbers separated by commas, found {text!r}", param_hint="--snr")
    return values


@app.command()
def simulate(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images or folders of images.")],
    mode: Annotated[Literal["digital", "hybrid", "layered", "analog"], typer.Option(help="What is compared.")] = "hybrid",
    cbr: Cbr = "1/12",
    design_snr: DesignSnr = 10.0,
    link: Annotated[
        Literal["awgn", "rayleigh-slow", "rayleigh-fast", "erasure", "impulsive"], typer.Option(help="The simulated link.")
    ] = "awgn",
    snr: Annotated[str, typer.Option("--snr", metavar="LOW:HIGH:STEP", help="CSNRs in dB.")] = "1:19:3",
    draws: Annotated[int, typer.Option(min=1, help="Draws of the link for each image and CSNR.")] = 10,
    share: Share = 0.05,
    receiver: Annotated[Literal["denoiser", "linear"], typer.Option(help="Receiver of mode analog.")] = "denoiser",
    coded: Annotated[
        bool, typer.Option("--coded", help="Code and decode every block, instead of drawing its fate from measured rates.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    out: Annotated[Path, typer.Option(metavar="FILE", help="JSON file of the results; a plot goes beside it.")] = Path(
        "radio.json"
    ),
) -> None:
    """Simulate systems over a link: PSNR and MS-SSIM over CSNR, with JPEG and WebP behind the same code in mode digital.

    Mode layered is for the link rayleigh-slow: its layers are chosen for fades around each CSNR.
    """
    from flowcodec.benchmark.classical import Jpeg, WebP
    from flowcodec.benchmark.datasets import find_images
    from flowcodec.benchmark.environment import environment
    from flowcodec.progress import CountReport
    from flowcodec.radio.figures import draw
    from flowcodec.radio.simulate import DRAWN, Experiment, simulate
    from flowcodec.runtime.image import write_whole

    experiment = Experiment(mode, _cbr(cbr), design_snr, _range(snr), link, draws, share, seed, receiver, coded)
    pixels = {image.name: image.pixels() for image in find_images(images)}
    codecs = (None, Jpeg(), WebP())
    with CountReport("simulating") as progress:
        (document,) = simulate(pixels, [experiment], codecs, progress)
    document["rows"] = [{key: value for key, value in row.items() if key != DRAWN} for row in document["rows"]]
    document["environment"] = environment()
    write_whole(out, (json.dumps(document, indent=1) + "\n").encode())
    draw(document, out.with_suffix(".png"))
    for curve in document["curves"]:
        cells = "  ".join(f"{point['csnr_db']:g}: {point['psnr_db']:.2f}" for point in curve["points"])
        typer.echo(f"{curve['system']}, PSNR (dB) at CSNR (dB)  {cells}")
    typer.echo(f"results in {out}, plot in {out.with_suffix('.png')}")


@app.command()
def send(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to send.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.sigmf", help="The recording: OUT.sigmf-meta and OUT.sigmf-data.")],
    mode: Annotated[Literal["digital", "hybrid", "analog"], typer.Option(help="Which layers are sent.")] = "hybrid",
    cbr: Cbr = "1/12",
    design_snr: DesignSnr = 10.0,
    share: Share = 0.05,
) -> None:
    """Write a picture as baseband samples in the SigMF format."""
    from flowcodec.jobs import read_image
    from flowcodec.radio import recording
    from flowcodec.radio.transmission import uses_of

    picture = read_image(str(image))
    height, width = picture.pixels.shape[:2]
    uses = uses_of(height, width, _cbr(cbr))
    samples = recording.send(picture.pixels, uses, design_snr, mode, share)
    recording.write(out, samples, f"FlowCodec {mode}, {width}x{height}, {uses} complex channel uses, design {design_snr:g} dB")
    typer.echo(f"{recording.paths(out)[1]}: {len(samples)} samples, {uses} channel uses, {2 * uses} real", err=True)


@app.command()
def receive(
    source: Annotated[Path, typer.Argument(metavar="IN.sigmf", help="The recording.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to write, its format by extension.")],
) -> None:
    """Find a frame in a SigMF recording and write its picture."""
    from flowcodec.radio import recording
    from flowcodec.runtime.image import Picture, format_of, write_picture

    format_of(image)
    found = recording.picture_of(recording.read(source))
    if found.reception.layer == "colour":
        raise InputError(
            f"{source}: a frame at {found.csnr_db:.1f} dB CSNR, but neither its main nor a base layer can be decoded; "
            "record it again closer, or send it for a lower --design-snr"
        )
    write_picture(Picture(found.reception.pixels), image)
    typer.echo(
        f"{image}: from the {found.reception.layer} layer, CSNR {found.csnr_db:.1f} dB, "
        f"carrier offset {100 * found.offset:+.3f} % of the symbol rate",
        err=True,
    )
