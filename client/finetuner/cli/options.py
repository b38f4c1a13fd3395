"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Host = Annotated[
    str | None,
    typer.Option(help="Address of the Flow. Default: $FINETUNER_HOST, else grpc://127.0.0.1:51000."),
]
Token = Annotated[str | None, typer.Option(help="Token for the Flow. Default: $FINETUNER_TOKEN.")]
