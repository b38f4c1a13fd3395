"""`finetuner benchmark`: scores a model on a public set, zero-shot and tuned, and adds the figures to a table."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import finetuner

from ..api.data.upload import push_documents
from ..api.library import fetch_artifact
from ..api.session import connection
from ..artifacts.archive import unzip_artifact
from ..artifacts.load import load_artifact
from ..artifacts.manifest import read_manifest
from ..config.run_config import RunConfig
from ..contract.checks import choice, local_path
from ..exceptions import InvalidInput
from ..models.backbone import IMAGE_TASK, Backbone
from ..models.backbones import find_backbone
from ..progress import bar, waiting
from ..sources.rejects import checked_on_error
from ..sources.spool import Spool
from .provenance import provenance
from .scores import score_images, score_pairs
from .sets import BenchmarkSet, find_set
from .table import TUNED, ZERO_SHOT, Row, add_row, read_rows

if TYPE_CHECKING:
    from docarray import Document

    from ..models.model_kinds import Model


@dataclass(frozen=True)
class Benchmark:
    """The configuration of a benchmark.

    Raises:
        InvalidInput: a value that is not allowed, or options that contradict each other.
        NoSuchModel: unknown model.
    """

    set_name: str
    """Name in `sets.SETS`."""
    folder: Path
    """Folder of the set's files, as their makers publish them."""
    model: str
    """Name of a backbone for the set's task."""
    output: Path
    """Folder of the table."""
    split: str = "test"
    """Split to score on, never the training split."""
    artifact: str | None = None
    """A tuned model: folder, zip, or artifact id on the Flow."""
    tune: bool = False
    """Tune the model on the set's training split, on the Flow."""
    epochs: int | None = None
    """Epochs of the tuning. None for the default of `fit`, here and in the next two."""
    batch_size: int | None = None
    """Pairs per step of the tuning."""
    learning_rate: float | None = None
    """Peak learning rate of the tuning."""
    device: str | None = None
    """torch's name of the device to score on. None selects CUDA if available, else the CPU."""
    on_error: str = "raise"
    """For bad entries of the set: 'raise' lists all in one error, 'skip' leaves them out with a warning."""

    def __post_init__(self) -> None:
        for name in ("folder", "output"):
            object.__setattr__(self, name, local_path(name, getattr(self, name)))
        choice("split", self.split, tuple(self.set.images))
        checked_on_error(self.on_error)
        if self.row.task != self.set.task:
            raise InvalidInput(
                f"model must be for {self.set.task} to be scored on {self.set.title}. "
                f"Got {self.row.name}, which is for {self.row.task}. Choose another model."
            )
        if self.tune and self.artifact is not None:
            raise InvalidInput("--tune or --artifact must choose the tuned model. Got both. Leave one out.")
        if self.tuning and not self.tune:
            raise InvalidInput(f"{', '.join(self.tuning)} must come with --tune. Got no --tune. Add it.")
        if self.tune:
            RunConfig(model=self.row.name, train_data=self.training_data, **self.recipe)  # refuses wrong values now

    @property
    def set(self) -> BenchmarkSet:
        """The set with the name `set_name`."""
        return find_set(self.set_name)

    @property
    def row(self) -> Backbone:
        """The backbone with the name `model`."""
        return find_backbone(self.model)

    @property
    def tuning(self) -> dict[str, Any]:
        """The tuning options that the caller set."""
        given = {"epochs": self.epochs, "batch_size": self.batch_size, "learning_rate": self.learning_rate}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def recipe(self) -> dict[str, Any]:
        """The arguments of `fit` besides model and data."""
        return {**self.set.training, **self.tuning}

    @property
    def training_data(self) -> str:
        """Name of the dataset that holds the training split on the Flow."""
        return f"benchmark-{self.set.name}-train"

    @property
    def on_flow(self) -> bool:
        """Whether the benchmark needs a Flow: to tune, or to fetch the artifact."""
        return self.tune or (self.artifact is not None and not local_path("artifact", self.artifact).exists())

    @property
    def command(self) -> str:
        """The command line that repeats the benchmark, without the Flow's address and token."""
        words = ["finetuner", "benchmark", self.set_name, str(self.folder), "--model", self.model]
        words += ["--split", self.split, "--output", str(self.output)]
        words += ["--artifact", self.artifact] if self.artifact is not None else []
        words += ["--tune"] if self.tune else []
        for name, value in (*self.tuning.items(), ("device", self.device)):
            words += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
        words += ["--on-error", self.on_error] if self.on_error != "raise" else []
        return shlex.join(words)


def run_benchmark(benchmark: Benchmark, host: str | None = None, token: str | None = None) -> list[Row]:
    """Score a model zero-shot, and tuned if the benchmark has a tuned model. Add each row to the table at once.

    Args:
        benchmark: the configuration.
        host: of the Flow. Needed to tune and to fetch an artifact.
        token: of the Flow.

    Returns:
        The new rows.

    Raises:
        FinetunerError: an error of the files, the model or the Flow.
    """
    from ..models.model_kinds import load_row

    if benchmark.on_flow:
        finetuner.login(host=host, token=token)
    device = _device(benchmark.device)
    read_rows(benchmark.output)  # refuses a wrong folder before any work
    with waiting(f"Loading {benchmark.row.name}"):
        backbone = load_row(benchmark.row, device)
    rows = [_score(benchmark, backbone, ZERO_SHOT)]
    reference = _tune_on_flow(benchmark) if benchmark.tune else benchmark.artifact
    if reference is not None:
        model = _load_artifact(reference, benchmark.row, device)
        rows.append(_score(benchmark, model, TUNED))
    return rows


def _score(benchmark: Benchmark, model: Model, stage: str) -> Row:
    """Score a model, add its row to the table and return the row."""
    documents = benchmark.set.documents(benchmark.folder, benchmark.split, benchmark.on_error)
    score = score_images if benchmark.set.task == IMAGE_TASK else score_pairs
    with bar(f"Scoring {benchmark.row.name}, {stage}", None) as advance:
        metrics, images, texts = score(model, _counted(documents, advance), benchmark.set.limit)
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


def _counted(documents: Iterable[Document], advance: Callable[[int], None]) -> Iterator[Document]:
    for document in documents:
        yield document
        advance(1)


def _tune_on_flow(benchmark: Benchmark) -> str:
    """Tune on the training split and return the id of the artifact."""
    with Spool(benchmark.set.documents(benchmark.folder, "train", benchmark.on_error)) as documents:
        push_documents(connection(), benchmark.training_data, documents)
    run = finetuner.fit(benchmark.row.name, benchmark.training_data, wait=True, **benchmark.recipe)
    return run.artifact_id


def _load_artifact(reference: str, row: Backbone, device: str) -> Model:
    """Load a tuned model with all its towers, from a folder, a zip or the Flow.

    Raises:
        ArtifactNotFound, CorruptedArtifact, KeysMismatchError
        InvalidInput: the model was tuned from another backbone.
    """
    path = local_path("artifact", reference)
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
    """Return the name of the device to score on.

    Raises:
        InvalidInput: this machine does not have the device.
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        raise InvalidInput(
            f"device must exist on this machine, such as 'cpu'. Got {name!r}: {str(error).splitlines()[0]:.100}. "
            f"Choose another one."
        ) from error
    return name
