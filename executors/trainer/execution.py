"""One run from its request to the published artifact."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate.utils import set_seed

from finetuner.artifacts.manifest import Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.artifacts.registry import Models, weights_folder
from finetuner.config.run_config import RunConfig
from finetuner.documents.labelled import iterate_labelled
from finetuner.documents.pairs import Pair, iterate_pairs, read_pairs
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from finetuner.models.image_weights import with_head
from finetuner.models.model_kinds import Model, load_row
from finetuner.models.onednn import prefer_onednn
from finetuner.version import __version__
from finetuner.workspace.datasets import Datasets
from finetuner.workspace.folder import Workspace

from .curve import CurveFile
from .data.image_cache import ImageCache
from .data.image_data import prepare_images
from .data.training_data import prepare
from .hooks.evaluation import Scores
from .hooks.hook import Hook, Progress, closing
from .hooks.run_hooks import make_hooks
from .hooks.stuck import WarnIfStuck
from .hooks.wise_ft import kept_files
from .loop.checkpoint import Checkpoint
from .loop.clip_task import ClipTask
from .loop.image_task import ImageTask
from .loop.interrupt import Interrupt
from .loop.processes import join_processes, share_encoding
from .loop.task import Task
from .loop.training import Training
from .run_folder import RunFolder

ADAPTER_RATE, ADAPTER_RATE_FACTOR = 2e-5, 2

log = logging.getLogger("finetuner")


def execute(folder: RunFolder, interrupt: Interrupt) -> str:
    """Load, train with the run's hooks around it, publish.

    Args:
        folder: with the request.
        interrupt: ends training after a step.

    Returns:
        One line for the run's status.

    Raises:
        FinetunerError: whatever is wrong with the run.
        SystemExit: the process was asked to end.
    """
    request = folder.read("request")
    assert request is not None
    config, workspace = RunConfig.from_dict(request["config"]), Workspace(request["workspace"])
    log.info("Starting run %r in experiment %r", config.run_name, config.experiment_name)
    if request["threads"]:
        torch.set_num_threads(request["threads"])
    device, remark = _device(config)
    processes = join_processes(config.options.num_processes, device)
    checkpoint, first = Checkpoint(folder.checkpoint, request["checkpoint_seconds"]), processes.is_main_process
    with processes.main_process_first():
        if first and config.resume_from and not folder.checkpoint.exists():
            folder.take_over(RunFolder(workspace.run(config.resume_from)))
        state = checkpoint.read()
        if first:
            folder.go_back(0 if state is None else state["step"])
    with ExitStack() as stack:
        if not first:  # the others do what the first one does, and what they write is thrown away
            scratch = RunFolder(Path(stack.enter_context(TemporaryDirectory(prefix="finetuner-"))))
            scratch.take_scores(folder)
            folder = scratch
        model = _model(config, workspace, device)
        prefer_onednn(model.network)
        if processes.num_processes > 1:
            share_encoding(model)
        datasets, versions = Datasets(workspace), request["data"]
        eval_pairs = read_pairs(datasets.documents(versions["eval"])) if "eval" in versions else []
        scores = Scores(folder)
        hooks = make_hooks(config, model.towers, datasets, versions, eval_pairs, scores, folder)
        stack.enter_context(closing(hooks))
        progress = Progress(model, step=0 if state is None else state["step"])
        for hook in hooks:
            hook.before_training(progress)
        cache = ImageCache(workspace.pixels, round(request["image_cache_gb"] * 1e9))
        with processes.main_process_first():
            task = _task(model, config, datasets, versions["train"], cache)
        _train(task, progress, config, hooks, folder, checkpoint if first else None, state, interrupt)
        for hook in hooks:
            hook.choose_weights(progress)
        for hook in hooks:
            hook.after_training(progress)
        if first:
            _publish(model, config, scores, request, folder, eval_pairs)
    if first:
        checkpoint.delete()
    log.info("Finished 🚀")
    return f"Training finished{remark}"


def _device(config: RunConfig) -> tuple[str, str]:
    """Return torch's name of the device, and what the run's status says of it."""
    if config.device == "cpu":
        return "cpu", ""
    if torch.cuda.is_available():
        return "cuda", ""
    log.warning("device=%r was asked for, and this machine has no CUDA device: training on the CPU", config.device)
    return "cpu", " on the CPU (no CUDA device was found)"


def _model(config: RunConfig, workspace: Workspace, device: str) -> Model:
    row = find_backbone(config.model)
    start_from = config.model_artifact or row.name
    log.info("Loading %s on %s ...", start_from, device)
    set_seed(config.seed)  # for the random weights of a new head
    if config.model_options:
        model = load_row(row, device, weights_folder(workspace), config.model_options)
    else:
        model = Models(workspace, device=device, capacity=1).get(start_from)
    if not isinstance(model, Clip):
        with_head(model, config.output_dim, freeze=config.freeze)
    return model


def _task(model: Model, config: RunConfig, datasets: Datasets, version: str, cache: ImageCache) -> Task:
    documents, batch_size = datasets.documents(version), config.batch_size or find_backbone(config.model).batch_size
    if isinstance(model, Clip):
        pairs = prepare(iterate_pairs(documents), model, cache, version, config.num_workers)
        return ClipTask(model, pairs, config, batch_size)
    images = prepare_images(iterate_labelled(documents), model, cache, version, config.num_workers)
    return ImageTask(model, images, config, batch_size)


def _train(
    task: Task,
    progress: Progress,
    config: RunConfig,
    hooks: Sequence[Hook],
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    state: Mapping[str, Any] | None,
    interrupt: Interrupt,
) -> None:
    training = Training(
        task,
        progress,
        config,
        learning_rate=config.learning_rate or default_learning_rate(config),
        report=CurveFile(folder).add,
        hooks=[*hooks, *([WarnIfStuck(task.batch_size)] if config.loss == "CLIPLoss" else [])],
        checkpoint=checkpoint,
        state=state,
        interrupt=interrupt,
    )
    training.run()
    log.info("Done ✨")


def default_learning_rate(config: RunConfig) -> float:
    """Return the peak where the user gives none: the backbone's own; of adapters twice that, and at least 2e-5.

    tests/benchmarks/RESULTS.md has what that is worth; their second matrices learn faster still, see `optimization`.
    """
    own = find_backbone(config.model).learning_rate
    return own if config.options.lora_rank is None else max(ADAPTER_RATE_FACTOR * own, ADAPTER_RATE)


def _publish(
    model: Model,
    config: RunConfig,
    scores: Scores,
    request: Mapping[str, Any],
    folder: RunFolder,
    eval_pairs: Sequence[Pair],
) -> None:
    log.info("Building the artifact ...")
    parent, model.model_id = model.model_id, request["artifact_id"]
    manifest = Manifest(
        artifact_id=request["artifact_id"],
        run_name=config.run_name,
        backbone=find_backbone(config.model).name,
        output_dim=model.dim,
        towers=list(model.towers),
        metrics=scores.metrics,
        data=request["data"],
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=__version__,
        parent=parent,
    )
    path = publish_artifact(
        Workspace(request["workspace"]),
        model,
        manifest,
        config.to_dict(),
        scores.examples,
        to_onnx=config.to_onnx,
        pairs=eval_pairs,
        kept=kept_files(folder),
    )
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    log.info("Artifact pushed under ID '%s'", request["artifact_id"])
    log.debug("Artifact size is %.3f MB", size / 1e6)
