"""The command line. Everything heavy is imported inside the commands, so that ``--help`` and ``info`` start at once."""

import io
import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperGroup

from flowcodec.commands import bounds, evidence, radio, training, video
from flowcodec.commands.options import AsJson, Audio, FileModel, Frames, InterModel, ModelName, Start, Threads
from flowcodec.errors import InputError
from flowcodec.text import lines, number, one_line

SUFFIX = ".flow"
_TERMINATED = 128 + signal.SIGTERM


class _Commands(TyperGroup):
    """Errors become one line on stderr and exit code 1; --verbose, anywhere on the line, shows where they come from."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--verbose" in args:
            args = ["--verbose", *(arg for arg in args if arg != "--verbose")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except Exception as error:
            if isinstance(error, typer.Abort) or hasattr(error, "exit_code"):
                raise  # usage errors and exits are reported by Typer
            if ctx.params.get("verbose"):
                import traceback

                typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
            typer.echo(f"error: {one_line(error)}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="FlowCodec: image and video compression with a normalizing flow.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from flowcodec import __version__

        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def _root(
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show where an error comes from; works anywhere on the line.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")] = False,
) -> None:
    pass


# --- files --------------------------------------------------------------------------------------------------------------


@app.command()
def encode(
    inputs: Annotated[list[str], typer.Argument(metavar="IN...", help="Images, films, or folders of them; - is stdin.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="A file, - for stdout, or a folder for several inputs.")],
    quality: Annotated[
        float | None, typer.Option("-q", "--quality", min=0, max=100, help="0 (smallest file) to 100; 60 by default.")
    ] = None,
    step: Annotated[
        float | None, typer.Option("--step", min=0, help="Quantiser step in grey levels, instead of a quality.")
    ] = None,
    size: Annotated[int | None, typer.Option("--size", metavar="BYTES", min=1, help="Size, never exceeded.")] = None,
    bpp: Annotated[float | None, typer.Option("--bpp", min=0, help="The same in bits per pixel.")] = None,
    psnr: Annotated[float | None, typer.Option("--psnr", metavar="DB", min=0, help="PSNR to meet within 0.05 dB.")] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Every pixel exactly.")] = False,
    max_error: Annotated[
        int | None, typer.Option("--max-error", metavar="N", min=0, help="No component of a pixel wrong by more than N.")
    ] = None,
    channel: Annotated[
        Literal["trellis", "round", "dither", "gaussian"] | None,
        typer.Option(help="How noise is simulated: trellis (smallest files), round, dither (exact bits), gaussian (slow)."),
    ] = None,
    model: ModelName = "default",
    threads: Threads = None,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 32) - 1, help="Seed of the shared dither.")] = 0,
    roi: Annotated[
        str | None,
        typer.Option("--roi", metavar="MASK", help="Grey image of the picture's size: white gets more bits than black."),
    ] = None,
    certificate: Annotated[
        bool, typer.Option("--certificate", help="Store a bound on the size that decoders can check.")
    ] = False,
    effort: Annotated[
        int,
        typer.Option(min=1, max=9, help="Above 3 the encoder searches for better symbols: slow, and needs flowcodec[train]."),
    ] = 3,
    cap: Annotated[float | None, typer.Option("--cap", metavar="BPP", min=0, help="Bits per pixel never to exceed.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Decode each file and compare before it is written.")] = False,
    bitrate: Annotated[
        float | None, typer.Option("--bitrate", metavar="KBPS", min=0, help="Of films: kilobits per second of the whole file.")
    ] = None,
    gop: Annotated[int | None, typer.Option("--gop", min=1, help="Of films: frames from one I-frame to the next.")] = None,
    intra: Annotated[bool, typer.Option("--intra", help="Of films: I-frames only.")] = False,
    inter_model: InterModel = None,
    frames: Frames = None,
    start: Start = None,
    audio: Audio = True,
    as_json: AsJson = False,
) -> None:
    """Encode images and films as .flow files."""
    if sum(value is not None for value in (quality, step, size, bpp, psnr, lossless or None, max_error, bitrate)) > 1:
        hint = "--quality / --step / --size / --bpp / --psnr / --lossless / --max-error / --bitrate"
        raise typer.BadParameter("give only one of these", param_hint=hint)
    from flowcodec.jobs import Job, plan, read_image, read_mask, run, write_bytes
    from flowcodec.model.effort import DEFAULT_EFFORT, refiner_of
    from flowcodec.runtime.encode import EncodeSettings, encode_picture
    from flowcodec.runtime.image import READ_SUFFIXES
    from flowcodec.video.sniff import is_film

    settings = EncodeSettings(
        quality=EncodeSettings.quality if quality is None else quality,
        step=step,
        channel=channel,
        model=model,
        threads=threads,
        seed=seed,
        certificate=certificate,
        cap_bpp=cap,
        verify=verify,
        size=size,
        bpp=bpp,
        psnr=psnr,
        roi=None if roi is None else read_mask(roi),
        lossless=lossless,
        max_error=max_error,
        refiner=refiner_of(effort, model, threads, channel),
        feedback=effort >= DEFAULT_EFFORT,
    )

    part = video.Part.parse(frames, start)

    def work(job: Job) -> str:
        if is_film(video.head_of(job.source)):
            from flowcodec.video.encoder import DEFAULT_GOP, VideoSettings

            options = {"size": size, "bpp": bpp, "psnr": psnr, "max-error": max_error, "roi": roi, "cap": cap, "channel": channel}
            options |= {"lossless": lossless or None, "certificate": certificate or None, "verify": verify or None}
            for name, value in options.items():
                if value is not None:
                    raise InputError(f"--{name}: is for images, {job.source} is a film")
            film = VideoSettings(
                60 if quality is None else quality, step, bitrate, gop or DEFAULT_GOP, intra, model, inter_model, threads
            )
            facts = video.encode_film(job, film, part, audio)
            if as_json:
                typer.echo(json.dumps(facts))
            return video.text_of(facts, "encoded")
        picture = read_image(job.source)
        data = encode_picture(picture, settings)
        write_bytes(job.target, data)
        bpp_reached = 8 * len(data) / (picture.width * picture.height)
        if as_json:
            size_text = {"width": picture.width, "height": picture.height}
            typer.echo(json.dumps({"file": job.target, **size_text, "size_bytes": len(data), "bpp": bpp_reached}))
        return f"{job.target}: {picture.width}x{picture.height}, {len(data)} bytes, {bpp_reached:.3f} bpp" + (
            ", verified" if verify else ""
        )

    run(plan(inputs, out, READ_SUFFIXES | video.FILM_SUFFIXES, SUFFIX), work, "encoding")


@app.command()
def decode(
    inputs: Annotated[list[str], typer.Argument(metavar="IN...", help=".flow files or folders of them; - is stdin.")],
    out: Annotated[
        str,
        typer.Argument(
            metavar="OUT", help="A file, its format by extension, - for PNG on stdout, or a folder for several inputs."
        ),
    ],
    threads: Threads = None,
    model: FileModel = None,
    levels: Annotated[
        int, typer.Option("--levels", metavar="K", min=0, help="Leave out the K finest levels: 1/2^K of the size.")
    ] = 0,
    partial: Annotated[
        bool, typer.Option("--partial", help="Decode what there is of a file that is cut short or damaged at the end.")
    ] = False,
    inter_model: InterModel = None,
    frames: Frames = None,
    start: Start = None,
    crf: Annotated[
        float | None, typer.Option("--crf", min=0, max=51, help="Of films: H.264 of this quality instead of a lossless codec.")
    ] = None,
    audio: Audio = True,
    as_json: AsJson = False,
) -> None:
    """Decode .flow files to images and films."""
    from flowcodec.jobs import STANDARD, Job, Plan, plan, read_bytes, run, write_bytes
    from flowcodec.runtime.bundle import load_model
    from flowcodec.runtime.decode import decode_picture
    from flowcodec.runtime.image import format_of, write_picture
    from flowcodec.runtime.progressive import decode_prefix
    from flowcodec.video.sniff import is_flow_film

    planned = plan(inputs, out, {SUFFIX}, ".png")
    films = {job.source for job in planned.jobs if is_flow_film(video.head_of(job.source))}
    if planned.into_folder:
        planned = Plan([video.renamed(job) if job.source in films else job for job in planned.jobs], True)
    for job in planned.jobs:
        if job.target != STANDARD and job.source not in films:
            format_of(Path(job.target))  # a name that cannot be written is refused before anything is decoded
    loaded = None if model is None else load_model(model)
    models = tuple(load_model(name) for name in (model, inter_model) if name is not None)
    part = video.Part.parse(frames, start)

    def work(job: Job) -> str:
        if job.source in films:
            if levels:
                raise InputError(f"--levels: is for images, {job.source} is a film")
            facts = video.decode_film(job, part, threads, models, partial, crf, audio)
            if as_json:
                typer.echo(json.dumps(facts))
            return video.text_of(facts, "decoded")
        if levels or partial:
            picture = decode_prefix(read_bytes(job.source), threads, levels=levels, partial=partial, model=loaded)
        else:
            picture = decode_picture(read_bytes(job.source), threads, model=loaded)
        if job.target == STANDARD:
            stream = io.BytesIO()
            write_picture(picture, stream, "png")
            write_bytes(STANDARD, stream.getvalue())
        else:
            write_picture(picture, Path(job.target))
        return f"{job.target}: {picture.width}x{picture.height}"

    run(planned, work, "decoding")


@app.command()
def info(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A .flow file; - is stdin.")],
    as_json: AsJson = False,
    partial: Annotated[bool, typer.Option("--partial", help="Of a file that is cut short: what is whole.")] = False,
) -> None:
    """Show what a .flow file says about itself, without decoding it."""
    from flowcodec.jobs import read_bytes
    from flowcodec.runtime.info import describe
    from flowcodec.video.sniff import is_flow_film

    facts = video.describe_film(file, partial) if is_flow_film(video.head_of(file)) else describe(read_bytes(file), partial)
    typer.echo(json.dumps(facts) if as_json else "\n".join(lines(facts)))


@app.command()
def compare(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="The image to compare with; - is stdin.")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images or .flow files of the same size.")],
    as_json: AsJson = False,
    model: FileModel = None,
) -> None:
    """Measure PSNR and MS-SSIM (of the colours, without alpha), and the bits per pixel of compressed files."""
    import math

    from flowcodec.jobs import read_any
    from flowcodec.runtime.bundle import load_model
    from flowcodec.runtime.quality import ms_ssim, psnr_db

    loaded = None if model is None else load_model(model)
    original, _ = read_any(reference, loaded)
    rows: list[dict[str, Any]] = []
    for name in images:
        picture, bpp = read_any(name, loaded)
        if picture.pixels.shape[:2] != original.pixels.shape[:2]:
            expected, found = (f"{p.width}x{p.height}" for p in (original, picture))
            raise InputError(f"{name}: expected {expected} as in {reference}, found {found}")
        psnr = psnr_db(original.pixels, picture.pixels)
        identical = math.isinf(psnr)
        similarity = ms_ssim(original.pixels, picture.pixels)
        rows.append(
            {"image": name, "bpp": bpp, "psnr_db": None if identical else psnr, "ms_ssim": similarity, "identical": identical}
        )
    if as_json:
        typer.echo(json.dumps(rows))
        return
    width = max(len("image"), *(len(row["image"]) for row in rows))
    typer.echo(f"{'image':{width}}  {'bpp':>7}  {'PSNR dB':>9}  {'MS-SSIM':>8}")
    for row in rows:
        psnr_text = "identical" if row["identical"] else f"{row['psnr_db']:.3f}"
        typer.echo(f"{row['image']:{width}}  {number(row['bpp'], 4):>7}  {psnr_text:>9}  {number(row['ms_ssim'], 5):>8}")


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Folder for the files it writes.")] = Path("flowcodec-demo")) -> None:
    """Compress a bundled photograph at three qualities, beside JPEG, WebP and AVIF at the same bytes."""
    from rich.console import Console
    from rich.table import Table

    from flowcodec.demo import run_demo, table_rows
    from flowcodec.progress import busy

    with busy("starting") as say:
        result = run_demo(out, say)
    table = Table("codec", box=None)
    for heading in ("setting", "bytes", "bpp", "PSNR dB", "MS-SSIM"):
        table.add_column(heading, justify="right")
    for row in table_rows(result):
        table.add_row(*row, style="bold" if row[0] == "FlowCodec" else None)
    Console(highlight=False).print(table)
    typer.echo(f"side by side, at the lowest of the three rates: {result.picture}")


# --- commands of other files --------------------------------------------------------------------------------------------

app.registered_commands += training.app.registered_commands + evidence.app.registered_commands
app.add_typer(bounds.app, name="bounds")
app.add_typer(radio.app, name="radio")


# --- helpers ------------------------------------------------------------------------------------------------------------


def _terminate(*_: Any) -> NoReturn:
    sys.exit(_TERMINATED)


def main() -> None:
    """Entry point. SIGTERM ends it as Ctrl-C does: what is being written is removed."""
    signal.signal(signal.SIGTERM, _terminate)
    app()


if __name__ == "__main__":
    main()
