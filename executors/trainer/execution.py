"""Runs one request: loads the model and the data, trains, and publishes the artifact."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate.utils import set_seed

from finetuner.artifacts.fingerprints import model_fingerprints, same_towers
from finetuner.artifacts.manifest import Manifest, read_manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.artifacts.registry import Models, weights_folder
from finetuner.config.run_config import RunConfig
from finetuner.documents.labelled import iterate_labelled
from finetuner.documents.pairs import iterate_pairs
from finetuner.models.acceleration import prefer_onednn
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from finetuner.models.image_weights import with_head
from finetuner.models.model_kinds import Model, load_row
from finetuner.version import __version__
from finetuner.workspace.folder import Workspace

from .curve import CurveFile
from .data.image_cache import ImageCache
from .data.image_data import prepare_images
from .data.training_data import prepare
from .data.trouble import troubles
from .hooks.evaluation import calibration_file
from .hooks.hook import Hook, Progress, closing
from .hooks.run_hooks import make_hooks
from .hooks.stuck import WarnIfStuck
from .hooks.trends import WarnOfTrends
from .hooks.wise_ft import kept_files
from .loop.checkpoint import Checkpoint
from .loop.clip_task import ClipTask
from .loop.interrupt import Interrupt
from .loop.processes import join_processes, share_encoding
from .loop.task import Task
from .loop.training import Training
from .run_context import RunContext
from .run_folder import RESOLVED, RunFolder
from .run_messages import RunRequest

ADAPTER_RATE, ADAPTER_RATE_FACTOR = 2e-5, 2

log = logging.getLogger("finetuner")


@dataclass(frozen=True)
class Resumption:
    """The means of a run to stop early and to resume."""

    checkpoint: Checkpoint | None
    """Written while training; None in every process but the first."""
    state: Mapping[str, Any] | None
    """The last checkpoint's content; None starts at the beginning."""
    interrupt: Interrupt
    """Ends training after a step."""


def execute(request: RunRequest, folder: RunFolder, interrupt: Interrupt) -> str:
    """Load the model and the data, train with the run's hooks, and publish the artifact.

    Args:
        request: the order to run.
        folder: of the run.
        interrupt: ends training after a step.

    Returns:
        One line for the run's status.

    Raises:
        FinetunerError: the run cannot finish; the message states the reason.
        SystemExit: the process got SIGTERM.
    """
    config, settings = request.config, request.settings
    log.info("Starting run %r in experiment %r", config.run_name, config.experiment_name)
    if config.recipe or config.recipe_choice:
        log.info("Recipe: %s, %s", config.recipe or "none", config.recipe_choice or "as the call asks")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device, remark = _device(config)
    processes = join_processes(config.options.num_processes, device)
    checkpoint = Checkpoint(folder.checkpoint, settings.checkpoint_seconds, folder.may_write)
    first = processes.is_main_process
    with processes.main_process_first():
        if first and config.resume_from and not folder.checkpoint.exists():
            folder.take_over(RunFolder(Workspace(request.workspace).run(config.resume_from)))
        state = checkpoint.read()
        if first:
            folder.go_back(0 if state is None else state["step"])
    with ExitStack() as stack:
        if not first:  # the other processes do the same as the first one, and their files are thrown away
            scratch = RunFolder(Path(stack.enter_context(TemporaryDirectory(prefix="finetuner-"))))
            scratch.take_scores(folder)
            folder = scratch
        context = RunContext.open(request, folder)
        model = _model(context, device)
        prefer_onednn(model.network)
        if processes.num_processes > 1:
            share_encoding(model)
        fingerprints = _start(context, model) if first else {}
        hooks = make_hooks(context, model.towers)
        stack.enter_context(closing(hooks))
        progress = Progress(model, step=0 if state is None else state["step"])
        for hook in hooks:
            hook.before_training(progress)
        with processes.main_process_first():
            task = _task(context, model, warn=first)
        _train(context, task, progress, hooks, Resumption(checkpoint if first else None, state, interrupt))
        for hook in hooks:
            hook.choose_weights(progress)
        for hook in hooks:
            hook.after_training(progress)
        if first:
            _publish(context, model, fingerprints)
    if first:
        checkpoint.delete()
    log.info("Finished 🚀")
    return f"Training finished{remark}"


def _device(config: RunConfig) -> tuple[str, str]:
    """Return torch's name of the device, and a remark for the run's status."""
    if config.device == "cpu":
        return "cpu", ""
    if torch.cuda.is_available():
        return "cuda", ""
    log.warning("device=%r was asked for, and this machine has no CUDA device: training on the CPU", config.device)
    return "cpu", " on the CPU (no CUDA device was found)"


