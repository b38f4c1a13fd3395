"""The Indexer's endpoints: index, search, filter, delete, status, and upkeep of the index."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from docarray import Document, DocumentArray
from prometheus_client import Counter, Gauge

from finetuner.artifacts.registry import LIVE
from finetuner.contract.parameters import Parameters
from finetuner.contract.search_parameters import FEATURES, SearchParameters
from finetuner.contract.wire import (
    ARTIFACT_TAG,
    COLLECTIONS_DROP,
    DELETE,
    ERROR_TAG,
    FILTER,
    INDEX,
    INDEX_BACKUP,
    INDEX_MOVE,
    INDEX_RESTORE,
    INDEX_VERIFY,
    REINDEX_CANCEL,
    SEARCH,
    SEARCH_TAG,
    STATUS,
    mark_error,
)  # fmt: skip
from finetuner.exceptions import FinetunerError, InvalidInput, NotFound
from finetuner.executors.indexer.engines.engine import SearchOptions
from finetuner.executors.indexer.feedback.endpoints import FeedbackRoom
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.ranking.cursor import Cursors
from finetuner.executors.indexer.ranking.cut_off import Probabilities
from finetuner.executors.indexer.ranking.examples import has_examples
from finetuner.executors.indexer.ranking.pipeline import Pipeline
from finetuner.executors.indexer.ranking.texts import Texts
from finetuner.executors.indexer.retrieval.matches import REPLY_BYTES, Answer, Matches
from finetuner.executors.indexer.retrieval.sizes import TrainedSizes
from finetuner.executors.indexer.retrieval.vectors import artifact_of
from finetuner.executors.indexer.settings import EDGE, IndexSettings, checked_url
from finetuner.executors.indexer.upkeep.backup import backup, check_backup, finish_restore, stage_restore
from finetuner.executors.indexer.upkeep.graphs import Graphs
from finetuner.executors.indexer.upkeep.live import Live
from finetuner.executors.indexer.upkeep.move import copy_to_engine, finish_move
from finetuner.executors.indexer.upkeep.reindex import Reindex
from finetuner.executors.indexer.upkeep.repair import Repair
from finetuner.executors.indexer.upkeep.verify import verify_index
from finetuner.executors.room.room import control
from finetuner.workspace.tokens import rooms_secret

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000
MAX_OFFSET = 100_000
# Parameters that choose the content of a match.
SHOWN = ("return_content", "thumbnails")
BACKUPS = "backups"
# The bulk of a document. The sender already has it, so the answer leaves it out.
PAYLOAD = ("blob", "tensor", "chunks", "embedding")


class Indexer(FeedbackRoom):
    """Stores documents with embeddings and searches them. The index is in `index/` of the workspace.

    Args:
        kwargs: the settings, and Jina's own arguments.

    Raises:
        InvalidInput: an invalid setting, or another process has this workspace's index open.
    """

    settings: IndexSettings

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._live = Live(self.shared_workspace)
        self._open()
        self._indexed = Counter(
            "finetuner_indexed_documents", "Documents indexed or indexed again", registry=self.registry
        )
        self._searches = Counter("finetuner_searches", "Queries answered with matches", registry=self.registry)
        self._vectors = Gauge(
            "finetuner_collection_vectors", "Vectors in a collection", ["artifact"], registry=self.registry
        )
        self._show_counts()

    def _open(self) -> None:
        settings, log, workspace = self.settings, self.logger.warning, self.shared_workspace
        encoders = settings.encoders(workspace.root)  # checked before the lock is taken
        self._index = Index(
            workspace.index,
            settings.engine(),
            int(settings.min_free_mb),
            steps=(finish_restore, finish_move),
            dimensions=settings.dimensions,
            trained=TrainedSizes(workspace),
        )
        self._live.heal(self._index.counts())
        for problem in self._index.problems:
            log(problem)
        self._graphs = Graphs(self._index.collections, log, spare=int(settings.min_free_mb) * 2**20)
        pace = settings.reindex_share, settings.reindex_tolerance
        self._reindex = Reindex(self._index, self._live, encoders, *pace, log)
        self._repair = Repair(self._index, self._reindex.look_again, log)
        texts, cursors = Texts(workspace.index / "documents.sqlite"), Cursors(rooms_secret(workspace.root))
        self._probabilities = Probabilities(workspace, self._index)
        self._pipeline = Pipeline(self._index, texts, cursors, self._probabilities)

    @control(INDEX, "artifact")
    def index(self, parameters: Parameters, docs: DocumentArray) -> DocumentArray:
        """Store documents with embedding and artifact tag. Return them without payload, once they are on disk."""
        live = self._means_live(parameters.get("artifact") or parameters.get("model_name") or LIVE)
        arrived = [document for document in docs if ERROR_TAG not in document.tags]
        self._index.sizes.cut(arrived)
        errors = self._index.upsert(arrived, live)
        stored = [document for document, error in zip(arrived, errors, strict=True) if error is None]
        if live:
            self._reindex.written({artifact_of(document) for document in stored})
        for document, error in zip(arrived, errors, strict=True):
            document.pop(*PAYLOAD)
            if error is not None:
                mark_error(document, error)
        self.count_documents(INDEX, len(stored), len(docs) - len(stored))
        self._indexed.inc(len(stored))
        self._show_counts()
        return docs

    # The encoders read `artifact`: the same request passes through them first.
    @control(SEARCH, "artifact", "limit", "offset", "filter", "score_threshold", "exact", *SHOWN, *FEATURES)
    def search(self, parameters: Parameters, docs: DocumentArray) -> DocumentArray:
        """Fill each query's matches, best first, from the documents of the query's artifact."""
        options = SearchOptions(
            limit=parameters.whole("limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
            offset=parameters.whole("offset", 0, 0, MAX_OFFSET),
            filter=self._filter(parameters),
            score_threshold=parameters.number("score_threshold", -1, 1),
            exact=parameters.flag("exact", False),
        )
        matches = self._matches(parameters)
        answer = Answer(docs)
        arrived = [position for position, query in enumerate(docs) if ERROR_TAG not in query.tags]
        self._index.sizes.cut(docs[position] for position in arrived)
        more = {name: value for name in FEATURES if (value := parameters.get(name)) is not None}
        if more or any(has_examples(docs[position]) for position in arrived):
            self._search_more(parameters, options, SearchParameters.read(more, options.limit, options.offset), answer)
            return answer
        hits = self._index.search([docs[position] for position in arrived], options)
        for position, found in zip(arrived, hits, strict=True):
            query = docs[position]
            if isinstance(found, FinetunerError):
                mark_error(query, found)
            else:
                answer.found[position] = matches.of(query, artifact_of(query), found)
                self._probabilities.show(query, answer.kinds[position], found, answer.found[position])
        answered = sum(ERROR_TAG not in docs[position].tags for position in arrived)
        self.count_documents(SEARCH, answered, len(docs) - answered)
        self._searches.inc(answered)
        return answer

    def _search_more(
        self, parameters: Parameters, options: SearchOptions, given: SearchParameters, answer: Answer
    ) -> None:
        """Answer queries whose search has examples or one of FEATURES. A report goes into the query's SEARCH_TAG."""
        matches, asked = self._matches(parameters), self._pipeline.check(given)
        counted: dict[str, Any] = {}
        answered = 0
        for position, query in enumerate(answer):
            if ERROR_TAG in query.tags:
                continue
            try:
                if asked.positives or asked.negatives:
                    answer.kinds[position] = ""
                made_by, kind = self._made_by(query, parameters), answer.kinds[position]
                found = self._pipeline.search(query, made_by, options, asked, kind)
                artifact = artifact_of(query)
                if asked.facets and artifact not in counted:
                    counted[artifact] = self._pipeline.facets(artifact, asked, options.filter)
            except FinetunerError as error:
                mark_error(query, error)
                continue
            answer.found[position] = matches.of(query, artifact, found.hits)
            self._probabilities.show(query, answer.kinds[position], found.hits, answer.found[position])
            for match in answer.found[position]:
                for name, score in found.scores.get(match.id, {}).items():
                    match.scores[name].value = score
            report = dict(found.report) | ({"facets": counted[artifact]} if asked.facets else {})
            if report and ERROR_TAG not in query.tags:
                query.tags[SEARCH_TAG] = report
            answered += ERROR_TAG not in query.tags
        self.count_documents(SEARCH, answered, len(answer) - answered)
        self._searches.inc(answered)

    @control(FILTER, "artifact", "filter", "limit", "offset", *SHOWN)
    def filter(self, parameters: Parameters, _docs: DocumentArray) -> DocumentArray:
        """Return an artifact's documents that pass a filter, in a stable order."""
        limit = parameters.whole("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        offset = parameters.whole("offset", 0, 0, MAX_OFFSET)
        matches = self._matches(parameters)
        artifact = self._artifact(parameters.text("artifact", LIVE))
        found = self._index.find(artifact, self._filter(parameters), limit, offset)
        return matches.documents(found)

    @control(DELETE, "ids", "filter")
    def delete(self, parameters: Parameters, docs: DocumentArray) -> dict[str, int]:
        """Delete by `ids`, by the ids of the documents sent, and by `filter`. Return {"deleted": count}."""
        ids = parameters.get("ids")
        condition = self._filter(parameters)
        if ids is None and not docs and condition is None:
            raise InvalidInput(
                "a delete request must name documents. Got no `ids`, no documents and no `filter` with a condition. "
                "Pass `ids`, a list of strings."
            )
        if ids is not None and not (isinstance(ids, list) and all(isinstance(entry, str) for entry in ids)):
            raise InvalidInput(f"parameter 'ids' must be a list of strings. Got {ids!r}.")
        deleted = self._index.delete([*(ids or []), *(document.id for document in docs)], condition)
        self._show_counts()
        return {"deleted": deleted}

    @control(STATUS)
    def status(self, _parameters: Parameters, _docs: DocumentArray) -> dict[str, Any]:
        """Return `Index.status` with the searched and promoted artifacts, the last re-index and all problems."""
        self._show_counts()
        return self._index.status() | {
            "searched": self._live.searched,
            "promoted": self._live.promoted,
            "building": self._graphs.building,
            "reindex": self._reindex.status(),
            "problems": self.problems(),
        }

    def problems(self) -> list[str]:
        """Return the problems of the workspace, and those of the index."""
        index = self._index
        found = [*super().problems(), *self._live.problems(), *index.problems, *index.documents.problems()]
        return [*found, *index.sizes.problems(), *self._repair.problems, *self._graphs.problems.values()]

    @control(REINDEX_CANCEL)
    def cancel_reindex(self, _parameters: Parameters, _docs: DocumentArray) -> dict[str, Any]:
        """Cancel the running re-index. Return its state."""
        return self._reindex.cancel()

    @control(COLLECTIONS_DROP, "artifact")
    def drop_collection(self, parameters: Parameters, _docs: DocumentArray) -> dict[str, Any]:
        """Delete the vectors of one artifact. Refuse the artifact that `live` searches or is moving to."""
        artifact = self._artifact(parameters.text("artifact"))
        job = self._live.wanted()
        if artifact == self._live.searched or (job is not None and artifact == job.artifact):
            raise InvalidInput(
                f"a dropped collection must not be in use. Got {artifact!r}, which `live` searches or will search. "
                "Promote another artifact first, or cancel the re-index."
            )
        self._index.drop(artifact)
        with suppress(KeyError):  # a re-index made the collection, and no metric shows it yet
            self._vectors.remove(artifact)
        self._show_counts()
        return {"artifact": artifact}

    @control(INDEX_BACKUP, "name", beside=True)
    def backup(self, parameters: Parameters, _docs: DocumentArray) -> dict[str, Any]:
        """Write a consistent copy to `backups/<name>` in the workspace. Return its manifest."""
        return backup(self._index, self.shared_workspace.root / BACKUPS, parameters["name"], self._live.searched)

    @control(INDEX_VERIFY, "name", beside=True)
    def verify(self, parameters: Parameters, _docs: DocumentArray) -> dict[str, Any]:
        """Check the index, or the backup called `name`. Return its counts."""
        name = parameters.get("name")
        return check_backup(self.shared_workspace.root / BACKUPS, name) if name else verify_index(self._index)

    @control(INDEX_RESTORE, "name")
    def restore(self, parameters: Parameters, _docs: DocumentArray) -> dict[str, Any]:
        """Replace the index by a backup. `live` searches the artifact it searched when the backup was made."""
        if self.settings.index != EDGE:
            raise InvalidInput(
                f"`index` must be {EDGE!r} to restore a backup. Got {self.settings.index!r}. Set it back."
            )
        manifest = stage_restore(self.shared_workspace.root / BACKUPS, parameters["name"], self.shared_workspace.index)
        self._close_index()
        self._open()
        if manifest["searched"]:
            self._live.search_with(manifest["searched"])
        self._show_counts()
        return manifest

    @control(INDEX_MOVE, "url")
    def move(self, parameters: Parameters, _docs: DocumentArray) -> dict[str, Any]:
        """Copy the vectors to the Qdrant server at `url`, compare both sides, then search there."""
        settings = replace(self.settings, index=checked_url("url", parameters["url"]))
        copied = copy_to_engine(self._index, settings.engine())
        self.settings = settings
        self._close_index()
        self._open()
        return {"index": settings.index, "vectors": copied}

    def known(self, ids: Iterable[str]) -> set[str]:
        """Return those ids that the index has documents of."""
        return set(self._index.documents.versions(ids))

    def contents(self, ids: list[str]) -> DocumentArray:
        """Return the known documents of these ids, with their contents."""
        return Matches(self._index.documents, True, False, REPLY_BYTES).documents(ids)

    def close(self) -> None:
        """Close the index. Another process may open it afterwards."""
        self._close_index()
        super().close()

    def _close_index(self) -> None:
        self._repair.close()
        self._reindex.close()
        self._graphs.close()
        self._index.close()

    def _matches(self, parameters: Parameters) -> Matches:
        content, thumbnails = parameters.flag("return_content", True), parameters.flag("thumbnails", False)
        return Matches(self._index.documents, content, thumbnails, REPLY_BYTES)

    def _filter(self, parameters: Parameters) -> Any:
        return self._index.filter(parameters.get("filter"))

    def _means_live(self, reference: object) -> bool:
        """Return whether `reference`, which the encoders have checked, is the artifact that `live` searches."""
        if reference == LIVE:
            return True
        meant = self.shared_workspace.artifact_of(str(reference)) or reference
        return meant == (self._live.searched or self._live.promoted or self.settings.backbone)

    def _made_by(self, query: Document, parameters: Parameters) -> str:
        """Return the artifact of a query's vectors; without any, the one that the request names."""
        tagged = (part.tags.get(ARTIFACT_TAG) for part in (query, *query.chunks))
        made_by = next((artifact for artifact in tagged if artifact), None)
        return made_by or self._artifact(parameters.get("artifact") or parameters.text("model_name", LIVE))

    def _artifact(self, reference: str) -> str:
        """Return the artifact of a reference's collection; for `live`, the searched one."""
        if reference == LIVE:
            have = list(self._index.counts())
            meant = self._live.searched or self._live.promoted or (have[0] if len(have) == 1 else "")
            if not meant:
                raise NotFound(
                    f"`artifact` must have a collection. Got 'live', which has none. Name one of: "
                    f"{', '.join(have) or 'none'}, or index documents first."
                )
            return meant
        return self.shared_workspace.artifact_of(reference) or reference

    def _show_counts(self) -> None:
        for artifact, collection in self._index.collections.all().items():
            self._vectors.labels(artifact).set(collection.graph().vectors)
