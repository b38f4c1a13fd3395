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
from .options import Host, Token, example
from .output.matches import caption, probability, score, tags
from .output.table import one_line, print_table

CAPTION, TAGS = 80, 80  # characters in the table


@example("finetuner search 'a red dress' --limit 10 --open")
def search(
    text: Annotated[str, typer.Argument(help="Text to search for.")],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of matches.")] = 5,
    artifact: Annotated[
        str, typer.Option(help="Artifact id, alias or backbone that the documents were indexed with.")
    ] = "live",
    min_probability: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Leave out matches that are less likely to be relevant, such as 0.5."),
    ] = None,
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
        asked = finetuner.search(text, limit=limit, artifact=artifact, thumbnails=True, min_probability=min_probability)
        matches = list(asked[0].matches)
    calibrated = any(probability(match) for match in matches)
    rows = [
        (str(rank), f"{score(match):.3f}", *([probability(match)] if calibrated else []), match.id,
         one_line(caption(match), CAPTION), one_line(tags(match), TAGS))
        for rank, match in enumerate(matches, 1)
    ]  # fmt: skip
    print_table(("RANK", "SCORE", *(["PROBABILITY"] if calibrated else []), "DOCUMENT", "CAPTION", "TAGS"), rows)
    if min_probability is not None and not matches:
        typer.echo(f"Nothing fits: no document has a probability of {min_probability:g} or more.", err=True)
    if html is None and not open_:
        return
    from .output.result_page import write_page

    if html is None:
        with tempfile.NamedTemporaryFile(prefix="finetuner-", suffix=".html", delete=False) as file:
            html = Path(file.name)
    write_page(html, text, artifact, matches)
    typer.echo(f"Result page: {html}", err=True)
    if open_:
        import webbrowser

        if not webbrowser.open(html.resolve().as_uri()):
            raise InvalidInput(f"--open needs a browser. Got none on this machine. Open {html} elsewhere.")