def _model(context: RunContext, device: str) -> Model:
    config, row = context.config, find_backbone(context.config.model)
    start_from = config.model_artifact or row.name
    log.info("Loading %s on %s ...", start_from, device)
    set_seed(config.seed)  # for the random weights of a new head
    if config.model_options:
        model = load_row(row, device, weights_folder(context.workspace), config.model_options)
    else:
        model = Models(context.workspace, device=device, capacity=1).get(start_from)
    if not isinstance(model, Clip):
        with_head(model, config.output_dim, freeze=config.freeze)
    elif config.matryoshka is not None:  # before the first score, which is of each size
        config.matryoshka.check_below(model.dim)
    return model


def _start(context: RunContext, model: Model) -> dict[str, str]:
    """Return the fingerprints of the model's towers, if the run freezes a part; {} otherwise.

    Those of a backbone are recorded: an index may have its vectors.
    """
    if not isinstance(model, Clip) or not context.config.options.frozen:
        return {}
    found = model_fingerprints(model)
    if not context.config.model_artifact and not context.config.model_options:
        context.workspace.fingerprints.set(model.model_id, found)
    return found


def _task(context: RunContext, model: Model, *, warn: bool) -> Task:
    config, versions = context.config, context.request.data
    cache = ImageCache(context.workspace.pixels, round(context.request.settings.image_cache_gb * 1e9))
    batch_size = config.batch_size or find_backbone(config.model).batch_size
    uses = ["train", *(["eval"] if "eval" in versions and not config.val_split else [])]
    replays = isinstance(model, Clip) and "replay" in versions
    uses += ["replay"] if replays else []
    data = [(context.datasets.documents(versions[use]), versions[use], f"{use}_data") for use in uses]
    threads = config.num_workers
    if isinstance(model, Clip):
        pairs = [prepare(iterate_pairs(found), model, cache, version, threads, name) for found, version, name in data]
        replay = pairs.pop() if replays else None
        validation = pairs[1] if pairs[1:] else None
        for trouble in troubles(model, pairs[0], validation, batch_size) if warn else ():
            log.warning("Data: %s", trouble)
        return ClipTask(model, pairs[0], config, batch_size, validation, replay)
    images = [
        prepare_images(iterate_labelled(found), model, cache, version, threads, name) for found, version, name in data
    ]
    from .loop.image_task import ImageTask  # the library of its losses takes seconds to import

    return ImageTask(model, images[0], config, batch_size, *images[1:])


def _train(context: RunContext, task: Task, progress: Progress, hooks: Sequence[Hook], resumption: Resumption) -> None:
    config = context.config
    added = config.options.distillation or config.replay_data
    comparable = config.loss == "CLIPLoss" and not added  # with guessing, ln(batch size)
    training = Training(
        task,
        progress,
        config,
        learning_rate=config.learning_rate or default_learning_rate(config),
        report=CurveFile(context.folder).add,
        started=partial(context.folder.write, RESOLVED),
        hooks=[*hooks, *([WarnIfStuck(task.batch_size)] if comparable else []), WarnOfTrends()],
        checkpoint=resumption.checkpoint,
        state=resumption.state,
        interrupt=resumption.interrupt,
    )
    training.run()
    log.info("Done ✨")


def default_learning_rate(config: RunConfig) -> float:
    """Return the peak learning rate of a run that sets none.

    It is the backbone's own, and for adapters twice that, at least 2e-5; tests/benchmarks/RESULTS.md has the
    measurements. The second matrices of adapters learn faster still, see `optimization`.
    """
    own = find_backbone(config.model).learning_rate
    return own if config.options.lora_rank is None else max(ADAPTER_RATE_FACTOR * own, ADAPTER_RATE)


def _publish(context: RunContext, model: Model, started_with: Mapping[str, str]) -> None:
    log.info("Building the artifact ...")
    config, artifact_id = context.config, context.request.artifact_id
    parent, model.model_id = model.model_id, artifact_id
    manifest = Manifest(
        artifact_id=artifact_id,
        run_name=config.run_name,
        backbone=find_backbone(config.model).name,
        output_dim=model.dim,
        towers=list(model.towers),
        metrics=context.scores.metrics,
        data=dict(context.request.data),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=__version__,
        parent=parent,
        training=context.folder.read(RESOLVED) or {},
    )
    path = publish_artifact(
        context.workspace,
        model,
        manifest,
        config.to_dict(),
        context.scores.examples,
        to_onnx=config.to_onnx,
        pairs=context.eval_pairs,
        kept=kept_files(context.folder) | calibration_file(context.folder),
        may_publish=context.folder.may_write,
    )
    for tower in same_towers(started_with, read_manifest(path).fingerprints):
        log.info("%s is the same as in %s: an index keeps its vectors", tower, parent)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    log.info("Artifact pushed under ID '%s'", artifact_id)
    log.debug("Artifact size is %.3f MB", size / 1e6)
