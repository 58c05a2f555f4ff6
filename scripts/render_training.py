"""Draws the learning curves of the shipped models, docs/figures/training.png and training_video.png, from the metrics
committed with their weights.

python scripts/render_training.py [--logs weights/log] [--figures docs/figures]
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def draw(logs: list[Path], held_out: str, figure_path: Path) -> None:
    """Training loss and validation objective over pixels seen, one phase after the other."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), dpi=150)
    offset = 0.0
    for number, path in enumerate(logs):
        rows = read(path)
        train = [row for row in rows if row["event"] == "train"]
        validation = [row for row in rows if row["event"] == "validation"]
        seen = [offset + row["pixels_seen"] / 1e9 for row in validation]
        color = f"C{number}"
        left.plot(
            [offset + r["pixels_seen"] / 1e9 for r in train],
            [r["loss"] for r in train],
            color=color,
            linewidth=0.8,
            label=path.stem,
        )
        noise, files = ([r[name] for r in validation] for name in ("loss", "file_loss"))
        # Pairs are validated by rounding alone.
        if noise != files:
            right.plot(seen, noise, color=color, marker="o", markersize=3, label=f"{path.stem}, Gaussian noise")
        right.plot(seen, files, color=color, linestyle="--", label=f"{path.stem}, rounding (estimate)")
        offset += train[-1]["pixels_seen"] / 1e9
    left.set(yscale="log", xlabel="pixels seen (billions)", ylabel="training loss", title="Training")
    right.set(
        xlabel="pixels seen (billions)",
        ylabel="SSE/Δ² + β (ln 2 / 6) bits, per pixel (β of each phase)",
        title=held_out,
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.tight_layout()
    figure_path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(figure_path, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--logs", type=Path, default=ROOT / "weights" / "log", help="folder of metrics, phases in the order of their names"
    )
    parser.add_argument("--figures", type=Path, default=ROOT / "docs" / "figures")
    arguments = parser.parse_args()
    logs = sorted(arguments.logs.glob("*.jsonl"))
    films = [log for log in logs if "video" in log.stem]
    draw([log for log in logs if log not in films], "Held-out photographs", arguments.figures / "training.png")
    draw(films, "Held-out pairs, of each phase its own", arguments.figures / "training_video.png")


if __name__ == "__main__":
    main()
