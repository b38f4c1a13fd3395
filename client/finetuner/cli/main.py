"""The command `finetuner` and its subcommands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..contract.environment import TOKEN
from ..exceptions import FinetunerError, InvalidInput
from ..progress import show_lines
from .artifact import artifact_app
from .data import data_app
from .database import db_app
from .evaluate import evaluate
from .feedback import feedback_app, improve
from .flow import flow_app
from .index import index_app
from .options import Host, Token, example, with_example
from .runs import logs, runs
from .search import search
from .sweep import sweep
from .token import token_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=with_example(
        "Fine-tune CLIP for search on your own machines, and serve the tuned model.",
        "finetuner up",
        "finetuner search 'a red dress'",
    ),
)
app.add_typer(artifact_app, name="artifact")
app.add_typer(data_app, name="data")
app.add_typer(db_app, name="db")
app.add_typer(feedback_app, name="feedback")
app.add_typer(flow_app, name="flow")
app.add_typer(index_app, name="index")
app.add_typer(token_app, name="token")


@app.command()
@example("finetuner models", "finetuner models --task image-to-image")
def models(
    task: Annotated[str | None, typer.Option(help="text-to-image or image-to-image; default: both.")] = None,
) -> None:
    """Print the models that have a name: size, licence, languages, and published zero-shot figures."""
    from ..models.backbones import describe_models

    describe_models(task)


@app.command()
@example("finetuner up --workspace ~/flow")
def up(
    flow: Annotated[
        str,
        typer.Option(
            help="Flow to start: finetuner (all rooms), search (encoders and index), encode (encoders), or a .yml file."
        ),
    ] = "finetuner",
    grpc_port: Annotated[int, typer.Option(help="gRPC port; 0 lets the system choose.")] = 51000,
    http_port: Annotated[int, typer.Option(help="HTTP port; 0 lets the system choose.")] = 51001,
    workspace: Annotated[Path, typer.Option(help="Folder for runs, datasets, artifacts and the index.")] = Path(
        "workspace"
    ),
    bind: Annotated[
        str, typer.Option(help="Address to listen on. 0.0.0.0 admits other machines and requires a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            help="Admin token that clients send. Default: $FINETUNER_TOKEN. `finetuner token` creates further tokens."
        ),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="TLS certificate for both ports, a PEM file.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate, a PEM file.")] = None,
    metrics_bind: Annotated[
        str,
        typer.Option(help="Address of the Prometheus metrics, which require no token. 0.0.0.0 admits other machines."),
    ] = "127.0.0.1",
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the Flow's addresses as one JSON line on stdout, and all else on stderr."),
    ] = False,
) -> None:
    """Start a Flow on this machine and keep it up until Ctrl-C. Meanwhile, WORKSPACE/flow.json has its addresses."""
    from ..flow.launch import serve
    from ..flow.settings import Certificate, flow_file

    if (tls_cert is None) != (tls_key is None):
        raise InvalidInput("--tls-cert and --tls-key must be given together. Got one of them. Add the other.")
    if sys.stderr.isatty():
        typer.echo("Starting the Flow ...", err=True)
    serve(
        flow_file(flow),
        workspace=workspace,
        grpc_port=grpc_port,
        http_port=http_port,
        bind=bind,
        token=token,
        certificate=None if tls_cert is None or tls_key is None else Certificate(tls_cert, tls_key),
        metrics_bind=metrics_bind,
        as_json=as_json,
    )


@app.command()
@example("finetuner room text_encoder --workspace /workspace --set device=cuda")
def room(
    name: Annotated[str, typer.Argument(help="Name of the room: gateway, or an executor such as text_encoder.")],
    flow: Annotated[
        str, typer.Option(help="Flow that the room belongs to: finetuner, search, encode, or a .yml file.")
    ] = "finetuner",
    workspace: Annotated[Path, typer.Option(help="Folder that all rooms of the Flow share.")] = Path("workspace"),
    bind: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(help="gRPC port of the room, unless it is the gateway.")] = 8080,
    grpc_port: Annotated[int, typer.Option(help="gRPC port of the gateway.")] = 51000,
    http_port: Annotated[int, typer.Option(help="HTTP port of the gateway.")] = 51001,
    metrics_port: Annotated[int, typer.Option(help="Port of the Prometheus metrics, which require no token.")] = 9090,
    address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROOM=HOST:PORT",
            help="Address of another room; may be repeated. Default: the room's name, for example text-encoder:8080.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Setting of the room in place of the YAML's `uses_with`, such as device=cuda; may be repeated.",
        ),
    ] = None,
) -> None:
    """Start one room of a Flow by itself, as a container does. The other rooms run elsewhere."""
    from ..flow.settings import flow_file
    from ..flow.standalone import RoomOptions, named_values, serve_room

    options = RoomOptions(
        workspace=workspace,
        bind=bind,
        port=port,
        gateway_ports=(grpc_port, http_port),
        metrics_port=metrics_port,
        addresses={room: str(value) for room, value in named_values("--address", address or []).items()},
        settings=named_values("--set", set_ or []),
    )
    serve_room(flow_file(flow), name, options)


@app.command()
@example("finetuner demo --out demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for report.html, summary.json and the workspace.")] = Path("demo"),
    items: Annotated[
        int | None,
        typer.Option(help="Number of garments to train on; fewer train faster but score lower."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images. Default: the demo's own number.")] = None,
) -> None:
    """Fine-tune the packaged CLIP on a generated fashion catalogue, and write a before/after report."""
    from ..demo.demo import run_demo

    run_demo(out, train_items=items, epochs=epochs, stay=sys.stdin.isatty() and sys.stdout.isatty())


app.command()(runs)
app.command()(logs)
app.command()(search)
app.command()(evaluate)
app.command()(improve)
app.command()(sweep)


@app.command()
@example("finetuner benchmark flickr8k data/flickr8k --model ViT-B-32::openai --tune --epochs 5")
def benchmark(
    set_name: Annotated[
        str,
        typer.Argument(metavar="SET", help="Name of the set, such as flickr8k; docs/benchmark-sets.md lists all sets."),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder with the set's files.")],
    model: Annotated[str, typer.Option(help="Backbone to score.")],
    output: Annotated[Path, typer.Option(help="Folder of the tables benchmark.json and benchmark.md.")] = Path(
        "benchmarks"
    ),
    split: Annotated[str, typer.Option(help="Split to score on.")] = "test",
    artifact: Annotated[str | None, typer.Option(help="Tuned model to score: folder, zip or artifact id.")] = None,
    tune: Annotated[
        bool, typer.Option("--tune/--no-tune", help="Fine-tune the backbone on the training split, on the Flow.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="With --tune: passes over the images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="With --tune: pairs per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="With --tune: peak learning rate.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Device to score on: cuda or cpu. Default: CUDA if available.")
    ] = None,
    on_error: Annotated[
        str, typer.Option(help="raise stops at bad entries of the set; skip leaves them out with a warning.")
    ] = "raise",
    host: Host = None,
    token: Token = None,
) -> None:
    """Score a backbone, and optionally a tuned model, on a public set and add the results to a table."""
    from ..benchmark.benchmark import Benchmark, run_benchmark
    from ..benchmark.table import MARKDOWN

    options = Benchmark(
        set_name=set_name,
        folder=folder,
        model=model,
        output=output,
        split=split,
        artifact=artifact,
        tune=tune,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        device=device,
        on_error=on_error,
    )
    for row in run_benchmark(options, host, token):
        print(f"{row.set} {row.split}, {row.model}, {row.stage}: {len(row.metrics)} metrics, {row.images} images")
    print(output / MARKDOWN)


@app.command()
@example("finetuner doctor --workspace workspace")
def doctor(
    workspace: Annotated[Path, typer.Option(help="Workspace folder to check. The command never creates it.")] = Path(
        "workspace"
    ),
    host: Annotated[
        str | None,
        typer.Option(help="Address of the Flow. Default: $FINETUNER_HOST, else the Flow that runs in the workspace."),
    ] = None,
    token: Token = None,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="gRPC port to check for `finetuner up`.")] = 51000,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="HTTP port to check for `finetuner up`.")] = 51001,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON object.")] = False,
) -> None:
    """Check this machine, the workspace and the running Flow. Exits with code 1 if a check fails."""
    from ..doctor.doctor import examine, report

    findings = examine(workspace, host=host, token=token, grpc_port=grpc_port, http_port=http_port)
    if not report(findings, as_json):
        raise typer.Exit(1)


def hide_token() -> None:
    """Start this command again with the value of `--token` in $FINETUNER_TOKEN: `ps` shows arguments to every user."""
    at = next((at for at, word in enumerate(sys.argv) if word.partition("=")[0] == "--token"), None)
    if at is None or os.name != "posix":
        return
    given = [*sys.argv[at].split("=", 1)[1:], *sys.argv[at + 1 :]]
    if not given:
        return  # typer names the error
    os.environ[TOKEN] = given[0]
    before = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + at]
    os.execv(sys.executable, [*before, *given[1:]])


def main() -> None:
    """Run the command line. Print an error as one line on stderr and exit with code 1."""
    hide_token()
    show_lines()
    try:
        app()
    except FinetunerError as error:
        sys.exit(f"finetuner: {error}")
    except OSError as error:  # a file or folder that this user may not read or write
        place = f": {error.filename}. Check that path and your rights." if error.filename else ""
        sys.exit(f"finetuner: {error.strerror or error}{place}")
