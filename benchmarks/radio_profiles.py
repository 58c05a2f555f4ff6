"""Trains the block spectra of the analog mode: src/flowcodec/radio/profiles_*.npz.

    python benchmarks/radio_profiles.py --data PHOTOGRAPHS

About 2 minutes of one core. Latents of the default model; photographs that are held out are not used.
"""

import argparse
from pathlib import Path

import numpy as np

from flowcodec.progress import over
from flowcodec.radio import analog, material, profiles
from flowcodec.runtime.bundle import load_model
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.encode import analyse
from flowcodec.runtime.step import step_index

SEED = 11
PHOTOGRAPHS, THUMBNAILS = 150, 3000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    options = parser.parse_args()
    rng, model = np.random.default_rng(SEED), load_model()
    runner, index = make_runner(model, 1), step_index(analog.STEP)
    paths = material.photographs(options.data, held_out=False)
    some = [paths[i] for i in np.linspace(0, len(paths) - 1, PHOTOGRAPHS).astype(int)]
    for name, block, count, pixels in (
        ("photograph", 16, 64, material.crops(some, 256, 1, rng)),
        ("thumbnail", 32, 1 << analog.BARE_PROFILE_BITS, material.thumbnails(some, THUMBNAILS // PHOTOGRAPHS, rng)),
    ):
        with over(list(pixels), f"latents, {name}") as (counted, say):
            latents = [
                [
                    np.asarray(part, np.float64)
                    for part in analyse(model, runner, np.ascontiguousarray(x.transpose(1, 2, 0)), index)
                ]
                for x in counted
            ]
            found = profiles.train(latents, block, count)
            profiles.save(profiles.path_of(name), found)
            say(f"{name}: {found.count} profiles of {block}x{block} from {len(latents)} pictures")


if __name__ == "__main__":
    main()
