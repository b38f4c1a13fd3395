"""`finetuner ...` on the command line."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from ..exceptions import FinetunerError, InvalidInput
from .artifact import artifact_app
from .index import index_app
from .options import Host, Token
from .token import token_app

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(artifact_app, name="artifact")
app.add_typer(index_app, name="index")
app.add_typer(token_app, name="token")

Experiment = Annotated[str, typer.Option(help="Experiment of the run.")]


@app.command()
def up(
    flow: Annotated[str, typer.Option(help="What to start: finetuner (everything), encode or search.")] = "finetuner",
    grpc_port: Annotated[int, typer.Option(help="Port of gRPC; 0 lets the system choose.")] = 51000,
    http_port: Annotated[int, typer.Option(help="Port of HTTP; 0 lets the system choose.")] = 51001,
    workspace: Annotated[Path, typer.Option(help="Folder that keeps runs, datasets, artifacts and index.")] = Path(
        "workspace"
    ),
    bind: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in, and asks for a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(help="An admin's, which callers send; else $FINETUNER_TOKEN. See also `token`.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate for TLS on both ports, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    metrics_bind: Annotated[
        str, typer.Option(help="Address of the metrics, which ask for no token; 0.0.0.0 lets other machines scrape.")
    ] = "127.0.0.1",
) -> None:
    """Start the Flow on this machine and keep it up until Ctrl-C."""
    from ..flow.launch import serve
    from ..flow.settings import Certificate, flow_file

    if (tls_cert is None) != (tls_key is None):
        raise InvalidInput("--tls-cert and --tls-key must be given together. Got one of them.")
    serve(
        flow_file(flow),
        workspace=workspace,
        grpc_port=grpc_port,
        http_port=http_port,
        bind=bind,
        token=token,
        certificate=None if tls_cert is None or tls_key is None else Certificate(tls_cert, tls_key),
        metrics_bind=metrics_bind,
    )


@app.command()
def room(
    name: Annotated[str, typer.Argument(help="gateway, or an executor of the Flow, such as text_encoder.")],
    flow: Annotated[str, typer.Option(help="The Flow that it is of: finetuner, encode or search.")] = "finetuner",
    workspace: Annotated[Path, typer.Option(help="Folder that all rooms of the Flow share.")] = Path("workspace"),
    bind: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(help="Port of an executor.")] = 8080,
    grpc_port: Annotated[int, typer.Option(help="The gateway's port of gRPC.")] = 51000,
    http_port: Annotated[int, typer.Option(help="The gateway's port of HTTP.")] = 51001,
    metrics_port: Annotated[int, typer.Option(help="Port of the metrics, which ask for no token.")] = 9090,
    address: Annotated[
        list[str] | None, typer.Option(metavar="ROOM=HOST:PORT", help="Where another room is; else by its name.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of `uses_with`, e.g. device=cuda."),
    ] = None,
) -> None:
    """Start one room of a Flow by itself, as a container does; the others are elsewhere."""
    from ..flow.settings import flow_file
    from ..flow.standalone import Standing, named_values, serve_room

    where = Standing(
        workspace=workspace,
        bind=bind,
        port=port,
        gateway_ports=(grpc_port, http_port),
        metrics_port=metrics_port,
        addresses={room: str(value) for room, value in named_values("--address", address or []).items()},
        settings=named_values("--set", set_ or []),
    )
    serve_room(flow_file(flow), name, where)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for report.html, summary.json and the workspace.")] = Path("demo"),
    items: Annotated[int | None, typer.Option(help="Garments to train on; fewer are faster and worse.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.")] = None,
) -> None:
    """Fine-tune the packaged CLIP on the generated catalogue, search it, and write a before/after page."""
    from ..demo.demo import run_demo

    run_demo(out, train_items=items, epochs=epochs, stay=sys.stdin.isatty() and sys.stdout.isatty())


@app.command()
def runs(host: Host = None, token: Token = None) -> None:
    """List the runs."""
    from rich.console import Console
    from rich.table import Table

    import finetuner

    finetuner.login(host=host, token=token)
    table = Table("Run", "Experiment", "Status", "Artifact", "Created")
    for run in finetuner.list_runs():
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created_at))
        table.add_row(run.name, run.experiment_name, run.status()["status"], run.artifact_id, created)
    Console().print(table)


@app.command()
def logs(
    run: Annotated[str, typer.Argument(help="Name of the run.")],
    experiment: Experiment = "default",
    host: Host = None,
    token: Token = None,
) -> None:
    """Print the log of a run, and follow it until the run ends."""
    import finetuner

    finetuner.login(host=host, token=token)
    for line in finetuner.get_run(run, experiment).stream_logs(interval=1):
        print(line, flush=True)


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="What to look for.")],
    limit: Annotated[int, typer.Option(help="Matches, 1 to 1000.")] = 5,
    artifact: Annotated[
        str, typer.Option(help="Artifact id, alias or backbone that the index was made with.")
    ] = "live",
    host: Host = None,
    token: Token = None,
) -> None:
    """Find indexed documents by text."""
    from rich.console import Console
    from rich.table import Table

    import finetuner

    finetuner.login(host=host, token=token)
    table = Table("Rank", "Similarity", "Document", "Content")
    for rank, match in enumerate(finetuner.search(text, limit=limit, artifact=artifact)[0].matches, 1):
        content = match.text or match.uri or f"image, {len(match.blob)} bytes"
        table.add_row(str(rank), f"{match.scores['cosine'].value:.3f}", match.id, content[:60])
    Console().print(table)


@app.command()
def benchmark(
    set_name: Annotated[str, typer.Argument(metavar="SET", help="Such as flickr8k; see the README for all.")],
    folder: Annotated[Path, typer.Argument(help="Holds the set's files.")],
    model: Annotated[str, typer.Option(help="Backbone to score.")],
    output: Annotated[Path, typer.Option(help="Folder of benchmark.json and benchmark.md, which grow.")] = Path(
        "benchmarks"
    ),
    split: Annotated[str, typer.Option(help="Split to score on.")] = "test",
    artifact: Annotated[str | None, typer.Option(help="Tuned model: folder, zip or artifact id.")] = None,
    tune: Annotated[bool, typer.Option("--tune/--no-tune", help="Tune on the training split, on the Flow.")] = False,
    epochs: Annotated[int | None, typer.Option(help="Of tuning.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Of tuning.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of tuning.")] = None,
    device: Annotated[str | None, typer.Option(help="Device to score on; else CUDA where there is one.")] = None,
    on_error: Annotated[str, typer.Option(help="'skip' leaves bad entries of the set out.")] = "raise",
    host: Host = None,
    token: Token = None,
) -> None:
    """Score a model on a public set, zero-shot and tuned, and add its rows to a table."""
    from ..benchmark.benchmark import Benchmark, run_benchmark
    from ..benchmark.table import MARKDOWN

    asked = Benchmark(
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
    for row in run_benchmark(asked, host, token):
        print(f"{row.set} {row.split}, {row.model}, {row.stage}: {len(row.metrics)} metrics, {row.images} images")
    print(output / MARKDOWN)


@app.command()
def doctor(
    workspace: Annotated[Path, typer.Option(help="Folder of the Flow; it is not made.")] = Path("workspace"),
    host: Annotated[
        str | None, typer.Option(help="Flow to ask; else $FINETUNER_HOST, else the workspace's that is up.")
    ] = None,
    token: Token = None,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="Port that `up` would use.")] = 51000,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="Likewise.")] = 51001,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check this machine or container, its workspace, and the Flow that is up; exit code 1 if something fails."""
    from ..doctor.doctor import examine, report

    findings = examine(workspace, host=host, token=token, grpc_port=grpc_port, http_port=http_port)
    if not report(findings, as_json):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; what we raise on purpose becomes one line on stderr and exit code 1."""
    try:
        app()
    except FinetunerError as error:
        print(f"finetuner: {error}", file=sys.stderr)
        sys.exit(1)
