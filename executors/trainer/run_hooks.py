"""From a run's configuration to its hooks, in the order in which they must be called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from finetuner.callback import (
    BestModelCheckpoint,
    Callback,
    EarlyStopping,
    EvaluationCallback,
    TrainingCheckpoint,
    WiSEFTCallback,
)
from finetuner.datasets import Datasets
from finetuner.pairs import Pair
from finetuner.run_callbacks import metric_prefixes, read_callbacks
from finetuner.run_config import RunConfig
from finetuner.search_evaluation import read_search_data

from .evaluation_hooks import EvaluateSearch, ScoreEvaluationData, Scores
from .hooks import Hook
from .run_folder import RunFolder
from .weight_hooks import KeepBestModel, KeepCheckpoints, MixWeights, StopEarly

# Later ones read what earlier ones report, and the mix is of the best weights.
ORDER = (EvaluationCallback, BestModelCheckpoint, EarlyStopping, TrainingCheckpoint, WiSEFTCallback)


def make_hooks(
    config: RunConfig,
    towers: Sequence[str],
    datasets: Datasets,
    versions: Mapping[str, str],
    eval_pairs: Sequence[Pair],
    scores: Scores,
    folder: RunFolder,
) -> list[Hook]:
    """Return the hooks of a run.

    Args:
        config: with `callbacks`.
        towers: of the model.
        datasets: hold the callbacks' data.
        versions: of the run's data by use, see `run_callbacks.callback_datasets`.
        eval_pairs: of `eval_data`, none where the run has none.
        scores: get metrics and examples.
        folder: of the run.

    Raises:
        InvalidDocument, InvalidInput: data that a callback cannot read.
    """
    callbacks = read_callbacks(config.callbacks)
    prefixes = iter(metric_prefixes(callbacks, towers, has_eval_data=bool(config.eval_data)))
    made: list[tuple[Callback, Hook]] = []
    for position, callback in enumerate(callbacks):
        if isinstance(callback, EvaluationCallback):
            queries = _documents(datasets, versions, f"query_data_{position}")
            assert queries is not None
            index = _documents(datasets, versions, f"index_data_{position}")
            data = read_search_data(callback, towers, queries, index)
            made.append((callback, EvaluateSearch(data, next(prefixes), scores)))
        else:
            made.append((callback, _weight_hook(callback, folder)))
    made.sort(key=lambda entry: ORDER.index(type(entry[0])))
    return [*([ScoreEvaluationData(eval_pairs, scores)] if eval_pairs else []), *(hook for _, hook in made)]


def _weight_hook(callback: Callback, folder: RunFolder) -> Hook:
    match callback:
        case BestModelCheckpoint():
            return KeepBestModel(callback)
        case EarlyStopping():
            return StopEarly(callback)
        case TrainingCheckpoint():
            return KeepCheckpoints(folder.checkpoints, callback.last_k_epochs)
        case WiSEFTCallback():
            return MixWeights(callback.alpha)
    raise AssertionError(f"no hook for {callback!r}")


def _documents(datasets: Datasets, versions: Mapping[str, str], use: str) -> Iterable[Any] | None:
    return datasets.documents(versions[use]) if use in versions else None
