"""One round of learning from marks: tune the live model, compare on held-out queries, promote or say why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...contract import wire
from ...contract.checks import number
from ...exceptions import InvalidInput
from ..library import promote
from ..retrieval import index_status
from ..run import Run
from ..runs import fit, list_runs
from ..session import connection
from .pairs import FeedbackData, feedback_data

EXPERIMENT = "feedback"
LEAST = 10
"""Held-out pairs: on fewer, a margin says nothing."""


@dataclass(frozen=True)
class Improvement:
    """The result of a round."""

    promoted: bool
    reason: str
    """One sentence: why the new model is live, or why not."""
    run_name: str
    """Of the run, in the experiment `feedback`."""
    artifact_id: str
    """Of the new model, which stays published either way."""
    before: float
    """Mean R@5 of both directions on the held-out queries, in [0, 1], of the model that the round started from."""
    after: float
    """The same of the new model."""
    guard_before: float
    """Mean R@5 on the guard's pairs, before."""
    guard_after: float
    """The same of the new model."""


def improve(
    guard_data: Any,
    data: FeedbackData | None = None,
    *,
    model: str | None = None,
    margin: float = 0.01,
    guard_tolerance: float = 0.01,
    epochs: int = 5,
    recipe: str | None = None,
    device: str = "cuda",
    replay_data: Any = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
) -> Improvement:
    """Tune the live model on marks, and promote the result if it is better on held-out queries and forgets nothing.

    Rounds take turns: a round has the next free name of the experiment `feedback`, and none starts beside another.

    Args:
        guard_data: pairs of what the model must keep, given like `guard_data` of `fit`.
        data: of `feedback_data`; None takes all marks.
        model: backbone or artifact to start from; None takes the one that was promoted last.
        margin: by which the mean R@5 on the held-out queries must rise, in [0, 1].
        guard_tolerance: by which the mean R@5 on the guard may fall, in [0, 1].
        epochs: as of `fit`.
        recipe: as of `fit`.
        device: as of `fit`.
        replay_data: as of `fit`: pairs of what the model can do already, others than those of `guard_data`. They help
            the guard more than any other option.
        batch_size: as of `fit`. A small one makes more steps of few marks.
        learning_rate: as of `fit`. A low one suits few steps.

    Raises:
        InvalidInput: another round runs, or there are fewer than 10 held-out pairs, or no model was promoted and none
            is named, or a value is not allowed.
        AlreadyExists: another round began at the same moment.
        RunFailedError: the run failed or was canceled.
    """
    number("margin", margin, 0, 1)
    number("guard_tolerance", guard_tolerance, 0, 1)
    run = start_round(
        guard_data,
        data,
        model=model,
        epochs=epochs,
        recipe=recipe,
        device=device,
        replay_data=replay_data,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    run.wait()
    return finish_round(run, margin, guard_tolerance)


def start_round(
    guard_data: Any,
    data: FeedbackData | None = None,
    *,
    model: str | None = None,
    epochs: int = 5,
    recipe: str | None = None,
    device: str = "cuda",
    replay_data: Any = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
) -> Run:
    """Start the run of a round; see `improve`."""
    start = model or str(index_status()["promoted"])
    if not start:
        raise InvalidInput("model must be named until one is promoted. Got none. Pass a backbone or an artifact.")
    data = feedback_data() if data is None else data
    pairs = sum(float(pair.tags.get(wire.SCORE_TAG, 1)) > 0 for pair in data.held_out)
    if pairs < LEAST:
        raise InvalidInput(
            f"held-out queries must have at least {LEAST} pairs to compare on. Got {pairs} "
            f"({data.report}). Mark more results, or raise held_out of feedback_data."
        )
    return fit(
        start,
        data.train,
        eval_data=data.held_out,
        guard_data=guard_data,
        replay_data=replay_data,
        run_name=_next_round(),
        experiment_name=EXPERIMENT,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        recipe=recipe,
        device=device,
    )


def finish_round(run: Run, margin: float = 0.01, guard_tolerance: float = 0.01) -> Improvement:
    """Compare the models of an ended round, promote the new one if it is better, and note why; see `improve`.

    Raises:
        InvalidInput: a run that measured no guard.
        RunInProgressError, RunFailedError: the run has not finished.
    """
    number("margin", margin, 0, 1)
    number("guard_tolerance", guard_tolerance, 0, 1)
    metrics = run.metrics()
    if not any(name.startswith(wire.GUARD_PREFIX) for name in metrics.get("after", {})):
        raise InvalidInput(f"run must be a round, which measures its guard. Got {run.name!r}. Promote it by its id.")
    before, after = (_recall(metrics[stage]) for stage in ("before", "after"))
    guard_before, guard_after = (_recall(metrics[stage], wire.GUARD_PREFIX) for stage in ("before", "after"))
    reason = reason_against(before, after, guard_before, guard_after, margin, guard_tolerance)
    if not reason:
        promote(run.artifact_id)
    why = reason or f"The mean R@5 on held-out queries rose from {before:.3f} to {after:.3f}."
    note = f"{'Not promoted' if reason else 'Promoted'}. {why}"
    connection().call(wire.RUNS_EDIT, name=run.name, experiment=run.experiment_name, note=note)
    return Improvement(not reason, why, run.name, run.artifact_id, before, after, guard_before, guard_after)


def reason_against(
    before: float, after: float, guard_before: float, guard_after: float, margin: float, guard_tolerance: float
) -> str:
    """Return why a model must not go live, '' if it may. NaN is never better."""
    if not after >= before + margin - 1e-9:
        return (
            f"The mean R@5 on held-out queries must rise by at least {margin:g}. Got {before:.3f} before and "
            f"{after:.3f} after. The live model stays."
        )
    if not guard_after >= guard_before - guard_tolerance - 1e-9:
        return (
            f"The guard's mean R@5 may fall by at most {guard_tolerance:g}. Got {guard_before:.3f} before and "
            f"{guard_after:.3f} after. The live model stays; the recipe 'keep' with replay_data may help."
        )
    return ""


def _recall(metrics: Mapping[str, float], prefix: str = "") -> float:
    from ...evaluation.pairs import mean_recall

    return mean_recall(metrics, prefix)


def _next_round() -> str:
    """Return the name of the next round. Two callers get the same one, and the Flow gives it to the first."""
    page, last = 1, 0
    while runs := list_runs(EXPERIMENT, page, 1000):
        for run in runs:
            if run.last_status not in wire.ENDED:
                raise InvalidInput(
                    f"one round runs at a time. Got {run.name!r}, which is {run.last_status}. Wait, or cancel it."
                )
            number_of = run.name.removeprefix("round-")
            last = max(last, int(number_of) if number_of.isdecimal() and len(number_of) < 10 else 0)
        page += 1
    return f"round-{last + 1}"
