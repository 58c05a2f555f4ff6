"""How many of 100 impaired recordings decode: results/radio_recordings.json.

    python benchmarks/radio_recordings.py [--count 100] [--out results/radio_recordings.json]

About a minute of one core. A 64x64 crop of the bundled photograph, digital, designed for 8 dB; the impairments (delay, carrier
offset within 0.5 % of the symbol rate, phase, phase noise, gain, 10 to 20 dB) are those of tests/radio/impair.py, which shares no
code with the package. A recording counts as decoded where the picture equals that of the unimpaired one in every pixel.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from flowcodec.benchmark.environment import environment
from flowcodec.demo import PHOTO
from flowcodec.errors import InputError
from flowcodec.progress import over
from flowcodec.radio import recording
from flowcodec.runtime.image import read_picture

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "radio"))

from impair import impair  # type: ignore[import-not-found]  # noqa: E402

SIDE, DESIGN_DB = 64, 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "radio_recordings.json")
    options = parser.parse_args()
    image = read_picture(PHOTO).pixels[200 : 200 + SIDE, 300 : 300 + SIDE]
    samples = recording.send(image, SIDE * SIDE, DESIGN_DB, "digital")
    expected = recording.picture_of(samples).reception.pixels
    rows: list[dict[str, Any]] = []
    with over(range(options.count), "receiving") as (counted, say):
        for seed in counted:
            rng = np.random.default_rng([12, seed])
            offset, csnr_db = float(rng.uniform(-0.005, 0.005)), float(rng.uniform(10, 20))
            row: dict[str, Any] = {"seed": seed, "csnr_db": csnr_db, "offset": offset, "decoded": False}
            try:
                receipt = recording.picture_of(impair(samples, rng, csnr_db, offset))
            except InputError as error:
                row["error"] = str(error)
            else:
                row["decoded"] = bool(np.array_equal(receipt.reception.pixels, expected))
                row |= {"estimated_csnr_db": receipt.csnr_db, "estimated_offset": receipt.offset}
            rows.append(row)
            if not row["decoded"]:
                say(f"recording {seed} at {csnr_db:.1f} dB was not decoded: {row.get('error', 'no main layer')}")
    document = {
        "what": f"impaired recordings of a {SIDE}x{SIDE} picture in {SIDE * SIDE} complex uses, digital, design {DESIGN_DB:g} dB",
        "command": "python benchmarks/radio_recordings.py",
        "environment": environment(),
        "decoded": sum(row["decoded"] for row in rows),
        "count": len(rows),
        "rows": rows,
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{document['decoded']} of {document['count']} decoded")


if __name__ == "__main__":
    main()
