"""`finetuner artifact ...`: sends artifacts to a running Flow and fetches them as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import finetuner

from .options import Host, Token, example, with_example

artifact_app = typer.Typer(
    no_args_is_help=True,
    help=with_example("Send artifacts to a Flow and fetch them.", "finetuner artifact pull live"),
)


@artifact_app.command()
@example("finetuner artifact push artifacts/my-run.zip")
def push(
    path: Annotated[Path, typer.Argument(help="Zip that `artifact pull` or save_artifact wrote, or its folder.")],
    host: Host = None,
    token: Token = None,
) -> None:
    """Publish an artifact on the Flow and print its id."""
    finetuner.login(host=host, token=token)
    typer.echo(finetuner.push_artifact(str(path))["artifact_id"])


@artifact_app.command()
@example("finetuner artifact promote 0123456789abcdef01234567")
def promote(
    artifact: Annotated[str, typer.Argument(help="Id or alias of an artifact, or a backbone.")],
    alias: Annotated[str, typer.Option(help="Name that it gets; encoders and searches take live.")] = "live",
    force: Annotated[bool, typer.Option(help="Also if it became worse by tuning.")] = False,
    tolerance: Annotated[float, typer.Option(help="By which its score may be lower than before tuning.")] = 0.01,
    host: Host = None,
    token: Token = None,
) -> None:
    """Let searches use an artifact from now on."""
    finetuner.login(host=host, token=token)
    finetuner.promote(artifact, alias, force, tolerance)
    typer.echo(f"{alias}: {artifact}")


@artifact_app.command("import")
@example(
    "finetuner artifact import ./my-clip-model",
    "finetuner artifact import hf-hub:google/siglip-base-patch16-224",
    "finetuner artifact import efficientnet_b0+./my-bert",
)
def import_(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of transformers (CLIPModel, ChineseCLIPModel, SiglipModel), open_clip or timm, with "
            "safetensors; hf-hub:OWNER/NAME; or VISION+TEXT."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the artifact. Default: the model's.")] = None,
    host: Host = None,
    token: Token = None,
) -> None:
    """Make an artifact of a model of another library, publish it on the Flow and print its id.

    VISION+TEXT joins an image model, by its name, and a text model of transformers, by its folder. `fit(model=ID)`
    tunes the artifact.
    """
    finetuner.login(host=host, token=token)
    typer.echo(finetuner.import_artifact(model, name)["artifact_id"])


@artifact_app.command()
@example(
    "finetuner artifact export live --to open_clip my-model",
    "finetuner artifact export live --to transformers my-model --push-to-hub me/my-model",
)
def export(
    artifact: Annotated[str, typer.Argument(help="Artifact id or alias, or an artifact's zip or folder.")],
    directory: Annotated[Path, typer.Argument(help="The new folder.")],
    to: Annotated[
        str,
        typer.Option(
            help="open_clip or transformers for a CLIP, timm for an image model, sentence-transformers or onnx for "
            "both."
        ),
    ] = "open_clip",
    push_to_hub: Annotated[
        str | None,
        typer.Option(help="OWNER/NAME: also send the folder to the Hugging Face hub, with the token of HF_TOKEN."),
    ] = None,
    host: Host = None,
    token: Token = None,
) -> None:
    """Write an artifact as a folder that another library loads, and print its path."""
    if not Path(artifact).exists():
        finetuner.login(host=host, token=token)
    typer.echo(finetuner.export_artifact(artifact, to, directory, push_to_hub=push_to_hub))


@artifact_app.command()
@example("finetuner artifact pull live")
def pull(
    artifact: Annotated[str, typer.Argument(help="Artifact id or alias.")],
    directory: Annotated[Path, typer.Argument(help="Folder for the zip, created if missing.")] = Path("artifacts"),
    host: Host = None,
    token: Token = None,
) -> None:
    """Fetch an artifact as a zip and print its path."""
    finetuner.login(host=host, token=token)
    typer.echo(finetuner.pull_artifact(artifact, str(directory)))
