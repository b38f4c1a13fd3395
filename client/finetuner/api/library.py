"""Pushes, pulls, lists and deletes datasets; publishes, promotes, fetches and loads artifacts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts.archive import artifact_folder, zip_artifact
from ..artifacts.manifest import MANIFEST, parse_manifest, read_manifest, verify_artifact
from ..contract import wire
from ..contract.checks import NAME, checked_name, local_path
from ..exceptions import InvalidInput
from ..progress import bar, waiting
from ..sources.kinds import documents_from, is_source
from ..transport.connection import Connection
from .data.upload import pull_documents, push_documents
from .session import connection

if TYPE_CHECKING:
    from docarray import Document, DocumentArray

    from ..inference.local import InferenceModel
    from ..sources.kinds import Source
    from ..sources.tables.csv_file import CSVOptions


def push_data(
    name: str,
    documents: Document | Iterable[Document] | Source,
    *,
    task: str = "text-to-image",
    csv_options: CSVOptions | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    on_error: str = "raise",
) -> dict[str, Any]:
    """Send documents or files to the Flow as a dataset, except content that it already stores.

    Args:
        name: 1 to 128 letters, digits, '.', '_' or '-'; replaces a dataset of that name.
        documents: see `upload.push_documents`; or files, given like `train_data` of `fit`. The other arguments are for
            files.
        task: 'text-to-image' reads pairs, 'image-to-image' labelled images.
        csv_options: as in `fit`.
        columns: as in `fit`.
        on_error: as in `fit`.

    Returns:
        See `upload.push_documents`.

    Raises:
        InvalidInput: no documents, a malformed name, or options of files with documents.
        InvalidDocument: invalid documents or entries of files; nothing has been sent.
        DatasetNotFound: no such file.
    """
    if not is_source(documents):
        given = {"task": task, "csv_options": csv_options, "columns": columns, "on_error": on_error}
        default = {"task": "text-to-image", "csv_options": None, "columns": None, "on_error": "raise"}
        if unused := [argument for argument in given if given[argument] != default[argument]]:
            raise InvalidInput(f"{unused[0]} is for files. Got it with {type(documents).__name__}. Leave it out.")
        return push_documents(connection(), name, documents)
    checked_name(name, "dataset name")
    read = documents_from(
        documents,
        csv_options=csv_options,
        columns=columns,
        task=task,
        on_error=on_error,
    )
    return push_documents(connection(), name, read)


def pull_data(name: str) -> DocumentArray:
    """Return the documents of a dataset; see `upload.pull_documents`."""
    return pull_documents(connection(), name)


def list_data() -> list[dict[str, Any]]:
    """Return every dataset as {'name', 'version', 'documents', 'size', 'created_at', 'stream_size', 'kind'}."""
    datasets: list[dict[str, Any]] = connection().call(wire.DATASETS_LIST)
    return datasets


def delete_data(name: str) -> None:
    """Delete a dataset.

    Raises:
        DatasetNotFound: no dataset has that name.
        InvalidInput: an unfinished run reads it.
    """
    connection().call(wire.DATASETS_DELETE, name=name)


def evaluate(model: str, data: str, limit: int = 20) -> dict[str, float]:
    """Score a CLIP on a dataset of pairs, on the Flow.

    Args:
        model: artifact id, alias or backbone.
        data: name of a dataset of pairs.
        limit: k of the nine metrics and of the textbook ones, 1 to 1000.

    Returns:
        Metric name -> value; see `evaluation.pairs.evaluate_pairs`.

    Raises:
        ArtifactNotFound, DatasetNotFound, InvalidInput
    """
    flow = connection()
    with waiting(f"Scoring {model}"):
        metrics: dict[str, float] = flow.call(wire.EVALUATE, model=model, data=data, limit=limit)["metrics"]
    return metrics


def promote(artifact: str, alias: str = "live", force: bool = False, tolerance: float = wire.PROMOTE_TOLERANCE) -> None:
    """Point an alias to an artifact or backbone; the encoders use it from their next request on.

    Args:
        artifact: id or alias of an artifact, or a backbone.
        alias: any name; `live` is the default of encoders and searches.
        force: promote an artifact even if it became worse by tuning.
        tolerance: in [0, 1], by which the artifact's score may be lower than before tuning. The score is the mean of
            R@5 in both directions, or, without evaluation data, the mean of the evaluation callbacks' recalls and
            NDCGs. An artifact without any score passes.

    Raises:
        ArtifactNotFound: no such artifact or backbone.
        InvalidInput: the artifact became worse by more than the tolerance.
    """
    connection().call(wire.ARTIFACTS_PROMOTE, artifact=artifact, alias=alias, force=force, tolerance=tolerance)


def list_artifacts() -> list[dict[str, Any]]:
    """Return the manifests of all published artifacts, oldest first; each also lists the artifact's 'aliases'."""
    artifacts: list[dict[str, Any]] = connection().call(wire.ARTIFACTS_LIST)
    return artifacts


