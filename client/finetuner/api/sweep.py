"""Runs several recipes and rates on one's own data, and says which is best: successive halving through the queue.

Half of the candidates go on from each rung, to twice the epochs (Jamieson and Talwalkar, arXiv:1502.07943). A run of
the next rung starts anew: a schedule depends on its length, so a shorter run is no beginning of a longer one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ..config.recipes import find_recipe
from ..contract import wire
from ..contract.checks import checked_name, number, whole
from ..contract.several import several
from ..exceptions import FinetunerError, InvalidInput, RunFailedError, RunNotFound
from .run import Run
from .runs import fit, get_run

MOST_CANDIDATES = 64
FINALISTS = 2
PER_RUNG = 2
"""Of so many candidates one goes on, to so many times the epochs."""


@dataclass(frozen=True)
class Candidate:
    """One way to tune the model."""

    recipe: str
    learning_rate: float | None
    """Peak learning rate; None is the recipe's own."""

    def __str__(self) -> str:
        return self.recipe if self.learning_rate is None else f"{self.recipe}-{self.learning_rate:g}"


@dataclass(frozen=True)
class Trial:
    """One run of a sweep."""

    candidate: Candidate
    epochs: int
    seed: int
    run_name: str
    artifact_id: str
    score: float | None
    """Mean R@5 of both directions on the evaluation data, in [0, 1]; None if the run failed."""
    guard: float | None
    """The same on the guard data; None without any."""
    problem: str = ""
    """Why the run failed."""


@dataclass(frozen=True)
class Sweep:
    """The result of a sweep."""

    winner: Candidate
    artifact_id: str
    """Of the winner's run with the best score."""
    scores: Mapping[str, float]
    """Finalist -> its mean score over the seeds, best first."""
    margin: float
    """Of the winner over the other finalist; 0 with one."""
    spread: float
    """Highest less lowest score of one finalist over the seeds, the larger one. A margin within it is none."""
    before: float
    """Score of the model before tuning."""
    trials: Sequence[Trial]
    """Every run, in their order."""

    @property
    def verdict(self) -> str:
        """One sentence."""
        best = self.scores[str(self.winner)]
        gain = f"{self.winner} reaches a mean R@5 of {best:.3f} (before: {self.before:.3f})"
        if len(self.scores) < FINALISTS:
            return f"{gain}."
        other = next(name for name in self.scores if name != str(self.winner))
        against = f"{gain}, {self.margin:.3f} more than {other}"
        if self.margin <= self.spread:
            return f"{against}: within the spread of the seeds, {self.spread:.3f}, so the two are alike."
        return f"{against}; the spread of the seeds is {self.spread:.3f}."


def sweep(
    model: str,
    train_data: str,
    eval_data: str,
    *,
    recipes: str | Sequence[str] = ("default", "keep", "small-data"),
    learning_rates: Sequence[float] | None = None,
    epochs: int = 8,
    seeds: int = 3,
    budget: int | None = None,
    experiment_name: str = "sweep",
    **fit_options: Any,
) -> Sweep:
    """Tune a model in several ways, and compare them on one's own evaluation data.

    Each rung trains the candidates for some epochs and keeps the better half for twice as many, until two are left.
    Those train for `epochs` with each of the seeds. Runs that have the sweep's names already are not repeated, so a
    sweep that was interrupted goes on when it is called again. The winner was chosen on `eval_data`: score it on other
    data to know how good it is.

    Args:
        model: backbone or artifact, as of `fit`.
        train_data: name of a dataset of pairs; see `push_data`.
        eval_data: name of a dataset of other pairs.
        recipes: one or several of `list_recipes()`.
        learning_rates: peak rates, each for every recipe; None takes each recipe's own.
        epochs: of the last rung, from 1; the rung before has half of them, and so on, at least 1.
        seeds: of the last two candidates, from 1.
        budget: most passes over the training data in all, from 1; None for as many as the sweep needs.
        experiment_name: where the runs are.
        fit_options: further options of `fit`, the same for all runs, such as batch_size, guard_data or device.

    Raises:
        InvalidInput: a value is not allowed, or the sweep needs more passes than `budget`, or the experiment has runs
            of these names with other settings. What this call has started is canceled.
        RunFailedError: all runs of a rung failed.
    """
    candidates = _candidates(recipes, learning_rates)
    for name, value in (("train_data", train_data), ("eval_data", eval_data)):
        checked_name(value, name)
    if refused := {"recipe", "learning_rate", "seed", "run_name", "wait", "resume_from"} & fit_options.keys():
        raise InvalidInput(f"{sorted(refused)[0]} is what a sweep decides. Got it among the options. Leave it out.")
    rungs = plan(len(candidates), whole("epochs", epochs, 1, 10_000), whole("seeds", seeds, 1, 100))
    needed = sum(count * passes * each for count, passes, each in rungs)
    if budget is not None and needed > whole("budget", budget, 1, 10**9):
        raise InvalidInput(
            f"budget must be at least {needed} passes over the data for {len(candidates)} candidates. Got {budget}. "
            "Take fewer recipes, rates, epochs or seeds."
        )
    fixed = {"train_data": train_data, "eval_data": eval_data, "experiment_name": experiment_name, **fit_options}
    trials: list[Trial] = []
    before = 0.0
    for count, passes, each in rungs:
        candidates = _best(candidates, trials, count)
        runs: dict[tuple[Candidate, int], Run] = {}
        try:
            for candidate, seed in product(candidates, range(each)):
                runs[candidate, seed] = _started(model, candidate, passes, seed, fixed)
        except FinetunerError:
            for run in runs.values():
                run.cancel()
            raise
        ended = []
        for (candidate, seed), run in runs.items():
            trial, start = _ended(candidate, passes, seed, run)
            before = start if start is not None else before
            ended.append(trial)
        trials += ended
        if all(trial.score is None for trial in ended):
            raise RunFailedError(f"a run of each rung must finish. Got {ended[0].run_name!r}: {ended[0].problem}")
    return summary(trials, epochs, before)


