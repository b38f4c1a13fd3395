"""The functions of `import finetuner` that talk to a Flow."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import wire
from .connection import DEFAULT_HOST, Connection
from .exceptions import AlreadyExists, InvalidInput, RunNotFound, Unauthorized
from .progress import bar
from .run import Run, fetch_artifact
from .run_config import RunConfig
from .upload import batches, pull_documents, push_documents
from .workspace import NAME, checked_name

if TYPE_CHECKING:
    from docarray import Document, DocumentArray

    from .inference import InferenceModel

_current: Connection | None = None


def login(
    force: bool = False, interactive: bool | None = None, *, host: str | None = None, token: str | None = None
) -> None:
    """Connect to a Flow; later calls of this module go there.

    Args:
        force: ask the Flow again although this process is connected to it already.
        interactive: ask for a token on the terminal where the Flow wants one; None asks if there is a terminal.
        host: 'grpc://HOST:PORT'; else $FINETUNER_HOST, else grpc://127.0.0.1:51000.
        token: else $FINETUNER_TOKEN, else $JINA_AUTH_TOKEN, else none.

    Raises:
        FlowUnreachable: nothing answers there.
        Unauthorized: the Flow asks for another token.
    """
    global _current
    host = host or os.environ.get("FINETUNER_HOST") or DEFAULT_HOST
    token = token or os.environ.get("FINETUNER_TOKEN") or os.environ.get("JINA_AUTH_TOKEN") or ""
    connection = Connection(host, token)
    same = _current is not None and (_current.host, _current.token) == (connection.host, connection.token)
    if same and not force:
        return
    try:
        connection.call(wire.EXPERIMENTS_CREATE, name="default")
    except Unauthorized:
        import getpass
        import sys

        if not (sys.stdin.isatty() if interactive is None else interactive):
            raise
        connection = Connection(host, getpass.getpass(f"Token for {host}: "))
        connection.call(wire.EXPERIMENTS_CREATE, name="default")
    _current = connection


def connection() -> Connection:
    """Return the connection that `login` made, or make it with the environment's settings."""
    if _current is None:
        login()
    assert _current is not None
    return _current


def get_token() -> str:
    """Return the token in use, '' for none."""
    return connection().token


