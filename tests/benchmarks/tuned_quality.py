"""How good the default recipe makes a model, beside loops that people write, each at its own best rate.

Two sets: the generated catalogue with clip-mini, and 950 real images with sentences in five languages (Debian's Tux
Paint stamps, fetched when they are first used) with a CLIP of EfficientNet-Lite0 and MiniLM. Every training sees as
many pairs, in batches of as many, with the same crops. Learning rate, weight decay and schedule of each method are
those with the best R@5 on the validation split in a grid with one seed, which grows while its best is at an edge of the
rates. Then further seeds are trained. All else is text-to-image R@5 on the test split, in [0, 1].

Trainings that are in the file of results are not repeated: a run can be ended, and goes on. Each is one process of
one thread. Prints one JSON object last:

    SET_METHOD             mean over the seeds
    SET_METHOD_spread      highest less lowest
    SET_METHOD_at          [learning rate, weight decay, schedule]
    SET_margin             of the default recipe over the best loop; SET_interval: its bootstrap interval over captions
    SET_replay_margin      of our run with pairs of the pretrained model's own domain beside each batch over a loop with
                           the same pairs in its batches; SET_replay_interval likewise
    SET_spread             SET_default_spread
    SET_METHOD_guard       R@5 on pairs of the pretrained model's own domain, where the set has any
    keep_guard_loss        of the guard's R@5 by the recipe `keep`, on the catalogue
    keep_gain_share        of the default recipe's gain that `keep` has
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality.methods import (
    AS_THEY_ARE,
    CONSTANT,
    COSINE,
    LOOPS,
    OURS,
    REPLAYING,
    REPLAYING_LOOP,
    Job,
    Result,
    measured,
    trained,
)
from quality.sets import SETS

from finetuner.config.recipes import find_recipe
from finetuner.models.backbones import find_backbone

PROCESSES = 2
RATES = {"catalogue": (5e-4, 1e-3, 2e-3, 4e-3), "stamps": (1e-4, 3e-4, 1e-3, 3e-3)}
DECAYS, SCHEDULES = (0.01, 0.2), (COSINE, CONSTANT)
PRETRAINED, DEFAULT, KEEP = "pretrained", "default", "keep"
FACTOR = 2.0  # between the edge of a grid and the rate beyond it
BOOTSTRAPS = 2000

Run = Callable[[Sequence[Job]], list[Result]]


def result_of(job: Job, folder: Path) -> Result:
    """Train and measure."""
    torch.set_num_threads(1)
    started = time.process_time()
    model = trained(job, folder)
    return measured(model, SETS[job.set], folder, time.process_time() - started)


def tune(of: str, method: str, run: Run) -> Job:
    """Return the job with the best result on the validation split, of the grid with seed 0."""
    if method == PRETRAINED:
        return Job(of, method, 0.0, 0.0, CONSTANT, 0)
    if method in AS_THEY_ARE:
        recipe = find_recipe(method)
        rate = recipe.learning_rate(find_backbone(SETS[of].backbone))
        return Job(of, method, rate, recipe.optimizer_options["weight_decay"], recipe.scheduler, 0)
    rates = list(RATES[of])
    while True:
        jobs = [Job(of, method, rate, decay, form, 0) for form in SCHEDULES for decay in DECAYS for rate in rates]
        results = run(jobs)
        best = jobs[max(range(len(jobs)), key=lambda position: results[position].validation)]
        if best.rate == max(rates):
            rates.append(best.rate * FACTOR)
        elif best.rate == min(rates):
            rates.insert(0, best.rate / FACTOR)
        else:
            return best


def margin(ours: Sequence[Result], theirs: Sequence[Result]) -> dict[str, Any]:
    """Return the difference of two means over seeds, and its interval over samples of the captions."""
    sides = [np.array([[hit == "1" for hit in one.hits] for one in side]).mean(0) for side in (ours, theirs)]
    difference = sides[0] - sides[1]  # (captions,)
    drawn = np.random.default_rng(0).integers(len(difference), size=(BOOTSTRAPS, len(difference)))
    low, high = np.percentile(difference[drawn].mean(1), [2.5, 97.5])
    return {"margin": float(difference.mean()), "interval": [float(low), float(high)]}


def summary(of: str, methods: Iterable[str], seeds: int, run: Run) -> dict[str, Any]:
    """Return the figures of a set."""
    found: dict[str, Any] = {}
    results: dict[str, list[Result]] = {}
    for method in methods:
        best = tune(of, method, run)
        results[method] = run([replace(best, seed=seed) for seed in range(1 if method == PRETRAINED else seeds)])
        recalls = [one.recall for one in results[method]]
        found[f"{of}_{method}"] = float(np.mean(recalls))
        found[f"{of}_{method}_spread"] = max(recalls) - min(recalls)
        found[f"{of}_{method}_at"] = [best.rate, best.decay, best.schedule]
        if SETS[of].has_guard:
            found[f"{of}_{method}_guard"] = float(np.mean([one.guard for one in results[method]]))
    if {REPLAYING, REPLAYING_LOOP} <= results.keys():
        against = margin(results[REPLAYING], results[REPLAYING_LOOP])
        found |= {f"{of}_replay_{name}": value for name, value in against.items()}
    loops = [name for name in results if name in LOOPS and name != REPLAYING_LOOP]  # that one has more data
    if loops and DEFAULT in results:
        strongest = max(loops, key=lambda name: found[f"{of}_{name}"])
        against = margin(results[DEFAULT], results[strongest])
        found |= {f"{of}_{name}": value for name, value in against.items()} | {f"{of}_best_loop": strongest}
        found[f"{of}_spread"] = found[f"{of}_{DEFAULT}_spread"]
    if {PRETRAINED, DEFAULT, KEEP} <= results.keys() and SETS[of].has_guard:
        before, default, keep = (found[f"{of}_{name}"] for name in (PRETRAINED, DEFAULT, KEEP))
        found["keep_guard_loss"] = found[f"{of}_{PRETRAINED}_guard"] - found[f"{of}_{KEEP}_guard"]
        found["keep_gain_share"] = (keep - before) / (default - before)
    return found


def runner(file: Path, folder: Path, pool: ProcessPoolExecutor) -> Run:
    """Return a function that trains the jobs whose results are not in a file yet, and adds them to it."""
    known: dict[str, Result] = {}
    if file.exists():
        for line in map(json.loads, file.read_text().splitlines()):
            name = line.pop("job")
            known[name] = Result(**line)

    def run(jobs: Sequence[Job]) -> list[Result]:
        waiting = {pool.submit(result_of, job, folder): str(job) for job in jobs if str(job) not in known}
        for done in as_completed(waiting):
            name = waiting[done]
            known[name] = result = done.result()
            with open(file, "a") as lines:
                lines.write(json.dumps({"job": name, **asdict(result)}) + "\n")
            print(f"{name}: {result.recall:.3f}, {result.validation:.3f} in validation", file=sys.stderr, flush=True)
        return [known[str(job)] for job in jobs]

    return run


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    every = [PRETRAINED, *LOOPS, *AS_THEY_ARE, *OURS]
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--methods", nargs="+", choices=every, default=every)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path("benchmarks"), help="folder of fetched data and results")
    given = parser.parse_args()
    given.data.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        run = runner(given.data / "quality.jsonl", given.data.resolve(), pool)
        for name in given.sets:
            more = () if SETS[name].has_guard else (REPLAYING, REPLAYING_LOOP)
            found |= summary(name, [each for each in given.methods if each not in more], given.seeds, run)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
