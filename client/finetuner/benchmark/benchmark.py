"""`finetuner benchmark`: a model's figures on a public set, zero-shot and tuned, added to a table."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import finetuner

from ..api.library import fetch_artifact
from ..api.session import connection
from ..api.upload import push_documents
from ..artifacts.archive import unzip_artifact
from ..artifacts.load import load_artifact
from ..artifacts.manifest import read_manifest
from ..config.callbacks import EvaluationCallback
from ..config.run_config import RunConfig
from ..contract.checks import choice
from ..contract.wire import LABEL_TAG
from ..exceptions import InvalidInput
from ..models.backbones import Backbone, find_backbone
from ..sources.rejects import checked_on_error
from ..sources.spool import Spool
from .provenance import provenance
from .sets import BenchmarkSet, find_set
from .table import TUNED, ZERO_SHOT, Row, add_row, read_rows

if TYPE_CHECKING:
    from docarray import Document

    from ..models.model_kinds import Model


@dataclass(frozen=True)
class Benchmark:
    """What is scored on what.

    Raises:
        InvalidInput: when made with a value that is not allowed, or options that contradict each other.
        NoSuchModel: an unknown model.
    """

    set_name: str
    """See `benchmark_sets.SETS`."""
    folder: Path
    """Holds the set's files as their makers hand them out."""
    model: str
    """A backbone for the set's task."""
    output: Path
    """Folder of the table."""
    split: str = "test"
    """Of the set, one that is not trained on."""
    artifact: str | None = None
    """A model that is tuned already: folder, zip, or artifact id of the Flow."""
    tune: bool = False
    """Tune the model on the set's training split, on the Flow."""
    epochs: int | None = None
    """Of tuning; this and the next two are `fit`'s own where None."""
    batch_size: int | None = None
    """Of tuning."""
    learning_rate: float | None = None
    """Of tuning."""
    device: str | None = None
    """torch's name of the device to score on; None takes CUDA where there is one."""
    on_error: str = "raise"
    """'raise' stops at bad entries of the set, all named; 'skip' leaves them out with a warning."""

    def __post_init__(self) -> None:
        choice("split", self.split, tuple(self.set.images))
        checked_on_error(self.on_error)
        if self.row.task != self.set.task:
            raise InvalidInput(
                f"model must be for {self.set.task} to be scored on {self.set.title}. "
                f"Got {self.row.name}, which is for {self.row.task}. Choose another one."
            )
        if self.tune and self.artifact is not None:
            raise InvalidInput("--tune and --artifact are two ways to a tuned model. Got both. Leave one out.")
        if self.tuning and not self.tune:
            raise InvalidInput(f"{', '.join(self.tuning)} must come with --tune. Got no --tune. Add it.")
        if self.tune:
            RunConfig(model=self.row.name, train_data=self.training_data, **self.recipe)  # refuses wrong values now

    @property
    def set(self) -> BenchmarkSet:
        """The set of that name."""
        return find_set(self.set_name)

    @property
    def row(self) -> Backbone:
        """The backbone of that name."""
        return find_backbone(self.model)

    @property
    def tuning(self) -> dict[str, Any]:
        """What the caller says about tuning."""
        given = {"epochs": self.epochs, "batch_size": self.batch_size, "learning_rate": self.learning_rate}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def recipe(self) -> dict[str, Any]:
        """What `fit` is given besides model and data."""
        return {**self.set.training, **self.tuning}

    @property
    def training_data(self) -> str:
        """The dataset's name under which the training split is pushed."""
        return f"benchmark-{self.set.name}-train"

    @property
    def on_flow(self) -> bool:
        """Whether a Flow is needed: to tune, or for an artifact that is no file here."""
        return self.tune or (self.artifact is not None and not Path(self.artifact).exists())

    @property
    def command(self) -> str:
        """What to type for the same figures; without the Flow's address and token."""
        words = ["finetuner", "benchmark", self.set_name, str(self.folder), "--model", self.model]
        words += ["--split", self.split, "--output", str(self.output)]
        words += ["--artifact", self.artifact] if self.artifact is not None else []
        words += ["--tune"] if self.tune else []
        for name, value in (*self.tuning.items(), ("device", self.device)):
            words += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
        words += ["--on-error", self.on_error] if self.on_error != "raise" else []
        return shlex.join(words)


