"""Short requests share messages to a room, and come back apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc
import httpx
import pytest
from docarray import Document, DocumentArray
from jina.proto import jina_pb2
from jina.types.request.data import DataRequest

from finetuner.contract.wire import mark_error
from finetuner.exceptions import InvalidInput
from finetuner.executors.gateway.access import turns
from finetuner.executors.gateway.access.access import RateLimited
from finetuner.executors.gateway.access.turns import FEW, Turns
from finetuner.executors.gateway.flow import together
from finetuner.executors.gateway.flow.together import MOST_BYTES, MOST_DOCUMENTS, Line, Together, may_share
from tests.gateway.conftest import ToyFlow


def asked(*texts: str, endpoint: str = "/encode", **parameters: Any) -> DataRequest:
    request = DataRequest()
    request.header.exec_endpoint, request.header.request_id = endpoint, f"id of {texts[0]}"
    request.parameters = parameters
    request.data.docs = DocumentArray([Document(text=text) for text in texts])
    return request


def texts_of(answer: DataRequest) -> list[str]:
    return [document.text for document in answer.proto_with_data.data.docs.docs]


class Room:
    """Answers each text with its capitals, once it is told to."""

    def __init__(self) -> None:
        self.messages: list[list[str]] = []
        self.canceled: list[list[str]] = []
        self.open = asyncio.Event()
        self.fails = ""

    async def send(self, request: DataRequest) -> DataRequest:
        texts = texts_of(request)
        self.messages.append(texts)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.canceled.append(texts)
            raise
        answer = asked(*(text.upper() for text in texts), endpoint=request.header.exec_endpoint)
        if self.fails in texts:
            answer.header.status.code = jina_pb2.StatusProto.ERROR
        if len(texts) > 1 and self.fails == "too large":
            answer.data.docs = DocumentArray([mark_error(Document(), InvalidInput("too large")) for _ in texts])
        return answer


async def started(*asking: Coroutine[Any, Any, DataRequest]) -> list[asyncio.Task[DataRequest]]:
    tasks = [asyncio.create_task(each) for each in asking]
    await asyncio.sleep(0)  # they ask
    await asyncio.sleep(0)  # the room has their messages
    return tasks


def test_a_request_is_sent_at_once_and_those_that_wait_share_the_next_message() -> None:
    async def check() -> None:
        room = Room()
        line = Line(room.send, 1, 1000, Turns())
        tasks = await started(*(line.ask(asked(text, f"{text} 2"), "") for text in "abc"))
        assert room.messages == [["a", "a 2"]]
        room.open.set()
        answers = await asyncio.gather(*tasks)
        assert [texts_of(answer) for answer in answers] == [["A", "A 2"], ["B", "B 2"], ["C", "C 2"]]
        assert [answer.header.request_id for answer in answers[1:]] == ["id of b", "id of c"]
        assert room.messages[1:] == [["b", "b 2", "c", "c 2"]]
        assert line.idle

    asyncio.run(check())


def test_a_second_message_has_as_many_texts_as_the_one_on_its_way() -> None:
    async def check() -> None:
        room = Room()
        line = Line(room.send, 2, 1000, Turns())
        tasks = await started(line.ask(asked("a 1", "a 2", "a 3"), "a"), line.ask(asked("b"), "b"))
        assert room.messages == [["a 1", "a 2", "a 3"]]
        tasks += await started(line.ask(asked("c"), "c"))
        assert len(room.messages) == 1
        tasks += await started(line.ask(asked("d"), "d"), line.ask(asked("e"), "e"))
        assert room.messages[1:] == [["b", "c", "d"]]
        room.open.set()
        await asyncio.gather(*tasks)
        assert room.messages[2:] == [["e"]], "it goes with whatever waits, once an answer has come"
        assert line._sent == line._texts == 0

    asyncio.run(check())


def test_a_second_replica_is_not_kept_idle() -> None:
    async def check() -> None:
        room = Room()
        line = Line(room.send, 4, 1000, Turns())
        tasks = await started(line.ask(asked("a 1", "a 2"), "a"), line.ask(asked("b"), "b"), line.ask(asked("c"), "c"))
        assert room.messages == [["a 1", "a 2"], ["b"]]
        room.open.set()
        await asyncio.gather(*tasks)

    asyncio.run(check())


def test_requests_of_other_models_and_endpoints_never_share() -> None:
    async def check() -> None:
        room = Room()
        lines = Together(lambda _: Line(room.send, 1, 1000, Turns()))
        requests = [asked("a"), asked("b", artifact="1"), asked("c", dimensions=64), asked("d", endpoint="/search")]
        tasks = await started(*(lines.ask(each, "") for each in [*requests, asked("e", artifact="1"), asked("f")]))
        assert room.messages == [["a"], ["b"], ["c"], ["d"]]
        room.open.set()
        assert [texts_of(each) for each in await asyncio.gather(*tasks)] == [["A"], ["B"], ["C"], ["D"], ["E"], ["F"]]
        room.open.clear()
        await started(lines.ask(asked("g", artifact="3"), ""))
        assert len(lines._lines) == 1, "those that nobody uses are forgotten"

    asyncio.run(check())


def test_a_caller_with_many_requests_does_not_delay_one_with_one() -> None:
    async def check() -> None:
        room = Room()
        line = Line(room.send, 1, 1000, Turns())
        many = await started(*(line.ask(asked(str(row)), "many") for row in range(1, FEW + 1)))
        (one,) = await started(line.ask(asked("one"), "one"))
        room.open.set()
        await asyncio.gather(*many, one)
        assert room.messages[:1] == [["1"]]
        assert room.messages[1][:3] == ["2", "one", "3"]

    asyncio.run(check())


def test_a_single_request_beside_a_caller_with_many_goes_alone() -> None:
    async def check() -> None:
        room = Room()
        line = Line(room.send, 1, 1000, Turns())
        many = await started(*(line.ask(asked(str(row)), "many") for row in range(FEW + 1)))
        (one, two, three) = await started(
            line.ask(asked("one"), "one"), line.ask(asked("two"), "one"), line.ask(asked("three"), "three")
        )
        assert room.messages == [["0"], ["one"]], "the second one takes turns, and so does the next caller"
        room.open.set()
        await asyncio.gather(*many, one, two, three)
        assert line.idle
        assert not line._held

    asyncio.run(check())


def test_a_message_has_few_texts_of_one_caller_while_there_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        room = Room()
        line = Line(room.send, 1, 1000, Turns())
        room.open.set()
        await line.ask(asked("one"), "one")
        room.open.clear()
        many = await started(*(line.ask(asked(str(row)), "many") for row in range(2 * MOST_DOCUMENTS + 1)))
        assert room.messages[1:] == [["0"]], "no message is full"
        room.open.set()
        await many[2 * FEW]
        first, second = room.messages[2:4]
        assert [*first, *second] == [str(row) for row in range(1, 1 + 2 * FEW)]
        assert len(first) == len(second) == FEW
        monkeypatch.setattr(turns, "LATELY", -1.0)
        await asyncio.gather(*many)
        assert max(map(len, room.messages)) == MOST_DOCUMENTS, "the other one has been away for long"

    asyncio.run(check())


def test_many_callers_of_one_text_share_a_full_message() -> None:
    async def check() -> None:
        room = Room()
        line = Line(room.send, 1, 1000, Turns())
        tasks = await started(*(line.ask(asked(str(row)), row) for row in range(MOST_DOCUMENTS + 1)))
        assert [*map(len, room.messages)] == [1, MOST_DOCUMENTS]
        room.open.set()
        await asyncio.gather(*tasks)

    asyncio.run(check())


def test_a_full_message_waits_for_none() -> None:
    async def check() -> None:
        room = Room()
        line = Line(room.send, 1, 1000, Turns())
        tasks = await started(*(line.ask(asked(str(row)), "") for row in range(2 * MOST_DOCUMENTS)))
        assert [*map(len, room.messages)] == [1, MOST_DOCUMENTS]
        room.open.set()
        await asyncio.gather(*tasks)
        assert [*map(len, room.messages)] == [1, MOST_DOCUMENTS, MOST_DOCUMENTS - 1]

    asyncio.run(check())


def test_one_request_too_many_is_refused_at_once() -> None:
    async def check() -> None:
        room = Room()
        line = Line(room.send, 1, 2, Turns())
        tasks = await started(*(line.ask(asked(text), "many") for text in "abc"))
        with pytest.raises(RateLimited, match="2 texts may wait for them. Got more") as refused:
            await line.ask(asked("d"), "many")
        assert refused.value.wait == 1
        tasks += await started(line.ask(asked("d"), "one"))  # the many of another caller do not keep it out
        room.open.set()
        await asyncio.gather(*tasks)
        assert texts_of(await line.ask(asked("e"), "e")) == ["E"]

    asyncio.run(check())


def test_a_caller_that_leaves_takes_its_request_along() -> None:
    async def check() -> None:
        room = Room()
        line = Line(room.send, 1, 1000, Turns())
        first, leaves, stays = await started(*(line.ask(asked(text), "") for text in "abc"))
        leaves.cancel()
        first.cancel()
        await asyncio.gather(first, leaves, return_exceptions=True)
        await asyncio.sleep(0)
        assert room.canceled == [["a"]], "the message of one caller ends with it"
        room.open.set()
        assert texts_of(await stays) == ["C"]
        assert room.messages == [["a"], ["c"]]

    asyncio.run(check())


@pytest.mark.parametrize("fails", ["bad", "too large"])
def test_requests_are_sent_alone_if_their_message_fails(fails: str) -> None:
    async def check() -> None:
        room = Room()
        room.fails = fails
        line = Line(room.send, 1, 1000, Turns())
        tasks = await started(*(line.ask(asked(text, endpoint="/search"), "") for text in ("a", "b", "bad", "c")))
        room.open.set()
        answers = await asyncio.gather(*tasks)
        assert room.messages == [["a"], ["b", "bad", "c"], ["b"], ["bad"], ["c"]]
        failed = [answer.header.status.code == jina_pb2.StatusProto.ERROR for answer in answers]
        assert failed == [False, False, fails == "bad", False]

    asyncio.run(check())


def test_a_message_on_its_way_delays_others_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        room = Room()
        line = Line(room.send, 1, 1000, Turns())
        (hangs,) = await started(line.ask(asked("hangs"), ""))
        (other,) = await started(line.ask(asked("other"), ""))
        while len(room.messages) < 2:
            await asyncio.sleep(0.001)
        assert room.messages == [["hangs"], ["other"]]
        room.open.set()
        await asyncio.gather(hangs, other)
        assert line._ways == 0

    monkeypatch.setattr(together, "PATIENCE", 0.01)
    asyncio.run(check())


def test_short_requests_of_texts_may_share() -> None:
    assert may_share(asked("a", "b", limit=3))
    assert not may_share(asked("a", endpoint="/index"))
    assert not may_share(asked("a" * MOST_BYTES))
    assert not may_share(asked(*["a"] * (MOST_DOCUMENTS + 1)))
    assert not may_share(asked("a", ""))
    for document in ({"blob": b"a"}, {"uri": "http://a/b.jpg"}, {"text": "a", "embedding": [1.0]}):
        request = asked("a")
        request.data.docs = DocumentArray([Document(**document)])
        assert not may_share(request)


@pytest.mark.flow
@pytest.mark.parametrize("endpoint", ["/encode", "/search"])
def test_each_caller_of_a_flow_gets_its_own_answer_and_error(open_flow: ToyFlow, endpoint: str) -> None:
    async def check() -> None:
        async with httpx.AsyncClient(base_url=open_flow.http) as client:
            texts = [f"text {row}" for row in range(24)] + ["raise"]
            posts = [client.post(endpoint, json={"data": [{"id": text, "text": text}]}) for text in texts]
            *good, bad = await asyncio.gather(*posts)
            assert bad.status_code == 500
            assert bad.json()["type"] == "FinetunerServerError"
            assert [each.json()["data"][0]["id"] for each in good] == texts[:-1]
            rooms = ["gateway", "text_encoder", *(["indexer"] if endpoint == "/search" else [])]
            assert [route["executor"] for route in good[0].json()["routes"]] == rooms

    asyncio.run(check())


@pytest.mark.flow
@pytest.mark.seconds
def test_many_grpc_calls_of_one_connection_do_not_delay_another_connection(open_flow: ToyFlow) -> None:
    many = 240

    def content(name: str, text: str) -> bytes:
        request = DataRequest()
        request.header.exec_endpoint = "/encode"
        request.data.docs = DocumentArray([Document(id=name, text=text)])
        sent: bytes = request.proto_with_data.SerializeToString()
        return sent

    async def ask(channel: grpc.aio.Channel, name: str, text: str) -> Any:
        async def one() -> AsyncIterator[bytes]:
            yield content(name, text)

        call = channel.stream_stream("/jina.JinaRPC/Call")(one())
        (answer,) = [DataRequest(each) async for each in call]
        return answer.docs[0]

    async def check() -> list[str]:
        own = [("grpc.use_local_subchannel_pool", 1)]
        address = f"127.0.0.1:{open_flow.grpc_port}"
        async with grpc.aio.insecure_channel(address, own) as flood, grpc.aio.insecure_channel(address, own) as lone:
            await asyncio.gather(ask(flood, "first", "a"), ask(lone, "first", "a"))
            asking = [asyncio.create_task(ask(flood, f"many {row}", "a")) for row in range(many)]
            one = asyncio.create_task(ask(lone, "one", "seen"))
            await asyncio.gather(one, *asking)
            return list(one.result().tags["text"])

    seen = asyncio.run(check())
    before = [name for name in seen[: seen.index("one")] if name.startswith("many ")]
    assert len(before) < many * 3 / 4, "in the order of their arrival, all of the many would have come first"
