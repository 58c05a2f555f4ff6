"""``flowcodec bounds``: certificates of files, and bounds on the rate of a model. Imports inside each body, as in ``cli.py``."""

import json
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Bounds on the rate that hold: for a file, for a model, for a source.")


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help=".flow files encoded with --certificate; - is stdin.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME|PATH", help="For files of models that are not shipped.")
    ] = None,
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
