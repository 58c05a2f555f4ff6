"""Options that several commands have, declared once."""

from typing import Annotated

import typer

Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads to use; all cores by default.")]
ModelName = Annotated[str, typer.Option("--model", metavar="NAME|PATH", help="A shipped model, or a model file.")]
FileModel = Annotated[str | None, typer.Option("--model", metavar="NAME|PATH", help="For files of models that are not shipped.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
InterModel = Annotated[
    str | None,
    typer.Option("--inter-model", metavar="NAME|PATH", help="Of films: the model of P-frames."),
]
Frames = Annotated[str | None, typer.Option("--frames", metavar="A:B", help="Of films: frames A to B - 1 only.")]
Start = Annotated[str | None, typer.Option("--start", metavar="TIME", help="Of films: from this time on, [[HH:]MM:]SS.")]
Audio = Annotated[bool, typer.Option("--audio/--no-audio", help="Of films: the audio as it is, or none.")]
