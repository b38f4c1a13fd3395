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
    """Load, score, train, score, publish.

    Returns:
        One line for the run's status.
    """
    request = folder.read("request")
    assert request is not None
    config, workspace = RunConfig.from_dict(request["config"]), Workspace(request["workspace"])
    log.info("Starting run %r in experiment %r", config.run_name, config.experiment_name)

    import torch

    from finetuner.artifact import Manifest, publish
    from finetuner.backbones import find_backbone
    from finetuner.datasets import Datasets
    from finetuner.evaluation import evaluate_pairs
    from finetuner.models import Models
    from finetuner.pairs import read_pairs

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
    pairs = {name: read_pairs(datasets.documents(digest)) for name, digest in request["data"].items()}
    log.info("Loaded %s", ", ".join(f"{len(found)} pairs of {name} data" for name, found in pairs.items()))

    scores: dict[str, dict[str, float]] = {}
    if "eval" in pairs:
        scores["before"] = evaluate_pairs(model, pairs["eval"])
        _log_scores("before", scores["before"])
        folder.write("scores", scores)
    data = prepare(pairs["train"], model, folder.path / "pixels.npy", config.num_workers)
    batch_size = config.batch_size or min(row.batch_size, len(data))
    learning_rate = config.learning_rate or row.learning_rate
    with open(folder.metrics, "a") as metrics:

        def report(step: dict[str, Any]) -> None:
            metrics.write(json.dumps(step) + "\n")
            metrics.flush()

        train(model, data, config, learning_rate=learning_rate, batch_size=batch_size, report=report)
    log.info("Done ✨")
    if "eval" in pairs:
        scores["after"] = evaluate_pairs(model, pairs["eval"])
        _log_scores("after", scores["after"])
        folder.write("scores", scores)

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
            metrics=scores,
            data=request["data"],
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            code_version=__version__,
            parent=parent,
        ),
        config.to_dict(),
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


def _log_scores(stage: str, scores: dict[str, float]) -> None:
    log.info("%s fine-tuning:", stage)
    for name, value in scores.items():
        log.debug("Metric: '%s' Value: %.5f", name, value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
