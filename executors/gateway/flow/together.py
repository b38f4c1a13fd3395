"""Short requests that wait at the same moment go to a room in one message, and come back apart.

The price of a message is many times that of one more text in it. A request that finds a replica idle is sent at once.
While each has a message, requests wait for the next one, in turn by their callers, until it has as many texts as those
on their way, which the room computes meanwhile; a full message waits for none, nor does a single request beside a
caller with many. As long as a caller asks for few texts beside another one, a message has few of each: a room finishes
one pass before it begins the next. Only texts share a message, of requests with the same endpoint, parameters (so the
same model) and rooms: a text does not wait for an image.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from itertools import islice
from typing import Any

from jina.proto import jina_pb2
from jina.types.request.data import DataRequest

from finetuner.contract.wire import ENCODE, ERROR_TAG, SEARCH
from finetuner.exceptions import FinetunerServerError

from ..access.access import RateLimited
from ..access.turns import FEW, Turns

ENDPOINTS = (ENCODE, SEARCH)
MOST_BYTES = 2**13  # of a request that shares a message
MOST_DOCUMENTS = 32  # of a message: a forward pass of the encoders' default
ON_THEIR_WAY = 2  # messages to each replica: it answers one while the other one is written and read
MOST_ON_THEIR_WAY = 32  # full ones: behind an address there may be more replicas than the gateway knows of
RETRY_SECONDS = 1.0
PATIENCE = 0.25  # seconds after which a message on its way delays no other

Send = Callable[[DataRequest], Awaitable[DataRequest]]


class Waiting:
    """One request, and the answer that its caller waits for."""

    def __init__(self, request: DataRequest, caller: Hashable) -> None:
        self.request = request
        self.caller = caller
        self.documents = len(request.proto_with_data.data.docs.docs)
        self.answer: asyncio.Future[DataRequest] = asyncio.get_running_loop().create_future()


class Line:
    """Requests that may share messages.

    Args:
        send: sends one message.
        most: messages on their way, past which only full ones are sent.
        most_waiting: texts that wait at the same time.
        turns: of the callers, in which they get their answers.
    """

    def __init__(self, send: Send, most: int, most_waiting: int, turns: Turns) -> None:
        self._send = send
        self._most = most
        self._most_waiting = most_waiting
        self._turns = turns
        self._ways = self._texts = self._sent = 0  # messages on their way, texts that wait, texts on their way
        self._waiting: OrderedDict[Hashable, deque[Waiting]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: Counter[Hashable] = Counter()  # texts by caller, waiting or on their way

    @property
    def idle(self) -> bool:
        """Whether no request waits or is on its way."""
        return not self._tasks and not self._waiting

    async def ask(self, request: DataRequest, caller: Hashable) -> DataRequest:
        """Return the answer to a request. A caller that leaves takes its request along.

        Raises:
            RateLimited: too many texts wait.
        """
        waiting = Waiting(request, caller)
        # a caller that has nothing here may always wait: another one would keep it out
        if caller in self._held and self._texts + waiting.documents > max(self._most_waiting, waiting.documents):
            raise RateLimited(
                f"The rooms are busy, and {self._most_waiting} texts may wait for them. Got more. "
                "Send fewer at the same time, and this one again.",
                RETRY_SECONDS,
            )
        self._turns.asked(caller, self._held.get(caller, 0) + waiting.documents)
        # a message is answered as a whole: one with the texts of a caller of many would take long
        first = waiting.documents <= FEW and caller not in self._held
        alone = first and self._most <= self._ways < 2 * self._most and self._has_many
        self._held[caller] += waiting.documents
        if alone:
            self._begin([waiting])
        else:
            self._waiting.setdefault(caller, deque()).append(waiting)
            self._texts += waiting.documents
            self._start()
        try:
            return await waiting.answer
        finally:
            self._held[caller] -= waiting.documents
            if not self._held[caller]:
                del self._held[caller]

    def _start(self) -> None:
        """Send messages as long as there are requests, and room for their messages."""
        while self._is_next_due():
            together = self._take()
            if not together:
                return
            self._begin(together)

    def _is_next_due(self) -> bool:
        """Return whether requests go into a message now, if there are any."""
        if self._ways * ON_THEIR_WAY < self._most:  # a replica is idle
            return True
        if self._ways < self._most and (
            self._texts * self._ways >= self._sent or (self._has_many and self._turns.mixed)
        ):
            return True
        return self._ways < MOST_ON_THEIR_WAY and self._is_full()

    @property
    def _has_many(self) -> bool:
        """Whether a caller waits for many texts."""
        return max(self._held.values(), default=0) > FEW

    def _is_full(self) -> bool:
        """Return whether enough texts wait for a full message."""
        if self._texts < MOST_DOCUMENTS or not self._turns.mixed:
            return self._texts >= MOST_DOCUMENTS
        texts = 0
        for line in self._waiting.values():
            texts += min(FEW, sum(waiting.documents for waiting in islice(line, FEW)))
            if texts >= MOST_DOCUMENTS:
                return True
        return False

    def _begin(self, together: Sequence[Waiting]) -> None:
        task = asyncio.ensure_future(self._answer(together))
        self._tasks.add(task)
        for waiting in together:
            waiting.answer.add_done_callback(lambda _: _stop(task, together))
        texts = sum(waiting.documents for waiting in together)
        self._ways += 1
        self._sent += texts
        timer = asyncio.get_running_loop().call_later(PATIENCE, self._free, texts)
        task.add_done_callback(lambda task: self._ended(task, timer, texts))

    def _ended(self, task: asyncio.Task[None], timer: asyncio.TimerHandle, texts: int) -> None:
        self._tasks.discard(task)
        if timer.when() > asyncio.get_running_loop().time():
            timer.cancel()
            self._free(texts)

    def _free(self, texts: int) -> None:
        self._ways -= 1
        self._sent -= texts
        self._start()

    def _take(self) -> list[Waiting]:
        """Remove the requests of the next message: one of each caller in turn, those without a caller left out."""
        taken: list[Waiting] = []
        documents, own = 0, Counter[Hashable]()
        most = FEW if self._turns.mixed else MOST_DOCUMENTS
        callers = deque(self._waiting)
        while callers:
            caller = callers.popleft()
            line = self._waiting[caller]
            while line and line[0].answer.done():  # its caller has left
                self._texts -= line.popleft().documents
            size = line[0].documents if line else 0
            if taken and documents + size > MOST_DOCUMENTS:
                break
            if size and not (own[caller] and own[caller] + size > most):
                taken.append(line.popleft())
                self._texts -= size
                documents += size
                own[caller] += size
                self._waiting.move_to_end(caller)
                callers.append(caller)
            if not line:
                del self._waiting[caller]
                if callers and callers[-1] == caller:
                    callers.pop()
        return taken

    async def _answer(self, together: Sequence[Waiting]) -> None:
        try:
            if len(together) == 1:
                answers = [await self._send(together[0].request)]
            else:
                answers = await self._answer_apart(together)
        except Exception as error:
            for waiting in together:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        for waiting, answer in zip(together, answers, strict=True):
            self._turns.call(waiting.caller, partial(_give, waiting, answer))

    async def _answer_apart(self, together: Sequence[Waiting]) -> list[DataRequest]:
        """Send requests in one message, and return the answer to each.

        If the room fails as a whole, or a search has an error that its neighbours may have caused, each is sent alone.
        """
        whole = await self._send(_joined(together))
        documents = list(whole.proto_with_data.data.docs.docs)
        failed = whole.header.status.code == jina_pb2.StatusProto.ERROR
        if not failed and len(documents) != sum(waiting.documents for waiting in together):
            raise FinetunerServerError(
                f"The rooms must answer {sum(waiting.documents for waiting in together)} documents. "
                f"Got {len(documents)}. See their logs."
            )
        answers, start = [], 0
        for waiting in together:
            own = documents[start : start + waiting.documents]
            start += waiting.documents
            if failed or (whole.header.exec_endpoint == SEARCH and any(ERROR_TAG in each.tags.fields for each in own)):
                answers.append(waiting.request if waiting.answer.done() else await self._send(waiting.request))
            else:
                answers.append(_part(whole, waiting.request, own))
        return answers


class Together:
    """The lines of a gateway.

    Args:
        line: makes the line of requests like the given one.
    """

    def __init__(self, line: Callable[[DataRequest], Line]) -> None:
        self._line = line
        self._lines: dict[Hashable, Line] = {}

    async def ask(self, request: DataRequest, caller: Hashable) -> DataRequest:
        """Return the answer to a request that `may_share`."""
        message = request.proto_with_data
        parameters = message.parameters.SerializeToString(deterministic=True)
        key = (message.header.exec_endpoint, message.header.target_executor, parameters)
        if key not in self._lines:
            self._lines = {known: line for known, line in self._lines.items() if not line.idle}
            self._lines[key] = self._line(request)
        return await self._lines[key].ask(request, caller)


def may_share(request: DataRequest) -> bool:
    """Return whether a request is short, asks for vectors or matches, and holds texts alone."""
    message = request.proto_with_data
    documents = message.data.docs.docs
    return (
        message.header.exec_endpoint in ENDPOINTS
        and 0 < len(documents) <= MOST_DOCUMENTS
        and message.ByteSize() <= MOST_BYTES
        and all(
            document.text and not (document.chunks or document.matches or document.HasField("embedding"))
            for document in documents
        )
    )


def _give(waiting: Waiting, answer: DataRequest) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(answer)


def _stop(task: asyncio.Task[None], together: Sequence[Waiting]) -> None:
    """Cancel a message whose callers have all left."""
    if all(waiting.answer.cancelled() for waiting in together):
        task.cancel()


def _joined(together: Sequence[Waiting]) -> DataRequest:
    first = together[0].request.proto_with_data
    message = jina_pb2.DataRequestProto()
    message.header.CopyFrom(first.header)
    message.parameters.CopyFrom(first.parameters)
    for waiting in together:
        message.data.docs.docs.extend(waiting.request.proto_with_data.data.docs.docs)
    return DataRequest(message)


def _part(whole: DataRequest, request: DataRequest, documents: Sequence[Any]) -> DataRequest:
    """Return the answer to a request: the header and the routes of the message, and its own documents."""
    # DataRequest() would draw a random id first
    message, source = jina_pb2.DataRequestProto(), whole.proto_with_data
    message.header.CopyFrom(source.header)
    message.header.request_id = request.proto_with_data.header.request_id
    message.parameters.CopyFrom(source.parameters)
    message.routes.extend(source.routes)
    message.data.docs.docs.extend(documents)
    return DataRequest(message)
