"""Films against x264, x265, SVT-AV1 and AVIF: real files, BD-rates, PSNR over the frames.

    python benchmarks/films.py FILM_OR_FOLDER... [--codec NAME]... [--limit FRAMES] [--busy] [--out results/films.json]

``--youtube-8m`` takes the folders for ones with videos of YouTube-8M, by id. Settings of every codec are in the file.
"""

import argparse
from pathlib import Path

from flowcodec.benchmark.film_codecs import RIVALS, FilmCodec, FlowFilms
from flowcodec.benchmark.film_run import run_films
from flowcodec.benchmark.films import films_in, youtube_8m
from flowcodec.progress import CountReport

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="+", type=Path, metavar="FILM")
    parser.add_argument("--codec", action="append", help="only this one; may be repeated")
    parser.add_argument("--limit", type=int, help="frames of each film")
    parser.add_argument("--inter-model", help="the model of P-frames")
    parser.add_argument("--youtube-8m", action="store_true")
    parser.add_argument("--busy", action="store_true", help="the machine does other work: CPU seconds only")
    parser.add_argument("--out", type=Path, default=RESULTS / "films.json")
    arguments = parser.parse_args()
    every: list[FilmCodec] = [*RIVALS, FlowFilms(inter_model=arguments.inter_model), FlowFilms(intra=True)]
    codecs = [codec for codec in every if not arguments.codec or codec.name in arguments.codec]
    find = youtube_8m if arguments.youtube_8m else films_in
    films = [film for path in arguments.films for film in find(path)]
    with CountReport("measuring") as progress:
        document = run_films(films, codecs, arguments.out, limit=arguments.limit, busy=arguments.busy, progress=progress)
    for title, tables in document["summary"].items():
        for quality, table in tables.items():
            print(title, quality)
            for name, values in table.items():
                print(f"  {name:28}", "  ".join(f"{film} {value:+.1f}" for film, value in values.items()))


if __name__ == "__main__":
    main()
