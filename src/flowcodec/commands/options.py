"""Options that several commands have, declared once."""

from typing import Annotated

import typer

Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads to use; all cores by default.")]
ModelName = Annotated[str, typer.Option("--model", metavar="NAME|PATH", help="A shipped model, or a model file.")]
FileModel = Annotated[str | None, typer.Option("--model", metavar="NAME|PATH", help="For files of models that are not shipped.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