def push_artifact(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Send an artifact to the Flow, which verifies it and publishes it under the artifact's own id.

    Args:
        path: a zip that `save_artifact` wrote, or its unpacked folder.

    Returns:
        The artifact's manifest.

    Raises:
        ArtifactNotFound: the file or folder does not exist.
        AlreadyExists: the Flow has a different artifact with that id. Sending the same artifact again is no error.
        InvalidInput: the file or folder is not an artifact.
    """
    source = local_path("path", path)
    with tempfile.TemporaryDirectory(prefix="finetuner-") as folder:
        if not source.is_file():
            source = zip_artifact(source, Path(folder) / "artifact.zip", read_manifest(source).run_name)
        return send_zip(connection(), source)


def send_zip(flow: Connection, file: Path) -> dict[str, Any]:
    """Send an artifact's zip to the Flow, piece by piece, and return its manifest."""
    import uuid

    from docarray import Document, DocumentArray

    upload, size = uuid.uuid4().hex, file.stat().st_size
    with open(file, "rb") as opened, bar(f"Uploading {file.name}", size, in_bytes=True) as advance:
        while piece := opened.read(wire.PIECE_BYTES):
            offset = opened.tell() - len(piece)
            flow.send(wire.ARTIFACTS_PUSH, DocumentArray([Document(blob=piece)]), upload=upload, offset=offset)
            advance(len(piece))
        manifest: dict[str, Any] = flow.call(wire.ARTIFACTS_PUSH, upload=upload, commit=opened.tell())
    return manifest


def pull_artifact(artifact: str, directory: str | os.PathLike[str] = "artifacts/") -> str:
    """Fetch a published artifact and write it as a zip, as `Run.save_artifact` does.

    Args:
        artifact: artifact id or alias.
        directory: folder for the zip, created if missing.

    Returns:
        Path of `<directory>/<run name>.zip`.

    Raises:
        ArtifactNotFound, CorruptedArtifact
    """
    return save_zip(connection(), artifact, directory)


def save_zip(connection: Connection, reference: str, directory: str | os.PathLike[str], name: str = "") -> str:
    """Fetch a published artifact and write it as a zip.

    Args:
        connection: connection to the Flow.
        reference: artifact id or alias.
        directory: folder for the zip, created if missing.
        name: name of the zip and of the folder inside it; '' takes the name of the artifact's run.

    Returns:
        Path of `<directory>/<name>.zip`.

    Raises:
        ArtifactNotFound, CorruptedArtifact
    """
    parent = local_path("directory", directory)
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=".artifact-"))
    try:
        fetch_artifact(connection, reference, folder)
        name = name or checked_name(read_manifest(folder).run_name, "artifact's run name")
        return str(zip_artifact(folder, parent / f"{name}.zip", name))
    finally:
        shutil.rmtree(folder)


def fetch_artifact(connection: Connection, reference: str, folder: Path) -> None:
    """Fetch a published artifact into an empty folder and verify it.

    Args:
        connection: connection to the Flow.
        reference: artifact id or alias.
        folder: destination of the files.

    Raises:
        ArtifactNotFound, CorruptedArtifact
    """
    content = connection.call(wire.ARTIFACTS_PULL, artifact=reference)["manifest"]
    manifest = parse_manifest(content, connection.host)
    (folder / MANIFEST).write_text(content)
    size = sum(entry["size"] for entry in manifest.files.values())
    with bar(f"Fetching {manifest.artifact_id}", size, in_bytes=True) as advance:
        for name, entry in manifest.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / name, "wb") as file:
                while file.tell() < entry["size"]:
                    parameters = {"artifact": manifest.artifact_id, "file": name, "offset": file.tell()}
                    answer = connection.post(wire.ARTIFACTS_PULL, parameters=parameters)[0]
                    if (error := wire.error_of(answer)) is not None:
                        raise error
                    if not answer.blob:
                        break  # shorter than the manifest states: verify_artifact names the file
                    advance(file.write(answer.blob))
    verify_artifact(folder)


