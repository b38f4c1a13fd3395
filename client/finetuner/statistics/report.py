"""The report on a data set: its statistics, its overlap with evaluation data, and the troubles that they predict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from .captions import CaptionStatistics
from .describe import Collector, Overlap, Statistics, overlap
from .images import ImageStatistics
from .spread import Oddity, Spread
from .trouble import troubles

GROUPS = 3  # of near duplicates in the lines


@dataclass(frozen=True)
class Report:
    """The statistics of data, and the troubles that they predict."""

    statistics: Statistics
    """Of the data."""
    overlap: Overlap | None
    """With the evaluation data, None without."""
    troubles: list[str]
    """A sentence for each trouble: what was found, where first, and what to do."""
    without_tokens: str
    """The reason why no tokens are counted, '' if they are."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's types."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Return (name, value) of each line of a table."""
        found = self.statistics
        kinds = ", ".join(f"{count} {kind}" for kind, count in found.kinds.items())
        lines = [("documents", f"{found.documents}: {kinds}")]
        lines += _caption_lines(found.captions, self.without_tokens) if found.captions is not None else []
        lines += _image_lines(found.images) if found.images is not None else []
        if found.elsewhere:
            lines.append(("images at addresses", f"{found.elsewhere}, not read"))
        if (labels := found.labels) is not None:
            lines.append(("labels", f"{labels.count}, with {_spread(labels.documents)} documents each"))
            lines.append(("labels of one document", str(labels.single)))
            lines.append(("documents without label", str(labels.without)))
        if (shared := self.overlap) is not None:
            near = f", and {shared.near_images} near duplicates" if shared.near_images else ""
            lines.append(("evaluation images in training", f"{shared.images}{near}"))
            lines.append(("evaluation captions in training", str(shared.captions)))
        return lines

    def oddest(self) -> list[tuple[str, str, str, str]]:
        """Return (kind, document, reason, caption) of the oddest images and captions."""
        found: list[tuple[str, list[Oddity]]] = []
        if self.statistics.images is not None:
            found.append(("image", self.statistics.images.oddest))
        if self.statistics.captions is not None:
            found.append(("caption", self.statistics.captions.oddest))
        return [(kind, str(odd.document), odd.reason, odd.caption) for kind, odds in found for odd in odds]


def report_of(train: Collector, evaluation: Collector | None, batch_size: int, without_tokens: str = "") -> Report:
    """Return the report on collected data.

    Args:
        train: training data.
        evaluation: evaluation data, None without.
        batch_size: of the training.
        without_tokens: the reason why no tokens are counted, '' if they are.
    """
    found, shared = train.statistics(), None if evaluation is None else overlap(train, evaluation)
    return Report(found, shared, troubles(found, shared, batch_size), without_tokens)


def _caption_lines(captions: CaptionStatistics, without_tokens: str) -> Iterator[tuple[str, str]]:
    yield "captions", f"{captions.count}, {captions.distinct} different"
    yield "characters of a caption", _spread(captions.characters)
    if (tokens := captions.tokens) is not None:
        yield f"tokens of a caption, {tokens.model}", _spread(tokens.lengths)
        yield f"captions cut at {tokens.limit} tokens", str(tokens.cut)
    else:
        yield "tokens of a caption", f"not counted: {without_tokens}" if without_tokens else "not counted"
    yield "scripts", ", ".join(f"{script} {count}" for script, count in captions.scripts.items())
    several = f"{captions.at_several_images}"
    if captions.most_images:
        several += f", {captions.most_repeated!r} at {captions.most_images}"
    yield "captions at several images", several
    yield "pairs that are repeated", str(captions.repeated_pairs)


def _image_lines(images: ImageStatistics) -> Iterator[tuple[str, str]]:
    looked = "" if images.looked_at == images.distinct else f", the first {images.looked_at} of them looked at"
    yield "images", f"{images.count}, {images.distinct} different files{looked}"
    first = f" ({images.first_undecodable})" if images.undecodable else ""
    yield "files that cannot be decoded", f"{images.undecodable}{first}"
    if images.shorter_side is not None and images.longer_side is not None and images.aspect is not None:
        yield "shorter side, pixels", _spread(images.shorter_side)
        yield "longer side, pixels", _spread(images.longer_side)
        yield "width by height", _spread(images.aspect)
    groups = "; ".join(", ".join(map(str, group[:5])) for group in images.near_groups[:GROUPS])
    yield "near duplicates", f"{images.near_images}" + (f", documents {groups}" if groups else "")
    yield "images of one colour", str(images.flat.count)


def _spread(spread: Spread) -> str:
    return f"{spread.least:.3g} to {spread.most:.5g}, median {spread.median:.4g}, 95% at most {spread.high:.4g}"
