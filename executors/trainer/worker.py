"""The process of one run: `python -m executors.trainer.worker RUN_FOLDER`."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetuner.exceptions import FinetunerError
from finetuner.run_config import RunConfig
from finetuner.version import __version__
from finetuner.workspace import Workspace

from .run_folder import RunFolder
from .run_store import FAILED, FINISHED

log = logging.getLogger("finetuner")


def main(path: str) -> int:
    """Carry out the run and write its outcome, whatever happens short of SIGKILL.

    Returns:
        The process's exit code: 0 where the run finished.
    """
    logging.basicConfig(stream=sys.stdout, format="[%(asctime)s] %(levelname)-8s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.DEBUG)
    folder = RunFolder(Path(path))
    folder.write("process", {"pid": os.getpid()})  # the executor may have been killed before it could
    try:
        details = run(folder)
    except FinetunerError as error:
        log.error("%s", error)
        folder.write("outcome", {"status": FAILED, "details": str(error)})
        return 1
    except BaseException as error:
        log.exception("The run failed")
        folder.write("outcome", {"status": FAILED, "details": f"{type(error).__name__}: {error}"})
        return 1
    folder.write("outcome", {"status": FINISHED, "details": details})
    return 0


def run(folder: RunFolder) -> str:
    """Load, train with the run's hooks around it, publish.

    Returns:
        One line for the run's status.
    """
    request = folder.read("request")
    assert request is not None
    config, workspace = RunConfig.from_dict(request["config"]), Workspace(request["workspace"])
    log.info("Starting run %r in experiment %r", config.run_name, config.experiment_name)

    import torch
    from accelerate.utils import set_seed

    from finetuner.artifact import Manifest, publish
    from finetuner.backbones import find_backbone
    from finetuner.clip import Clip
    from finetuner.datasets import Datasets
    from finetuner.image_weights import with_head
    from finetuner.labelled import LabelledPicture, read_labelled
    from finetuner.models import Models
    from finetuner.pairs import Pair, read_pairs

    from .evaluation_hooks import Scores
    from .hooks import Progress
    from .image_data import prepare_images
    from .image_training import train_images
    from .run_hooks import make_hooks
    from .training import train
    from .training_data import prepare

    if request["threads"]:
        torch.set_num_threads(request["threads"])
    device, remark = _device(config)
    row = find_backbone(config.model)
    start_from = config.model_artifact or row.name
    log.info("Loading %s on %s ...", start_from, device)
    model = Models(workspace, device=device, capacity=1).get(start_from)
    datasets = Datasets(workspace)
    versions: dict[str, str] = request["data"]
    pairs: dict[str, list[Pair]] = {}
    pictures: list[LabelledPicture] = []
    if isinstance(model, Clip):
        pairs = {name: read_pairs(datasets.documents(versions[name])) for name in ("train", "eval") if name in versions}
        log.info("Loaded %s", ", ".join(f"{len(found)} pairs of {name} data" for name, found in pairs.items()))
    else:
        set_seed(config.seed)  # for the random weights of a new head
        with_head(model, config.output_dim, freeze=config.freeze)
        pictures = read_labelled(datasets.documents(versions["train"]))
        log.info("Loaded %d labelled pictures", len(pictures))

    scores = Scores(folder)
    hooks = make_hooks(config, model.towers, datasets, versions, pairs.get("eval", []), scores, folder)
    progress = Progress(model)
    for hook in hooks:
        hook.before_training(progress)
    pixels = folder.path / "pixels.npy"
    learning_rate = config.learning_rate or row.learning_rate
    with open(folder.metrics, "a") as metrics:

        def report(step: dict[str, Any]) -> None:
            metrics.write(json.dumps(step) + "\n")
            metrics.flush()

        if isinstance(model, Clip):
            data = prepare(pairs["train"], model, pixels, config.num_workers)
            batch_size = config.batch_size or min(row.batch_size, len(data))
            train(
                progress, data, config, learning_rate=learning_rate, batch_size=batch_size, report=report, hooks=hooks
            )
        else:
            images = prepare_images(pictures, model, pixels, config.num_workers)
            batch_size = config.batch_size or min(row.batch_size, len(images))
            train_images(
                progress,
                images,
                config,
                config.metric,
                learning_rate=learning_rate,
                batch_size=batch_size,
                report=report,
                hooks=hooks,
            )
    log.info("Done ✨")
    for hook in hooks:
        hook.choose_weights(progress)
    for hook in hooks:
        hook.after_training(progress)

    log.info("Building the artifact ...")
    parent, model.model_id = model.model_id, request["artifact_id"]
    path = publish(
        workspace,
        model,
        Manifest(
            artifact_id=request["artifact_id"],
            run_name=config.run_name,
            backbone=row.name,
            output_dim=model.dim,
            towers=list(model.towers),
            metrics=scores.metrics,
            data=versions,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            code_version=__version__,
            parent=parent,
        ),
        config.to_dict(),
        scores.examples,
    )
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    log.info("Artifact pushed under ID '%s'", request["artifact_id"])
    log.debug("Artifact size is %.3f MB", size / 1e6)
    log.info("Finished 🚀")
    return f"Training finished{remark}"


def _device(config: RunConfig) -> tuple[str, str]:
    import torch

    if config.device == "cpu":
        return "cpu", ""
    if torch.cuda.is_available():
        return "cuda", ""
    log.warning("device=%r was asked for, and this machine has no CUDA device: training on the CPU", config.device)
    return "cpu", " on the CPU (no CUDA device was found)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