def run_benchmark(benchmark: Benchmark, host: str | None = None, token: str | None = None) -> list[Row]:
    """Score a model and add its rows to the table: zero-shot, and tuned where a tuned model is given or asked for.

    Args:
        benchmark: what is scored on what.
        host: of the Flow, needed for tuning and for an artifact's id alone.
        token: the same.

    Returns:
        The rows made, which are in the table already, each as soon as it was measured.

    Raises:
        FinetunerError: whatever goes wrong with files, model or Flow.
    """
    from ..models.model_kinds import load_row

    if benchmark.on_flow:
        finetuner.login(host=host, token=token)
    device = _device(benchmark.device)
    read_rows(benchmark.output)  # refuses a folder of something else before the work
    rows = [_measured(benchmark, load_row(benchmark.row, device), ZERO_SHOT)]
    reference = _tuned_on_flow(benchmark) if benchmark.tune else benchmark.artifact
    if reference is not None:
        model = _load_artifact(reference, benchmark.row, device)
        rows.append(_measured(benchmark, model, TUNED))
    return rows


def _measured(benchmark: Benchmark, model: Model, stage: str) -> Row:
    documents = benchmark.set.documents(benchmark.folder, benchmark.split, benchmark.on_error)
    if benchmark.set.task == "image-to-image":
        metrics, images, texts = score_images(model, documents, benchmark.set.limit)
    else:
        metrics, images, texts = score_pairs(model, documents, benchmark.set.limit)
    row = Row(
        set=benchmark.set.name,
        split=benchmark.split,
        model=benchmark.row.name,
        stage=stage,
        artifact=model.model_id if stage == TUNED else "",
        images=images,
        published_images=benchmark.set.images[benchmark.split],
        texts=texts,
        limit=benchmark.set.limit,
        metrics=metrics,
        command=benchmark.command,
        **provenance(str(model.device)),
    )
    add_row(benchmark.output, row)
    return row


def score_pairs(model: Model, documents: Iterable[Document], limit: int) -> tuple[dict[str, float], int, int]:
    """Return a CLIP's metrics by plain names, and the numbers of images and texts.

    Args:
        model: a CLIP with both towers.
        documents: pairs, read once; no more than a batch of images is held.
        limit: k of the nine metrics.

    Raises:
        InvalidInput: no pair.
    """
    from ..documents.pairs import read_pair
    from ..evaluation.pairs import PREFIX, encode_pairs, score
    from ..models.clip import Clip

    assert isinstance(model, Clip)
    encoded = encode_pairs(model, map(read_pair, documents))
    metrics = {name.removeprefix(PREFIX): value for name, value in score(encoded, limit).items()}
    return metrics, len(encoded.vision_keys), len(encoded.text_keys)


def score_images(model: Model, documents: Iterable[Document], limit: int) -> tuple[dict[str, float], int, int]:
    """Return a model's metrics as the first image of each label searches all others, the number of images, and 0.

    Args:
        model: of images.
        documents: labelled images; all of them are held.
        limit: k of the metrics.

    Raises:
        InvalidInput: no image.
    """
    from ..evaluation.search import evaluate_search, read_search_data

    queries, index = {}, []
    for document in documents:
        label = document.tags[LABEL_TAG]
        if label in queries:
            index.append(document)
        else:
            queries[label] = document
    options = EvaluationCallback(query_data="queries", index_data="index", limit=limit)
    data = read_search_data(options, model.towers, queries.values(), index)
    return evaluate_search(model, data, gather=False)[0], len(queries) + len(index), 0


def _tuned_on_flow(benchmark: Benchmark) -> str:
    """Tune on the training split and return the artifact's id."""
    with Spool(benchmark.set.documents(benchmark.folder, "train", benchmark.on_error)) as documents:
        push_documents(connection(), benchmark.training_data, documents)
    run = finetuner.fit(benchmark.row.name, benchmark.training_data, wait=True, **benchmark.recipe)
    return run.artifact_id


def _load_artifact(reference: str, row: Backbone, device: str) -> Model:
    """Load all of a tuned model, from a folder, a zip or the Flow.

    Raises:
        ArtifactNotFound, CorruptedArtifact, KeysMismatchError
        InvalidInput: it was tuned from another backbone.
    """
    path = Path(reference)
    with tempfile.TemporaryDirectory(prefix="finetuner-") as scratch:
        folder = path if path.is_dir() else Path(scratch)
        if path.is_file():
            unzip_artifact(path, folder)
        elif not path.is_dir():
            fetch_artifact(connection(), reference, folder)
        backbone = read_manifest(folder).backbone
        if backbone != row.name:
            raise InvalidInput(
                f"artifact must be tuned from {row.name}. Got one of {backbone}. Set --model {backbone}."
            )
        return load_artifact(folder, device)


def _device(name: str | None) -> str:
    """Return the device to score on.

    Raises:
        InvalidInput: no device of that name here.
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        raise InvalidInput(
            f"device must be one that is here, such as 'cpu'. Got {name!r} ({str(error).splitlines()[0]:.100})."
        ) from error
    return name
