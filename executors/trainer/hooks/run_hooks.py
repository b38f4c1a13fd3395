"""Builds the hooks of a run from its configuration, in the order of their calls."""

from __future__ import annotations

from collections.abc import Sequence

from finetuner.config.callbacks import (
    BestModelCheckpoint,
    Callback,
    EarlyStopping,
    EvaluationCallback,
    Logger,
    MLflowLogger,
    TensorBoardLogger,
    TrainingCheckpoint,
    WandBLogger,
    WiSEFTCallback,
)
from finetuner.config.run_callbacks import metric_prefixes, read_callbacks
from finetuner.documents.pairs import read_pairs
from finetuner.evaluation.search import read_search_data

from ..run_context import RunContext
from ..run_folder import RunFolder
from .ema import AverageWeights
from .evaluation import CalibrateScores, EvaluateSearch
from .freezing import Freeze
from .guard import ScoreGuard
from .hook import Hook
from .lora import MergeAdapters, TrainAdapters
from .patch_dropout import DropPatches
from .tracker_checks import check_loggers
from .trackers import make_tracker
from .weights import KeepBestModel, KeepCheckpoints, StopEarly
from .wise_ft import MixWeights, SweepMixes

# Later hooks read the values of earlier ones.
ORDER = (
    EvaluationCallback, MLflowLogger, TensorBoardLogger, WandBLogger,
    BestModelCheckpoint, EarlyStopping, TrainingCheckpoint,
)  # fmt: skip


def make_hooks(context: RunContext, towers: Sequence[str]) -> list[Hook]:
    """Return the hooks of a run.

    Args:
        context: the configuration's `callbacks` and `options`, the data that they read, and the scores that they fill.
        towers: of the model.

    Raises:
        InvalidDocument, InvalidInput: a callback cannot read its data, or a logger cannot work on this machine.
    """
    config, folder, scores, eval_pairs = context.config, context.folder, context.scores, context.eval_pairs
    artifact = context.request.artifact_id
    callbacks = read_callbacks(config.callbacks)
    check_loggers(callbacks)
    prefixes = iter(metric_prefixes(callbacks, towers, has_eval_data=config.scores_eval_data))
    options, short = config.options, config.matryoshka
    adapters: TrainAdapters | None = None
    if options.lora_rank:
        adapters = TrainAdapters(options.lora_rank, options.lora_alpha, config.seed, options.lora_kind)
    guard = context.documents("guard")
    guard_pairs = [] if guard is None else read_pairs(guard)
    made: list[tuple[Callback, Hook]] = []
    mixes: list[Hook] = []
    for position, callback in enumerate(callbacks):
        if isinstance(callback, EvaluationCallback):
            queries = context.documents(f"query_data_{position}")
            assert queries is not None
            index = context.documents(f"index_data_{position}")
            data = read_search_data(callback, towers, queries, index)
            made.append((callback, EvaluateSearch(data, next(prefixes), scores)))
        elif isinstance(callback, Logger):
            made.append((callback, make_tracker(callback, config, scores, folder)))
        elif isinstance(callback, WiSEFTCallback):
            alphas = callback.alphas
            mixes.append(
                MixWeights(callback.alpha)
                if alphas is None
                else SweepMixes(alphas, eval_pairs, folder, guard_pairs, scores)
            )
        else:
            made.append((callback, _weight_hook(callback, folder, adapters)))
    made.sort(key=lambda entry: ORDER.index(type(entry[0])))
    # Scores come first, since trackers log them. Then hooks that choose weights: an epoch or the average, merged,
    # mixed. Last those that change the trained parameters, since the mix keeps the weights from before.
    return [
        *(
            [CalibrateScores(eval_pairs, scores, short.dims if short else (), artifact, folder, config.codes)]
            if eval_pairs
            else []
        ),
        *([ScoreGuard(guard_pairs, scores)] if guard is not None else []),
        *(hook for _, hook in made),
        *([AverageWeights(options.ema_decay)] if options.ema_decay is not None else []),
        *([MergeAdapters(adapters)] if adapters is not None else []),
        *mixes,
        *([DropPatches(options.patch_dropout)] if options.patch_dropout else []),
        *([Freeze(options.frozen)] if options.frozen else []),
        *([adapters] if adapters is not None else []),
    ]


def _weight_hook(callback: Callback, folder: RunFolder, adapters: TrainAdapters | None) -> Hook:
    match callback:
        case BestModelCheckpoint():
            return KeepBestModel(callback)
        case EarlyStopping():
            return StopEarly(callback)
        case TrainingCheckpoint():
            return KeepCheckpoints(folder.checkpoints, callback.last_k_epochs, adapters)
    raise AssertionError(f"no hook for {callback!r}")
