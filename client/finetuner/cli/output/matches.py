"""The parts of a match that `finetuner search` shows."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docarray import Document

INTERNAL = "finetuner_"  # begins the tags of ours, such as the artifact's id
CAPTION = "caption"  # a tag that holds the text of an image


def score(match: Document) -> float:
    """Return the similarity of a match, in [-1, 1]."""
    return float(match.scores["cosine"].value)


def probability(match: Document) -> str:
    """Return the probability that a match is relevant, '' without one."""
    return f"{match.scores['probability'].value:.2f}" if "probability" in match.scores else ""


def caption(match: Document) -> str:
    """Return the text of a document or its parts, else its tag `caption`, else the name of its file, else its kind."""
    parts = (match, *match.chunks)
    texts = [part.text for part in parts if part.text]
    if texts:
        return " | ".join(texts)
    if isinstance(match.tags.get(CAPTION), str):
        return str(match.tags[CAPTION])
    uris = [part.uri for part in parts if part.uri and not part.uri.startswith("data:")]
    return PurePosixPath(uris[0]).name if uris else "(image)"


def tags(match: Document) -> str:
    """Return a document's own tags as 'name=value, ...', without its caption."""
    return ", ".join(
        f"{name}={_shown(value)}"
        for name, value in match.tags.items()
        if name != CAPTION and not name.startswith(INTERNAL)
    )


def _shown(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)  # every number of a tag is a float
