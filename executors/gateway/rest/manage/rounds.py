"""Learning from marks, round by round, and scores of the index on judged queries: what a process of the client does."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Request, Response
from pydantic import Field

from finetuner.artifacts.registry import LIVE

from ..answers import answer
from ..document_forms import MAX_REFERENCE, REFERENCE
from ..form import Answer, Form
from ..route import failures, router
from ..run_forms import NAME, NAME_TEXT
from .tasks import tasks_of

EXPERIMENT = "feedback"
MAX_FILE = 8 * 2**20  # characters
BUSY = failures(_409="Another round began at the same moment.")

routes = router("Feedback", "/v1")
of_files = router("Library", "/v1", documents=True)


class RoundForm(Form):
    """A round of learning from marks."""

    guard: str = Field(..., regex=NAME, description="Dataset of pairs that the model must not get worse at.")
    replay: str | None = Field(None, regex=NAME, description="Dataset of other such pairs, trained on, too.")
    model: str | None = Field(
        None, min_length=1, max_length=MAX_REFERENCE, description="Start of the round; null takes the promoted model."
    )
    epochs: int = Field(5, ge=1, le=10_000, description="Passes over the images.")
    batch_size: int | None = Field(None, ge=2, le=65_536, description="Pairs in a step; null takes the model's own.")
    learning_rate: float | None = Field(None, gt=0, le=1, description="Peak learning rate; null takes the recipe's.")
    recipe: str | None = Field(None, max_length=64, description="Recipe of the run, such as 'keep'.")
    device: str = Field("cuda", regex=r"^(cuda|cpu)$", description="'cuda' falls back to the CPU with a warning.")


class Round(Answer):
    """The run of a round."""

    name: str = Field(..., description=f"In the experiment {EXPERIMENT!r}.")
    artifact_id: str = Field(..., description="24 hex characters; published when the run has finished.")


class FinishForm(Form):
    """When the new model of a round is better."""

    margin: float = Field(0.01, ge=0, le=1, description="By which the mean R@5 on held-out queries must rise.")
    guard_tolerance: float = Field(0.01, ge=0, le=1, description="By which the mean R@5 on the guard may fall.")


class Finished(Answer):
    """The result of a round."""

    promoted: bool = Field(..., description="Whether the new model is live.")
    reason: str = Field(..., description="One sentence: why, or why not.")
    run_name: str = Field(..., description="Its run.")
    artifact_id: str = Field(..., description="The new model, which stays published either way.")
    before: float = Field(..., description="Mean R@5 on held-out queries before, in [0, 1].")
    after: float = Field(..., description="The same of the new model.")
    guard_before: float = Field(..., description="Mean R@5 on the guard before, in [0, 1].")
    guard_after: float = Field(..., description="The same of the new model.")


class QueriesFile(Form):
    """A file of queries or judgements."""

    name: str = Field(..., min_length=1, max_length=255, description="Its name; the ending says its form.")
    content: str = Field(..., min_length=1, max_length=MAX_FILE, description="Its text.")


class QueriesForm(Form):
    """Queries with judged documents, as `finetuner evaluate` takes them."""

    queries: QueriesFile = Field(..., description="CSV of query, document and relevance; BEIR's jsonl; TREC topics.")
    qrels: QueriesFile | None = Field(None, description="TREC's or BEIR's judgements; null for a CSV.")
    limit: int = Field(10, ge=1, le=1000, description="Number of matches that count.")
    artifact: str = Field(LIVE, min_length=1, max_length=MAX_REFERENCE, description=REFERENCE)
    min_probability: float | None = Field(None, ge=0, le=1, description="Lowest probability of a match.")


class ScoredQuery(Answer):
    """A query with its scores."""

    query: str = Field(..., description="Its text.")
    recall: float = Field(..., description="Share of its relevant documents that were found, in [0, 1].")
    ndcg: float = Field(..., description="nDCG, in [0, 1].")
    relevant: int = Field(..., description="Number of its relevant documents.")
    missed: list[str] = Field(..., description="Ids of relevant documents that were not found, the best first.")
    found: list[str] = Field(..., description="Ids of the matches, best first.")


class ScoredQueries(Answer):
    """The scores of the index on queries."""

    metrics: dict[str, float] = Field(..., description="recall_at_K and ndcg_at_K: means over all queries.")
    scored: int = Field(..., description="Number of queries.")
    queries: list[ScoredQuery] = Field(..., description="The worst 100, worst first.")
    without_relevant: int = Field(..., description="Queries whose grades are all 0. They are not scored.")
    not_indexed: int = Field(..., description="Number of relevant documents that are not indexed.")
    not_indexed_ids: list[str] = Field(..., description="Ids of the first 1000 of them.")
    artifact: str = Field(..., description="Model that encoded the queries.")


@routes.post("/feedback/rounds", summary="Learn from marks", response_model=Round, responses=BUSY)
async def begin_round(form: RoundForm, request: Request) -> Response:
    """Make training data of all marks, and start a run that tunes the promoted model on it, as `finetuner improve`.

    The answer comes when the run is queued. `finish` compares and promotes once it has finished.
    """
    return answer(await tasks_of(request.app).run("begin_round", form.dict()))


@routes.post(
    "/feedback/rounds/{run}/finish", summary="Promote a round's model if it is better", response_model=Finished
)
async def finish_round(
    run: Annotated[str, Path(pattern=NAME, description=f"Run of the round: {NAME_TEXT}.")],
    request: Request,
    form: FinishForm | None = None,
) -> Response:
    """Promote the new model if held-out queries find more and the guard keeps its score; note the reason at the run."""
    rule: dict[str, Any] = (form or FinishForm.parse_obj({})).dict()
    return answer(await tasks_of(request.app).run("end_round", rule | {"run": run, "experiment": EXPERIMENT}))


@of_files.post("/evaluate/queries", summary="Score the index on judged queries", response_model=ScoredQueries)
async def score_queries(form: QueriesForm, request: Request) -> Response:
    """Search the index for each query of a file, and return recall, nDCG and the worst queries."""
    given = form.dict()
    files = {name: given.pop(name) for name in ("queries", "qrels")}
    options = {name: value for name, value in given.items() if value is not None}
    return answer(await tasks_of(request.app).run("score_queries", files | {"options": options}))
