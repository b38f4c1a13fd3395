"""`finetuner data ...`: sends data to a running Flow, shows it, and finds what predicts trouble."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

import finetuner

from ..exceptions import InvalidInput
from .options import Host, Token, example, with_example
from .output.matches import caption, tags
from .output.table import one_line, print_table

if TYPE_CHECKING:
    from docarray import Document

data_app = typer.Typer(
    no_args_is_help=True,
    help=with_example("Send data to a Flow, show it, and check it.", "finetuner data stats photos.csv"),
)

TASKS = {"pairs": "text-to-image", "labelled": "image-to-image"}
MODELS = {"pairs": "clip-base-en", "labelled": "resnet-base"}
CAPTION = 80  # characters in a table

Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="CONTENT=NAME",
        help="Column of a file, such as text=titel; CONTENT is one of image, text, label, score, language, negative. "
        "May be repeated.",
    ),
]
OnError = Annotated[
    str, typer.Option(help="raise stops at bad entries of a file; skip leaves them out with a warning.")
]
Kind = Annotated[str, typer.Option("--as", help="pairs of text and image, or labelled images.")]


@data_app.command()
@example("finetuner data push shop photos.csv --column text=titel")
def push(
    name: Annotated[str, typer.Argument(help="Name of the dataset; one of that name is replaced.")],
    source: Annotated[
        str,
        typer.Argument(help="CSV, TSV, jsonl or parquet file, folder of images, or tar shards; quote wildcards."),
    ],
    as_: Kind = "pairs",
    column: Columns = None,
    on_error: OnError = "raise",
    host: Host = None,
    token: Token = None,
) -> None:
    """Send files to the Flow as a dataset, and print its name, kind and number of documents."""
    task, columns = _task(as_), _columns(column)
    finetuner.login(host=host, token=token)
    with _warnings_as_lines():
        stored = finetuner.push_data(name, _as_path(source), task=task, columns=columns, on_error=on_error)
    typer.echo(f"{stored['name']}: {stored['documents']} {stored['kind'] or 'documents'}, {_size(stored['size'])}")


@data_app.command()
@example("finetuner data show shop --limit 5")
def show(
    name: Annotated[str, typer.Argument(help="Name of the dataset.")],
    limit: Annotated[int, typer.Option(min=0, max=1000, help="Number of documents to print.")] = 10,
    host: Host = None,
    token: Token = None,
) -> None:
    """Print a dataset's kind, size and content hash, and its first documents."""
    finetuner.login(host=host, token=token)
    from .late_hubble import import_docarray

    import_docarray()
    from ..api.data.upload import iterate_documents
    from ..api.session import connection
    from ..contract import wire

    (dataset,) = connection().call(wire.DATASETS_LIST, name=name)
    created = time.strftime("%Y-%m-%d %H:%M", time.localtime(dataset["created_at"]))
    print_table(
        ("NAME", "KIND", "DOCUMENTS", "SIZE", "CREATED", "VERSION"),
        [
            (
                dataset["name"],
                dataset["kind"] or "documents",
                str(dataset["documents"]),
                _size(dataset["size"]),
                created,
                dataset["version"],
            )
        ],
    )
    if limit:
        first = islice(iterate_documents(connection(), name), limit)
        rows = [
            (str(position), one_line(caption(found), CAPTION), _image(found), one_line(_tags(found), CAPTION))
            for position, found in enumerate(first)
        ]
        typer.echo()
        print_table(("DOCUMENT", "CAPTION", "IMAGE", "TAGS"), rows)


@data_app.command()
@example("finetuner data stats train.csv --eval test.csv --model ViT-B-16::openai")
def stats(
    data: Annotated[str, typer.Argument(help="Files as for `push`, or the name of a dataset of the Flow.")],
    eval_: Annotated[
        str | None, typer.Option("--eval", help="Evaluation data, given likewise: training data in it is counted.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="CLIP whose tokenizer counts tokens, clip-base-en by default; an image model for --as labelled."
        ),
    ] = None,
    as_: Kind = "pairs",
    batch_size: Annotated[
        int | None, typer.Option(min=2, max=2**20, help="Batch size of the training. Default: the model's own.")
    ] = None,
    column: Columns = None,
    on_error: OnError = "raise",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
    host: Host = None,
    token: Token = None,
) -> None:
    """Print counts, lengths, sizes, duplicates, the oddest images and captions, and what predicts trouble.

    Files are read on this machine; no Flow is needed for them.
    """
    task, columns = _task(as_), _columns(column)
    name = model or MODELS[as_]
    from ..models.backbones import find_backbone

    if (found := find_backbone(name)).task != task:
        raise InvalidInput(f"--model must train on {as_}. Got {found.name}, for {found.task}. Change --as or --model.")
    given = [_as_path(data, stored=True), None if eval_ is None else _as_path(eval_, stored=True)]
    if any(isinstance(each, str) for each in given):
        finetuner.login(host=host, token=token)
    from ..models.lean_open_clip import import_lean

    with suppress(ImportError):  # a client alone has no open_clip
        import_lean()
    with _warnings_as_lines():
        report = finetuner.data_stats(
            given[0], given[1], model=name, batch_size=batch_size, columns=columns, on_error=on_error
        )
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1, ensure_ascii=False))
        return
    print_table(("", "FOUND"), report.lines())
    if odd := report.oddest():
        typer.echo()
        print_table(("ODDEST", "DOCUMENT", "REASON", "CAPTION"), odd)
    typer.echo()
    typer.echo("\n".join(["TROUBLE", *report.troubles]) if report.troubles else "No trouble found.")


def _task(as_: str) -> str:
    if as_ not in TASKS:
        raise InvalidInput(f"--as must be one of {', '.join(TASKS)}. Got {as_!r}. Choose one of them.")
    return TASKS[as_]


def _columns(given: list[str] | None) -> dict[str, str] | None:
    """Return content -> name of its column."""
    if not given:
        return None
    columns: dict[str, str] = {}
    for text in given:
        content, separator, name = text.partition("=")
        if not (content and separator and name) or content in columns:
            raise InvalidInput(f"--column must be CONTENT=NAME, each content once. Got {text!r}. Write text=titel.")
        columns[content] = name
    return columns


def _as_path(source: str, *, stored: bool = False) -> Any:
    """Return files as a list of one path, which is never taken for a name; a stored dataset's name as it is."""
    from ..sources.kinds import is_source

    return source if stored and not is_source(source) else [source]


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print warnings, such as that of entries that are left out, as lines on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_: typer.echo(f"finetuner: {message}", err=True)
        yield


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB"


def _image(document: Document) -> str:
    """Return the size of a document's image, '' without one."""
    import io

    from ..documents.image_files import open_image

    for part in (document, *document.chunks):
        if part.blob:
            try:
                with open_image(io.BytesIO(part.blob)) as opened:
                    return f"{opened.format} {opened.width} x {opened.height}"
            except Exception:  # of Pillow's parsers, about any bytes
                return f"{len(part.blob)} bytes, no image"
        if part.tensor is not None:
            return f"tensor {' x '.join(map(str, part.tensor.shape))}"
        if part.uri:
            return "data URI" if part.uri.startswith("data:") else one_line(part.uri, 40)
    return ""


def _tags(document: Document) -> str:
    from ..contract.wire import LABEL_TAG

    label = document.tags.get(LABEL_TAG)
    return ", ".join(filter(None, [f"label={label}" if label is not None else "", tags(document)]))