def fit(
    model: str,
    train_data: str | DocumentArray,
    eval_data: str | DocumentArray | None = None,
    val_split: float = 0.0,
    model_artifact: str | None = None,
    run_name: str | None = None,
    description: str | None = None,
    experiment_name: str | None = None,
    model_options: Mapping[str, Any] | None = None,
    loss: str = "TripletMarginLoss",
    miner: str | None = None,
    miner_options: Mapping[str, Any] | None = None,
    optimizer: str = "Adam",
    optimizer_options: Mapping[str, float] | None = None,
    learning_rate: float | None = None,
    epochs: int = 5,
    batch_size: int | None = None,
    callbacks: list[Any] | None = None,
    scheduler: str | None = None,
    scheduler_options: Mapping[str, int] | None = None,
    freeze: bool = False,
    output_dim: int | None = None,
    device: str = "cuda",
    num_workers: int = 4,
    to_onnx: bool = False,
    csv_options: Any | None = None,
    public: bool = False,
    num_items_per_class: int = 4,
    sampler: str = "auto",
    loss_optimizer: str | None = None,
    loss_optimizer_options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
) -> Run:
    """Start a run; it trains on the Flow, and this call returns at once.

    Args:
        model: a backbone, see `list_models()`, or `ARCH::TAG`.
        train_data: pairs, or the name of a dataset of pairs.
        eval_data: the same; the model is scored on it before and after.
        val_split: share of the training pictures, in [0, 1), held out for a validation loss each epoch.
        model_artifact: artifact id or alias to go on from.
        run_name: 1 to 128 letters, digits, '.', '_' or '-', new in the experiment; chosen where None.
        description: free text.
        experiment_name: 'default' where None.
        loss: 'CLIPLoss'; CLIP has no other yet, so the default of the other tasks is refused.
        optimizer: 'Adam' or 'AdamW'.
        optimizer_options: weight_decay, eps, beta1, beta2.
        learning_rate: peak; the backbone's own where None.
        epochs: passes over the pictures.
        batch_size: pairs a step; the backbone's own where None.
        scheduler: 'constant' (also None) or 'cosine'.
        scheduler_options: num_warmup_steps, num_training_steps.
        device: 'cuda' falls back to the CPU with a warning in the log; 'cpu'.
        num_workers: threads that decode pictures.
        sampler: 'auto' or 'random'.
        seed: of weights, order and crops.
        model_options, miner, miner_options, callbacks, freeze, output_dim, to_onnx, csv_options, public,
        num_items_per_class, loss_optimizer, loss_optimizer_options: not supported yet; anything but the default
            is refused.

    Raises:
        InvalidInput: a wrong value, an empty dataset.
        InvalidDocument: a pair with a missing side or an undecodable picture.
        NoSuchModel, DatasetNotFound, AlreadyExists, FlowUnreachable
    """
    _refuse(
        model_options=(model_options, None),
        miner=(miner, None),
        miner_options=(miner_options, None),
        callbacks=(callbacks or None, None),
        freeze=(freeze, False),
        output_dim=(output_dim, None),
        to_onnx=(to_onnx, False),
        csv_options=(csv_options, None),
        public=(public, False),
        num_items_per_class=(num_items_per_class, 4),
        loss_optimizer=(loss_optimizer, None),
        loss_optimizer_options=(loss_optimizer_options, None),
    )
    name, experiment = run_name if run_name is not None else f"run-{secrets.token_hex(4)}", experiment_name or "default"
    for side, data in {"train_data": train_data, "eval_data": eval_data}.items():
        _require_data(side, data, optional=side == "eval_data")
    checked_name(name, "run_name")
    sources = {"train": train_data, "eval": eval_data}
    names = {
        side: data if isinstance(data, str) else f"finetuner-dastorage-{experiment}-{name}-{side}"
        for side, data in sources.items()
        if data is not None
    }
    config = RunConfig(
        model=model,
        train_data=names["train"],
        eval_data=names.get("eval", ""),
        val_split=val_split,
        model_artifact=model_artifact or "",
        run_name=name,
        experiment_name=experiment,
        description=description or "",
        loss=loss,
        optimizer=optimizer,
        optimizer_options=optimizer_options or {},
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        scheduler=scheduler,
        scheduler_options=scheduler_options or {},
        sampler=sampler,
        device=device,
        num_workers=num_workers,
        seed=seed,
    )
    flow = connection()
    _require_new(flow, name, experiment)
    for side, data in sources.items():
        if data is not None and not isinstance(data, str):
            push_documents(flow, names[side], data)
    return Run(flow, flow.call(wire.FIT, config=config.to_dict()))


def _refuse(**given: tuple[Any, Any]) -> None:
    for name, (value, default) in given.items():
        if value != default:
            raise InvalidInput(f"{name} is not supported yet and must be {default!r}. Got {value!r}. Leave it out.")


def _require_data(name: str, data: object, *, optional: bool) -> None:
    if isinstance(data, str) or (optional and data is None):
        return
    from docarray import DocumentArray

    if not isinstance(data, DocumentArray):
        raise InvalidInput(
            f"{name} must be a DocumentArray of pairs or the name of a dataset. Got {type(data).__name__}."
        )
    if not len(data):
        raise InvalidInput(f"{name} must hold at least one pair. Got none. Add pairs.")


def _require_new(flow: Connection, name: str, experiment: str) -> None:
    try:
        flow.call(wire.RUNS_GET, name=name, experiment=experiment)
    except RunNotFound:
        return
    raise AlreadyExists(
        f"run_name must be new in experiment {experiment!r}. Got {name!r}, which exists. Choose another name."
    )


def get_run(run_name: str, experiment_name: str | None = None) -> Run:
    """Return a run.

    Raises:
        RunNotFound: none of that name.
    """
    flow = connection()
    return Run(flow, flow.call(wire.RUNS_GET, name=run_name, experiment=experiment_name or "default"))


def list_runs(experiment_name: str | None = None) -> list[Run]:
    """Return the runs of an experiment, or of all, oldest first."""
    flow = connection()
    parameters = {} if experiment_name is None else {"experiment": experiment_name}
    return [Run(flow, description) for description in flow.call(wire.RUNS_LIST, **parameters)]


