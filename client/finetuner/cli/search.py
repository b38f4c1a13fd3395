"""`finetuner search`: a table of the matches, and a result page."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

import finetuner

from ..exceptions import InvalidInput
from ..progress import waiting
from .late_hubble import import_docarray
from .matches import caption, score, tags
from .options import Host, Token, example
from .table import one_line, print_table

CAPTION, TAGS = 80, 80  # characters in the table


@example("finetuner search 'a red dress' --limit 10 --open")
def search(
    text: Annotated[str, typer.Argument(help="Text to search for.")],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of matches.")] = 5,
    artifact: Annotated[
        str, typer.Option(help="Artifact id, alias or backbone that the documents were indexed with.")
    ] = "live",
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with the images, captions, tags and scores.")
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Open the page in a browser. Without --html it is a temporary file.")
    ] = False,
    host: Host = None,
    token: Token = None,
) -> None:
    """Search the indexed documents by text. Prints the caption, tags and similarity of each match, best first."""
    if html is not None and (html.is_dir() or not html.parent.is_dir()):
        raise InvalidInput(f"--html must be a file in an existing folder. Got {str(html)!r}. Create the folder.")
    finetuner.login(host=host, token=token)
    with waiting("Searching"):
        import_docarray()
        matches = list(finetuner.search(text, limit=limit, artifact=artifact, thumbnails=True)[0].matches)
    rows = [
        (str(rank), f"{score(match):.3f}", match.id, one_line(caption(match), CAPTION), one_line(tags(match), TAGS))
        for rank, match in enumerate(matches, 1)
    ]
    print_table(("RANK", "SCORE", "DOCUMENT", "CAPTION", "TAGS"), rows)
    if html is None and not open_:
        return
    from .result_page import write_page

    if html is None:
        with tempfile.NamedTemporaryFile(prefix="finetuner-", suffix=".html", delete=False) as file:
            html = Path(file.name)
    write_page(html, text, artifact, matches)
    typer.echo(f"Result page: {html}", err=True)
    if open_:
        import webbrowser

        if not webbrowser.open(html.resolve().as_uri()):
            raise InvalidInput(f"--open needs a browser. Got none on this machine. Open {html} elsewhere.")
