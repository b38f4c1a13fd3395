"""Options that commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Host = Annotated[str | None, typer.Option(help="Flow to talk to; else $FINETUNER_HOST, else grpc://127.0.0.1:51000.")]
Token = Annotated[str | None, typer.Option(help="Token of the Flow; else $FINETUNER_TOKEN.")]
