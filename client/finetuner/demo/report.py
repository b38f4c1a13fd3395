"""Writes the report page of the demo: the first images of each query before and after, metrics and the loss curve.

The page is one self-contained file: images are data URIs and the chart is SVG.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #12924f; --accent: #2f6fde; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } .lead { opacity: .75; margin-top: .25rem; }
.cards { display: flex; gap: 1rem; flex-wrap: wrap; }
.card { border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1.2rem; flex: 1 1 14rem; }
.card b { font-size: 1.6rem; display: block; }
.query { border-top: 1px solid var(--line); padding: 1rem 0; }
.query h3 { margin: 0 0 .5rem; font-weight: 600; } .language { opacity: .6; font-weight: 400; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1.2rem; }
.row { display: flex; gap: .4rem; } figure { margin: 0; flex: 1; min-width: 0; text-align: center; font-size: .75rem; }
figure img { width: 100%; border-radius: 6px; border: 3px solid transparent; box-sizing: border-box; display: block; }
figure.relevant img { border-color: var(--good); }
figure.relevant figcaption { color: var(--good); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } .up { color: var(--good); }
svg text { fill: currentColor; font: 12px system-ui, sans-serif; }
@media (max-width: 700px) { .sides { grid-template-columns: 1fr; } }
"""


@dataclass(frozen=True)
class Thumbnail:
    """One image of a result list."""

    jpeg: bytes
    """The bytes of a JPEG file."""
    similarity: float
    """Cosine similarity to the query, in [-1, 1]."""
    relevant: bool
    """Whether the query describes the image's garment."""


@dataclass(frozen=True)
class Example:
    """One query with the images that each model found."""

    query: str
    """The query's text."""
    language: str
    """Language of the text, such as 'en'."""
    before: Sequence[Thumbnail]
    """Images that the pretrained model found, best first."""
    after: Sequence[Thumbnail]
    """Images that the tuned model found, best first."""


def write_report(
    path: Path,
    examples: Sequence[Example],
    metrics: Mapping[str, Mapping[str, float]],
    curve: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
) -> None:
    """Write the report page.

    Args:
        path: the HTML file to write.
        examples: queries with results.
        metrics: {'before': {name: value}, 'after': {name: value}}
        curve: points of the loss curve, each with 'step' and 'loss'.
        summary: values by name: 'artifact_id', 'model', 'train_pairs', 'test_images', 'chance_recall_at_5',
            'languages' ({language: {'before': R@5, 'after': R@5}}) and 'seconds' ({stage: seconds}).
    """
    cards = "".join(
        f'<div class="card">{escape(language)}: text-to-image R@5'
        f"<b>{recall['before']:.3f} → {recall['after']:.3f}</b>by chance {summary['chance_recall_at_5']:.3f}</div>"
        for language, recall in summary["languages"].items()
    )
    timing = ", ".join(f"{escape(name)} {value:.0f} s" for name, value in summary["seconds"].items())
    path.write_text(
        f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Open Finetuner: search before and after fine-tuning</title><style>{STYLE}</style>
<h1>Search before and after fine-tuning</h1>
<p class="lead">{escape(summary["model"])} was fine-tuned on {summary["train_pairs"]} pairs. Each query searches
{summary["test_images"]} images that were not in the training data. Artifact:
<code>{escape(summary["artifact_id"])}</code>.</p>
<div class="cards">{cards}</div>
<h2>Queries</h2><p class="lead">A green frame marks the garment that the query describes. The number is the cosine
similarity of image and query.</p>
{"".join(map(_query, examples))}
<h2>Training loss</h2>{_chart(curve)}
<h2>Metrics</h2>{_table(metrics)}
<h2>Time</h2><p class="lead">{timing}</p>
</html>
""",
        encoding="utf-8",
    )


def _query(example: Example) -> str:
    return f"""<section class="query">
<h3>{escape(example.query)} <span class="language">{escape(example.language)}</span></h3>
<div class="sides"><div>Before{_row(example.before)}</div><div>After{_row(example.after)}</div></div></section>
"""


def _row(thumbnails: Sequence[Thumbnail]) -> str:
    return f'<div class="row">{"".join(map(_figure, thumbnails))}</div>'


def _figure(thumbnail: Thumbnail) -> str:
    kind, mark = ("relevant", " ✓") if thumbnail.relevant else ("irrelevant", "")
    source = f"data:image/jpeg;base64,{base64.b64encode(thumbnail.jpeg).decode()}"
    return (
        f'<figure class="{kind}"><img alt="{kind}" src="{source}">'
        f"<figcaption>{thumbnail.similarity:.2f}{mark}</figcaption></figure>"
    )


def _table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    before, after = metrics["before"], metrics["after"]
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{before[name]:.4f}</td><td>{value:.4f}</td>"
        f'<td class="{"up" if value > before[name] else ""}">{value - before[name]:+.4f}</td></tr>'
        for name, value in after.items()
    )
    return f"<table><tr><th>Metric</th><th>Before</th><th>After</th><th>Change</th></tr>{rows}</table>"


def _chart(curve: Sequence[Mapping[str, Any]], width: int = 1000, height: int = 240) -> str:
    """Return the loss by step as an SVG line chart whose y axis starts at 0."""
    if not curve:
        return "<p>The run reported no steps.</p>"
    left, bottom = 45, 25
    last, top = max(entry["step"] for entry in curve) or 1, max(entry["loss"] for entry in curve) or 1.0
    points = " ".join(
        f"{left + (width - left) * entry['step'] / last:.1f},{(height - bottom) * (1 - entry['loss'] / top) + 5:.1f}"
        for entry in curve
    )
    return (
        f'<svg viewBox="0 0 {width + 5} {height}" role="img" aria-label="training loss by step">'
        f'<polyline points="{points}" fill="none" stroke="var(--accent)" stroke-width="2"/>'
        f'<line x1="{left}" y1="5" x2="{left}" y2="{height - bottom + 5}" stroke="var(--line)"/>'
        f'<line x1="{left}" y1="{height - bottom + 5}" x2="{width}" y2="{height - bottom + 5}" stroke="var(--line)"/>'
        f'<text x="0" y="14">{top:.2f}</text><text x="30" y="{height - bottom + 5}">0</text>'
        f'<text x="{width}" y="{height - 4}" text-anchor="end">step {last}</text></svg>'
    )
