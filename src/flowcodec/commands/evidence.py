"""Commands that measure and show: ``benchmark``, ``generations``, ``report``. Imports are inside, as in ``cli``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flowcodec.errors import InputError
from flowcodec.extras import extra
from flowcodec.text import lines

if TYPE_CHECKING:
    from flowcodec.benchmark.document import Codec

app = typer.Typer()

Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, folders, CIFAR-10, ImageNet folders, films.")]
CodecNames = Annotated[list[str] | None, typer.Option("--codec", help="Only this codec; may be repeated.")]
Kind = Annotated[
    Literal["auto", "folder", "cifar10", "imagenet", "video"],
    typer.Option("--dataset", help="What PATH is; found out by default. video: frames of films as images."),
]
BenchmarkKind = Annotated[
    Literal["auto", "folder", "cifar10", "imagenet", "video", "films", "youtube-8m"],
    typer.Option(
        "--dataset", help="What PATH is; found out by default. video: frames of films as images; youtube-8m: videos by id."
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Images of each PATH (frames of each film), evenly spread over it; folders: all.")
]


@app.command()
def benchmark(
    paths: Paths,
    out: Annotated[Path, typer.Option(metavar="FILE", help="JSON file of the results; goes on with what it holds.")] = Path(
        "benchmark.json"
    ),
    codec: CodecNames = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="psnr, ms-ssim, detail, ssimulacra2, st-lpips; may be repeated. By default all but the last."),
    ] = None,
    dataset: BenchmarkKind = "auto",
    limit: Limit = None,
    quick: Annotated[bool, typer.Option("--quick", help="A look: three images, five rates, PSNR and MS-SSIM.")] = False,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the decodes of a few images at a few rates, for the report.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes, one core each. By default one for each core; films: 1.", show_default=False),
    ] = None,
    timing: Annotated[bool, typer.Option(help="Measure times as well.")] = True,
    busy: Annotated[bool, typer.Option("--busy", help="The machine does other work: CPU seconds only.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Calls of which a time is the median.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure anew what OUT already holds.")] = False,
) -> None:
    """Measure rate, distortion, detail and time of FlowCodec and its rivals on whole files, really decoded."""
    from flowcodec.benchmark.codecs import QUICK_IMAGES, Thinned, choose_codecs
    from flowcodec.benchmark.datasets import find_images, guess
    from flowcodec.benchmark.environment import usable_cores
    from flowcodec.benchmark.keep import keep_decodes
    from flowcodec.benchmark.metrics import choose
    from flowcodec.benchmark.run import run_benchmark
    from flowcodec.progress import CountReport

    if dataset == "auto" and all(path.exists() and guess(path) == "video" for path in paths):
        dataset = "films"
    if dataset == "films" or dataset == "youtube-8m":
        if metric or keep or repeats != 1:
            raise InputError("--metric, --keep, --repeats: are for images; films have their own measures")
        _benchmark_films(paths, out, codec, dataset == "youtube-8m", limit, quick, workers or 1, busy or not timing, not fresh)
        return
    codecs: Sequence[Codec] = choose_codecs(codec)
    metrics = choose(["psnr", "ms-ssim"] if quick and not metric else metric)
    if quick:
        codecs, limit = [Thinned(entry) for entry in codecs], limit or QUICK_IMAGES
    with CountReport("measuring") as progress:
        document = run_benchmark(
            paths,
            codecs,
            out,
            kind=dataset,
            limit=limit,
            metrics=metrics,
            workers=workers or usable_cores(),
            timing=timing,
            busy=busy,
            repeats=repeats,
            resume=not fresh,
            progress=progress,
        )
    if keep is not None:
        with CountReport("keeping decodes") as progress:
            keep_decodes(document, find_images(paths, dataset, limit), codecs, keep, progress)
    for failure in document.get("failures", [])[:5]:
        typer.echo(f"failed: {failure['codec']} on {failure['image']} at {failure['setting']:g}: {failure['error']}", err=True)
    against = document["image_by_image"]["bd_rate_percent_against"]
    if against:
        typer.echo("BD-rate of FlowCodec in percent, image by image (negative: fewer bits at the same PSNR), against")
        typer.echo(
            "\n".join(lines({name: {k: v for k, v in row.items() if k != "mean_interval"} for name, row in against.items()}))
        )
    typer.echo(f"results in {out}")


def _benchmark_films(
    paths: Sequence[Path],
    out: Path,
    names: Sequence[str] | None,
    by_id: bool,
    limit: int | None,
    quick: bool,
    workers: int,
    busy: bool,
    resume: bool,
) -> None:
    with extra("video"):
        from flowcodec.benchmark.film_codecs import OURS, FilmCodec, ThinnedFilms, choose_film_codecs
        from flowcodec.benchmark.film_run import run_films
        from flowcodec.benchmark.films import QUICK_FRAMES, films_in, youtube_8m
    from flowcodec.progress import CountReport

    codecs: Sequence[FilmCodec] = choose_film_codecs(names)
    films = [film for path in paths for film in (youtube_8m if by_id else films_in)(path)]
    if quick:
        codecs, limit = [ThinnedFilms(entry) for entry in codecs], limit or QUICK_FRAMES
    with CountReport("measuring") as progress:
        document = run_films(films, codecs, out, limit=limit, workers=workers, busy=busy, resume=resume, progress=progress)
    for row in [row for row in document["rows"] if "error" in row][:5]:
        typer.echo(f"failed: {row['codec']} on {row['film']} at {row['setting']:g}: {row['error']}", err=True)
    against = document["summary"][f"bd_rate_percent_of_{OURS}_against"]["psnr_yuv_db"]
    if against:
        typer.echo(f"BD-rate of {OURS} in percent (negative: fewer bits at the same PSNR of YUV), against")
        typer.echo("\n".join(lines(against)))
    typer.echo(f"results in {out}")


@app.command()
def generations(
    paths: Paths,
    out: Annotated[Path, typer.Option(metavar="FILE", help="JSON file of the results; goes on with what it holds.")] = Path(
        "generations.json"
    ),
    codec: CodecNames = None,
    dataset: Kind = "auto",
    limit: Limit = None,
    count: Annotated[int, typer.Option(min=2, help="How many times a picture is encoded and decoded.")] = 10,
    bpp: Annotated[float, typer.Option(min=0.01, help="Rate of the first file, as near as a codec's settings come.")] = 0.75,
    crop: Annotated[int | None, typer.Option(metavar="SIDE", min=1, help="Only the middle SIDE x SIDE of each picture.")] = None,
) -> None:
    """Encode and decode a picture again and again: PSNR and size of every generation, for every codec."""
    from flowcodec.benchmark.codecs import choose_codecs
    from flowcodec.benchmark.datasets import find_images
    from flowcodec.benchmark.generations import run_generations
    from flowcodec.progress import CountReport

    codecs = choose_codecs(codec)
    images = find_images(paths, dataset, limit)
    with CountReport("generations") as progress:
        document = run_generations(images, codecs, out, count=count, bpp=bpp, crop=crop, progress=progress)
    for name, found in document["means"].items():
        typer.echo(f"{name}: {found['lost_after_first_db']:.3f} dB lost after the first of {count} generations")
    typer.echo(f"results in {out}")


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="JSON files that the benchmarks wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The page to write.")] = Path("report.html"),
    decodes: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="What `benchmark --keep DIR` wrote: pictures to look at.")
    ] = None,
) -> None:
    """Turn results into one HTML page that needs nothing else: curves, tables, pictures side by side."""
    from flowcodec.report.page import write_page

    if not results:
        raise InputError("report: expected at least one file of results")
    size = write_page(results, out, decodes or [])
    typer.echo(f"{out}: {size / 1e6:.1f} MB")
