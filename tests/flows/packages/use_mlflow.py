"""mlflow-skinny: FOLDER -> a run that is logged there."""

from __future__ import annotations

import sys
from pathlib import Path

from finetuner.config.callbacks import MLflowLogger
from finetuner.config.run_config import RunConfig
from finetuner.executors.trainer.hooks.evaluation import Scores
from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.hooks.trackers import make_tracker
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.models.backbones import find_backbone
from finetuner.models.clip_files import load_backbone

folder = RunFolder(Path(sys.argv[1]))
hook = make_tracker(MLflowLogger(), RunConfig("clip-mini", "pairs", run_name="r"), Scores(folder), folder)
hook.before_training(Progress(load_backbone(find_backbone("clip-mini"))))
hook.after_epoch(Progress(load_backbone(find_backbone("clip-mini")), epoch=1, values={"loss": 0.25}))
hook.close(failed=False)
