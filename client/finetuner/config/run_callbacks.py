"""Checks the callbacks of a run together: their data, the names of their metrics, and the values they monitor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from ..contract.checks import checked_name, choice, options
from ..exceptions import InvalidInput
from ..metrics import NINE, TEXTBOOK
from .callbacks import (
    BestModelCheckpoint,
    Callback,
    EarlyStopping,
    EvaluationCallback,
    WiSEFTCallback,
    callback_config,
    callback_data,
    list_callbacks,
)

ONCE = tuple(name for name in list_callbacks() if name != EvaluationCallback.__name__)


def read_callbacks(entries: object) -> list[Callback]:
    """Return the callbacks of a run's configuration.

    Args:
        entries: each {'name': ..., 'options': {...}}, see `callback_config`; data is the name of a dataset.

    Raises:
        InvalidInput: a name or option is unknown, a value is not allowed, or data is not the name of a dataset.
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise InvalidInput(f"callbacks must be a list of {{'name', 'options'}}. Got {entries!r}.")
    return [_read(entry) for entry in entries]


def _read(entry: object) -> Callback:
    if not isinstance(entry, Mapping) or set(entry) - {"name", "options"} or "name" not in entry:
        raise InvalidInput(f"callbacks must hold entries {{'name', 'options'}}. Got {entry!r}.")
    kinds = list_callbacks()
    name = entry["name"]
    choice("callback", name, tuple(kinds))
    given = options(
        f"options of {name}", entry.get("options") or {}, {field.name: field for field in fields(kinds[name])}
    )
    if name == EvaluationCallback.__name__ and given.get("query_data") is None:
        raise InvalidInput(f"{name} must have query_data, the name of a dataset. Got none. Add it.")
    try:
        callback = kinds[name](**given)
        for field, value in callback_data(callback).items():
            checked_name(value, field)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from error
    return callback


def checked_callbacks(
    entries: object, towers: Sequence[str], *, has_validation: bool, has_eval_data: bool
) -> list[dict[str, Any]]:
    """Return the entries of a run's configuration, checked and with every option filled in.

    Args:
        entries: see `read_callbacks`.
        towers: names of the model's towers.
        has_validation: whether the run computes a validation loss, on `eval_data` or a share of the training data.
        has_eval_data: whether `eval_data` scores the model.

    Raises:
        InvalidInput: see `read_callbacks`; or a callback is given twice, or monitors a value that is never reported.
    """
    callbacks = read_callbacks(entries)
    names = [type(callback).__name__ for callback in callbacks]
    for name in ONCE:
        if names.count(name) > 1:
            raise InvalidInput(f"callbacks must hold {name} at most once. Got {names.count(name)}. Leave one.")
    reported = ["loss", "train_loss", *(["val_loss"] if has_validation else [])]
    for prefix in metric_prefixes(callbacks, towers, has_eval_data=has_eval_data):
        reported += [prefix + metric.__name__ for metric in (*NINE, *TEXTBOOK)]
    for callback in callbacks:
        if isinstance(callback, BestModelCheckpoint | EarlyStopping):
            _require_reported(callback, reported)
        if isinstance(callback, WiSEFTCallback) and callback.alphas is not None and not has_eval_data:
            raise InvalidInput(
                "WiSEFTCallback: alphas need eval_data, pairs of text and image on which a CLIP is scored. Got none. "
                "Pass eval_data to fit, or alpha in place of alphas."
            )
    return [callback_config(callback, {}) for callback in callbacks]


def _require_reported(callback: BestModelCheckpoint | EarlyStopping, reported: Sequence[str]) -> None:
    if callback.monitor == "val_loss" and "val_loss" not in reported:
        raise InvalidInput(
            f"{type(callback).__name__} must monitor a value that the run reports. Got 'val_loss' without "
            f"validation data. Pass eval_data, set val_split, for example val_split=0.1, or set monitor='loss'."
        )
    if callback.monitor not in reported:
        try:
            choice(f"{type(callback).__name__}: monitor", callback.monitor, tuple(reported))
        except InvalidInput as error:
            raise InvalidInput(f"{error} Metrics come from an EvaluationCallback.") from None


def metric_prefixes(callbacks: Sequence[Callback], towers: Sequence[str], *, has_eval_data: bool) -> list[str]:
    """Return the unique prefix of each EvaluationCallback's metric names, in order.

    The prefix is `<caption>_` or the towers' names: `clip-text-to-clip-vision_`, or `clip-vision_` or `resnet50_` for
    one tower. If `eval_data` or an earlier callback has it already, `2_`, `3_`, ... is put before it.
    """
    taken = {_model_names(towers)} if has_eval_data else set()
    prefixes = []
    for callback in callbacks:
        if not isinstance(callback, EvaluationCallback):
            continue
        models = _model_names(search_towers(callback, towers))
        prefix = models if callback.caption is None else f"{callback.caption.strip()}_"
        if callback.caption is not None and callback.output_model_names:
            prefix += models
        free = next(name for name in _numbered(prefix) if name not in taken)
        taken.add(free)
        prefixes.append(free)
    return prefixes


def _model_names(towers: Sequence[str]) -> str:
    return "-to-".join(dict.fromkeys(towers)) + "_"


def search_towers(callback: EvaluationCallback, towers: Sequence[str]) -> tuple[str, str]:
    """Return the tower that encodes the queries of an evaluation, and the tower that encodes the index.

    Args:
        callback: may name the towers.
        towers: names of the model's towers: both of a CLIP, or the only one of an image model.

    Raises:
        InvalidInput: the model has no such tower, or `multi_modal` is set and both towers are the same.
    """
    for name in ("model", "index_model"):
        if getattr(callback, name) is not None:
            choice(f"EvaluationCallback: {name}", getattr(callback, name), tuple(towers))
    query = callback.model or towers[0]
    index = callback.index_model or (towers[-1] if callback.model is None else query)
    if callback.multi_modal and query == index:
        raise InvalidInput(
            f"EvaluationCallback: multi_modal=True must come with two different models. Got {query} for both. "
            f"Set model='clip-text', index_model='clip-vision' with a CLIP, or leave multi_modal out."
        )
    return query, index


def _numbered(prefix: str) -> Iterator[str]:
    yield prefix
    number = 2
    while True:
        yield f"{number}_{prefix}"
        number += 1


def callback_datasets(callbacks: Sequence[Callback]) -> dict[str, str]:
    """Return the datasets that a run's callbacks read: 'query_data_0', 'index_data_0', ... -> dataset name.

    The number is the position of the callback in the configuration.
    """
    return {
        f"{field}_{position}": name
        for position, callback in enumerate(callbacks)
        for field, name in callback_data(callback).items()
    }