def delete_run(run_name: str, experiment_name: str | None = None) -> None:
    """Forget a run that has ended.

    Raises:
        RunNotFound, InvalidInput
    """
    connection().call(wire.RUNS_DELETE, name=run_name, experiment=experiment_name or "default")


def push_data(name: str, documents: DocumentArray) -> dict[str, Any]:
    """Send pairs as a dataset; see `upload.push_documents`."""
    return push_documents(connection(), name, documents)


def pull_data(name: str) -> DocumentArray:
    """Return the documents of a dataset; see `upload.pull_documents`."""
    return pull_documents(connection(), name)


def list_data() -> list[dict[str, Any]]:
    """Return every dataset as {'name', 'version', 'documents', 'size', 'created_at'}."""
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


def promote(artifact: str, alias: str = "live") -> None:
    """Let an alias point to an artifact or backbone; encoders follow with their next request."""
    connection().call(wire.ARTIFACTS_PROMOTE, artifact=artifact, alias=alias)


def list_artifacts() -> list[dict[str, Any]]:
    """Return the manifests of all published artifacts, oldest first, each with its 'aliases'."""
    artifacts: list[dict[str, Any]] = connection().call(wire.ARTIFACTS_LIST)
    return artifacts


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
        is_onnx: not supported yet.

    Raises:
        ArtifactNotFound, CorruptedArtifact, SelectModelRequired
    """
    import logging
    import tempfile

    from .inference import open_artifact

    _refuse(is_onnx=(is_onnx, False))
    logging.getLogger("open_clip").setLevel(logging_level)
    if Path(artifact).exists() or artifact.endswith(".zip") or not NAME.fullmatch(artifact):
        return open_artifact(Path(artifact), batch_size, select_model, device)
    flow = connection() if token is None else Connection(connection().host, token)
    with tempfile.TemporaryDirectory(prefix="finetuner-") as folder:
        fetch_artifact(flow, artifact, Path(folder))
        return open_artifact(Path(folder), batch_size, select_model, device)


def index(documents: DocumentArray, artifact: str = "live") -> None:
    """Encode documents on the Flow and make them searchable; one of a known id is replaced.

    Args:
        documents: with text, blob, tensor, or uri of a picture, local ones too; not changed.
        artifact: id, alias or backbone that encodes them; only its searches find them.

    Raises:
        FinetunerError: of the first document that was refused; all good ones are indexed.
    """
    from docarray import DocumentArray

    flow = connection()
    first: Exception | None = None
    with bar("Indexing", len(documents)) as advance:
        for batch in batches(_with_content(documents)):
            for start in range(0, len(batch), 256):
                answer = flow.post(wire.INDEX, DocumentArray(batch[start : start + 256]), {"artifact": artifact})
                first = first or next((error for document in answer if (error := wire.error_of(document))), None)
                advance(len(answer))
    if first is not None:
        raise first


def search(query: str | Document | DocumentArray, limit: int = 20, artifact: str = "live") -> DocumentArray:
    """Find the indexed documents that are nearest to each query.

    Args:
        query: a text, a document (text or picture), or several.
        limit: matches per query, 1 to 1000.
        artifact: id, alias or backbone; must be one that documents were indexed with.

    Returns:
        The queries with `matches`, best first, `scores['cosine'].value` = cosine similarity in [-1, 1].

    Raises:
        FinetunerError: of the first query that was refused.
    """
    from docarray import Document, DocumentArray

    queries = DocumentArray([Document(text=query)] if isinstance(query, str) else query)
    answer = connection().post(
        wire.SEARCH, DocumentArray(_with_content(queries)), {"limit": limit, "artifact": artifact}
    )
    for document in answer:
        if (error := wire.error_of(document)) is not None:
            raise error
    return answer


def _with_content(documents: DocumentArray) -> list[Document]:
    from docarray import Document

    from .uris import read_local

    ready = []
    for document in documents:
        local = document.uri and not (document.text or document.blob or document.tensor is not None)
        if local and not document.uri.startswith("data:"):
            document = Document(document, copy=True)
            document.blob = read_local(document.uri)
        ready.append(document)
    return ready