def export_artifact(
    artifact: str | os.PathLike[str],
    to: str,
    directory: str | os.PathLike[str],
    token: str | None = None,
    push_to_hub: str | None = None,
) -> str:
    """Write an artifact as a folder that another library loads, with a model card that says how.

    Args:
        artifact: a folder, a zip that `save_artifact` wrote, or an artifact id or alias of the Flow.
        to: 'open_clip' or 'transformers' for a CLIP, 'timm' for an image model, 'sentence-transformers' or 'onnx' for
            both.
        directory: the new folder; it must not exist.
        token: token for the Flow; None takes the token of `login`.
        push_to_hub: 'OWNER/NAME' also sends the folder to the Hugging Face hub, as one commit. A new repository is
            private. The token is HF_TOKEN's.

    Returns:
        Path of the folder.

    Raises:
        InvalidInput: another `to`, or one whose library cannot hold the model; or no token for the hub.
        FinetunerError: the hub refuses. The folder stays.
        AlreadyExists: `directory` exists.
        ArtifactNotFound, CorruptedArtifact
    """
    from ..exports.export import export_artifact_to

    return export_artifact_to(partial(_local_artifact, artifact, token), to, directory, push_to_hub)


@contextmanager
def _local_artifact(artifact: str | os.PathLike[str], token: str | None) -> Iterator[Path]:
    """Yield the folder of an artifact: a user's folder or zip, or one that is fetched from the Flow."""
    if (path := _path_of(artifact)) is not None:
        with artifact_folder(path) as folder:
            yield folder
        return
    flow = connection() if token is None else Connection(connection().host, token)
    with fetched_artifact(flow, str(artifact)) as folder:
        yield folder


def _path_of(artifact: str | os.PathLike[str]) -> Path | None:
    """Return the path that an artifact is, None for an id or alias of the Flow."""
    path = local_path("artifact", artifact)
    if isinstance(artifact, os.PathLike) or path.exists() or path.suffix == ".zip" or not NAME.fullmatch(artifact):
        return path
    return None


@contextmanager
def fetched_artifact(connection: Connection, reference: str) -> Iterator[Path]:
    """Yield a temporary folder with an artifact of the Flow, see `fetch_artifact`."""
    with tempfile.TemporaryDirectory(prefix="finetuner-") as name:
        fetch_artifact(connection, reference, Path(name))
        yield Path(name)


def get_model(
    artifact: str | os.PathLike[str],
    token: str | None = None,
    batch_size: int = 32,
    select_model: str | None = None,
    device: str | None = None,
    logging_level: str = "WARNING",
    is_onnx: bool = False,
) -> InferenceModel:
    """Load a tuned model on this machine.

    Args:
        artifact: a folder, a zip that `save_artifact` wrote, or an artifact id or alias of the Flow.
        token: token for the Flow; None takes the token of `login`.
        batch_size: documents per forward pass.
        select_model: 'clip-text' or 'clip-vision' for a CLIP; None is enough for an image model.
        device: torch's name of a device; None takes CUDA if available, else the CPU.
        logging_level: level of open_clip's log.
        is_onnx: run the artifact's ONNX models with ONNX Runtime; needs an artifact of `fit(to_onnx=True)`.

    Raises:
        ArtifactNotFound, CorruptedArtifact, SelectModelRequired
        CorruptedONNXModel: an ONNX file does not hold the model.
    """
    import logging

    from ..inference.local import open_artifact

    logging.getLogger("open_clip").setLevel(logging_level)
    with _local_artifact(artifact, token) as folder:
        model = open_artifact(folder, batch_size, select_model, device, is_onnx=is_onnx)
    path = _path_of(artifact)
    origin = model.encoder.model_id if path is None else path.absolute()  # an alias may point to another one later
    return replace(model, origin=partial(_local_artifact, origin, token))