def plan(candidates: int, epochs: int, seeds: int) -> list[tuple[int, int, int]]:
    """Return the candidates, epochs and seeds of each rung."""
    counts = [candidates]
    while counts[-1] > FINALISTS:
        counts.append(max(-(-counts[-1] // PER_RUNG), FINALISTS))
    passes = [max(epochs // PER_RUNG**rung, 1) for rung in range(len(counts))][::-1]
    each = [1] * (len(counts) - 1) + [seeds]
    return list(zip(counts, passes, each, strict=True))


def summary(trials: Sequence[Trial], epochs: int, before: float) -> Sweep:
    """Compare the runs of the last rung.

    Args:
        trials: of all rungs; at least one of `epochs` has a score.
        epochs: of the last rung.
        before: score of the model before tuning.
    """
    scores: dict[Candidate, list[float]] = {}
    for trial in trials:
        if trial.epochs == epochs and trial.score is not None:
            scores.setdefault(trial.candidate, []).append(trial.score)
    means = {each: statistics.fmean(values) for each, values in scores.items()}
    means = dict(sorted(means.items(), key=lambda entry: -entry[1]))
    winner, *others = means
    best = max((trial for trial in trials if trial.candidate == winner), key=lambda trial: trial.score or 0.0)
    return Sweep(
        winner,
        best.artifact_id,
        {str(each): mean for each, mean in means.items()},
        means[winner] - means[others[0]] if others else 0.0,
        max(max(values) - min(values) for values in scores.values()),
        before,
        tuple(trials),
    )


def _candidates(recipes: str | Sequence[str], rates: Sequence[float] | None) -> list[Candidate]:
    names = [find_recipe(name).name for name in several("recipes", recipes, str, "a recipe, or several")]
    for rate in rates or ():
        number("learning_rates", rate, 1e-12, 10)
    found = [Candidate(name, rate) for name, rate in product(names, (None,) if rates is None else rates)]
    if not 1 <= len(set(found)) == len(found) <= MOST_CANDIDATES:
        raise InvalidInput(
            f"recipes and learning_rates must make 1 to {MOST_CANDIDATES} candidates, none twice. Got {len(found)}, "
            f"{len(set(found))} of them different. Change the lists."
        )
    return found


def _best(candidates: Sequence[Candidate], trials: Sequence[Trial], count: int) -> list[Candidate]:
    """Return the best of the last rung, those without a score last."""
    if not trials:
        return list(candidates)
    scores = {trial.candidate: -1.0 if trial.score is None else trial.score for trial in trials[-len(candidates) :]}
    return sorted(candidates, key=lambda each: -scores[each])[:count]


def _started(model: str, candidate: Candidate, epochs: int, seed: int, fixed: Mapping[str, Any]) -> Run:
    """Return the run of this name, or a new one."""
    name = f"{candidate}-{epochs}-{seed}"
    try:
        run = get_run(name, fixed["experiment_name"])
    except RunNotFound:
        return fit(
            model, run_name=name, recipe=candidate.recipe, learning_rate=candidate.learning_rate, epochs=epochs,
            seed=seed, **fixed,
        )  # fmt: skip
    known = {field: run.config[field] for field in ("train_data", "eval_data")}
    wanted = {field: fixed[field] for field in known}
    if known != wanted or model not in (run.config["model"], run.config["model_artifact"]):
        raise InvalidInput(
            f"experiment_name must be that of this sweep, or new. Got {fixed['experiment_name']!r}, whose run {name!r} "
            f"has {known} and model {run.config['model']!r}. Choose another name."
        )
    if run.status()["status"] in (wire.FAILED, wire.CANCELED):
        run.resume()
    return run


def _ended(candidate: Candidate, epochs: int, seed: int, run: Run) -> tuple[Trial, float | None]:
    """Wait for a run. Return its trial, and the score of the model before it."""
    from ..evaluation.pairs import mean_recall

    try:
        run.wait()
    except RunFailedError as error:
        return Trial(candidate, epochs, seed, run.name, run.artifact_id, None, None, str(error)), None
    metrics = run.metrics()
    guard = mean_recall(metrics["after"], wire.GUARD_PREFIX) if run.config["guard_data"] else None
    score = mean_recall(metrics["after"])
    return Trial(candidate, epochs, seed, run.name, run.artifact_id, score, guard), mean_recall(metrics["before"])
