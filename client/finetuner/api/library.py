"""Datasets, artifacts and models of a Flow, from the user's side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts.archive import zip_artifact
from ..artifacts.manifest import read_manifest
from ..contract import wire
from ..contract.checks import NAME
from ..progress import bar
from ..transport.connection import Connection
from .run import fetch_artifact, save_zip
from .session import connection
from .upload import pull_documents, push_documents

if TYPE_CHECKING:
    from docarray import DocumentArray

    from ..inference.local import InferenceModel


def push_data(name: str, documents: DocumentArray) -> dict[str, Any]:
    """Send documents as a dataset, what is there already excepted; see `upload.push_documents`."""
    return push_documents(connection(), name, documents)


def pull_data(name: str) -> DocumentArray:
    """Return the documents of a dataset; see `upload.pull_documents`."""
    return pull_documents(connection(), name)


def list_data() -> list[dict[str, Any]]:
    """Return every dataset as {'name', 'version', 'documents', 'size', 'created_at', 'stream_size', 'kind'}."""
    datasets: list[dict[str, Any]] = connection().call(wire.DATASETS_LIST)
    return datasets


def delete_data(name: str) -> None:
    """Forget a dataset that no unfinished run reads.

    Raises:
        DatasetNotFound, InvalidInput
    """
    connection().call(wire.DATASETS_DELETE, name=name)


def evaluate(model: str, data: str, limit: int = 20) -> dict[str, float]:
    """Score an artifact (id or alias) or a backbone on a dataset, on the Flow.

    Args:
        model: the reference.
        data: name of a dataset of pairs.
        limit: k of the nine metrics.

    Returns:
        Name -> value, as `evaluation.evaluate_pairs` describes.
    """
    metrics: dict[str, float] = connection().call(wire.EVALUATE, model=model, data=data, limit=limit)["metrics"]
    return metrics


def promote(artifact: str, alias: str = "live", force: bool = False, tolerance: float = wire.PROMOTE_TOLERANCE) -> None:
    """Point an alias to an artifact or backbone; encoders follow with their next request.

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
    """Return the manifests of all published artifacts, oldest first, each with its 'aliases'."""
    artifacts: list[dict[str, Any]] = connection().call(wire.ARTIFACTS_LIST)
    return artifacts


def push_artifact(path: str) -> dict[str, Any]:
    """Send an artifact to the Flow, which checks it and publishes it under its own id.

    Args:
        path: a zip that `save_artifact` wrote, or a folder with what is in it.

    Returns:
        The artifact's manifest.

    Raises:
        ArtifactNotFound: no such file or folder.
        AlreadyExists: the Flow has another artifact of that id; the same one again changes nothing.
        InvalidInput: it is no artifact.
    """
    import tempfile

    source = Path(path)
    with tempfile.TemporaryDirectory(prefix="finetuner-") as folder:
        if not source.is_file():
            source = zip_artifact(source, Path(folder) / "artifact.zip", read_manifest(source).run_name)
        return _send_zip(connection(), source)


def _send_zip(flow: Connection, file: Path) -> dict[str, Any]:
    import uuid

    from docarray import Document, DocumentArray

    upload, size = uuid.uuid4().hex, file.stat().st_size
    with open(file, "rb") as opened, bar(f"Uploading {file.name}", size) as advance:
        while piece := opened.read(wire.PIECE_BYTES):
            offset = opened.tell() - len(piece)
            flow.send(wire.ARTIFACTS_PUSH, DocumentArray([Document(blob=piece)]), upload=upload, offset=offset)
            advance(len(piece))
        manifest: dict[str, Any] = flow.call(wire.ARTIFACTS_PUSH, upload=upload, commit=opened.tell())
    return manifest


def pull_artifact(artifact: str, directory: str = "artifacts/") -> str:
    """Fetch a published artifact and write it as a zip, as `Run.save_artifact` does.

    Args:
        artifact: id or alias.
        directory: made where it is not there.

    Returns:
        Path of `<directory>/<run name>.zip`.

    Raises:
        ArtifactNotFound, CorruptedArtifact
    """
    return save_zip(connection(), artifact, directory)


def get_model(
    artifact: str,
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
        token: for the Flow, where another than `login`'s is needed.
        batch_size: documents a forward pass.
        select_model: 'clip-text' or 'clip-vision'.
        device: torch's name; None takes CUDA where there is one.
        logging_level: of open_clip's log while it loads.
        is_onnx: run it by ONNX Runtime, without torch's weights; for artifacts of `fit(to_onnx=True)`.

    Raises:
        ArtifactNotFound, CorruptedArtifact, SelectModelRequired
        CorruptedONNXModel: an ONNX file that does not hold the model.
    """
    import logging
    import tempfile

    from ..inference.local import open_artifact

    logging.getLogger("open_clip").setLevel(logging_level)
    if Path(artifact).exists() or artifact.endswith(".zip") or not NAME.fullmatch(artifact):
        return open_artifact(Path(artifact), batch_size, select_model, device, is_onnx=is_onnx)
    flow = connection() if token is None else Connection(connection().host, token)
    with tempfile.TemporaryDirectory(prefix="finetuner-") as folder:
        fetch_artifact(flow, artifact, Path(folder))
        return open_artifact(Path(folder), batch_size, select_model, device, is_onnx=is_onnx)
