"""Films against x264, x265, SVT-AV1 and AVIF: ``flowcodec benchmark --dataset films`` with a model of P-frames to choose.

python benchmarks/films.py FILM_OR_FOLDER... --inter-model MODEL [--codec NAME]... [--limit FRAMES] [--workers N] [--busy]
    [--out results/films.json]
"""

import argparse
from pathlib import Path

from flowcodec.benchmark.film_codecs import choose_film_codecs
from flowcodec.benchmark.film_run import run_films
from flowcodec.benchmark.films import films_in
from flowcodec.progress import CountReport

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="+", type=Path, metavar="FILM")
    parser.add_argument("--codec", action="append", help="only this one; may be repeated")
    parser.add_argument("--limit", type=int, help="frames of each film")
    parser.add_argument("--inter-model", help="the model of P-frames")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--busy", action="store_true", help="the machine does other work: CPU seconds only")
    parser.add_argument("--out", type=Path, default=RESULTS / "films.json")
    arguments = parser.parse_args()
    codecs = choose_film_codecs(arguments.codec, arguments.inter_model)
    films = [film for path in arguments.films for film in films_in(path)]
    how = {"limit": arguments.limit, "workers": arguments.workers, "busy": arguments.busy}
    with CountReport("measuring") as progress:
        run_films(films, codecs, arguments.out, **how, progress=progress)


if __name__ == "__main__":
    main()
