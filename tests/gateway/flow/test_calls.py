"""Requests of a stream at the same time, their end with their call, and bytes in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from docarray import Document, DocumentArray
from jina.proto import jina_pb2

from finetuner.executors.gateway.flow.calls import Budget, answer_each
from tests.gateway.conftest import ToyFlow


async def numbers(count: int, read: list[int] | None = None) -> AsyncIterator[int]:
    for number in range(count):
        if read is not None:
            read.append(number)
        yield number


def test_answers_come_as_they_are_ready_or_in_order() -> None:
    async def late(number: int) -> int:
        for _ in range(10 * (5 - number)):
            await asyncio.sleep(0)
        return number

    async def collected(in_order: bool) -> list[int]:
        return [answer async for answer in answer_each(numbers(5), late, 5, in_order=in_order)]

    assert asyncio.run(collected(True)) == [0, 1, 2, 3, 4]
    assert asyncio.run(collected(False)) == [4, 3, 2, 1, 0]


def test_no_more_are_read_than_may_be_in_flight() -> None:
    async def check() -> None:
        read: list[int] = []
        gate = asyncio.Event()

        async def waits(number: int) -> int:
            await gate.wait()
            return number

        answers = answer_each(numbers(10, read), waits, 3)
        first = asyncio.create_task(anext(answers))
        for _ in range(50):
            await asyncio.sleep(0)
        assert read == [0, 1, 2]
        gate.set()
        assert await first == 0
        assert [answer async for answer in answers] == list(range(1, 10))

    asyncio.run(check())


@pytest.mark.parametrize("end", ["closed", "canceled", "failed"])
def test_the_end_of_a_call_ends_its_work(end: str) -> None:
    async def check() -> None:
        ended: list[int] = []
        started = asyncio.Event()

        async def waits(number: int) -> int:
            if number == 0:
                return number
            if number == 3:
                started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(number)
            return number

        async def requests() -> AsyncIterator[int]:
            async for number in numbers(4):
                yield number
            await started.wait()
            if end == "failed":
                raise ValueError("the stream broke")
            await asyncio.Event().wait()

        async def read() -> None:
            async for _ in answers:
                pass

        before = asyncio.all_tasks()
        answers = answer_each(requests(), waits, 9)
        assert await anext(answers) == 0
        reading = asyncio.create_task(read())
        await started.wait()
        if end == "failed":
            with pytest.raises(ValueError, match="the stream broke"):
                await reading
        else:
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            if end == "closed":
                await answers.aclose()
        assert sorted(ended) == [1, 2, 3]
        assert asyncio.all_tasks() == before

    asyncio.run(check())


def test_bytes_in_flight_are_bounded_and_come_back() -> None:
    async def check() -> None:
        budget, held, most = Budget(10), 0, 0

        async def holds(size: int) -> None:
            nonlocal held, most
            async with budget.hold(size):
                held += min(size, 10)
                most = max(most, held)
                await asyncio.sleep(0)
                held -= min(size, 10)

        await asyncio.gather(*(holds(size) for size in (4, 7, 3, 99, 0, 10, 5, 5)))
        assert most == 10
        async with budget.hold(10):
            waiting = [asyncio.create_task(holds(size)) for size in (6, 6)]
            await asyncio.sleep(0)
            waiting[0].cancel()
        await waiting[1]
        await asyncio.wait_for(holds(10), 10)

    asyncio.run(check())


@pytest.mark.parametrize("request_id", ["", "one for all"])
def test_requests_of_one_id_are_answered_at_the_same_time(open_flow: ToyFlow, request_id: str) -> None:
    asked = jina_pb2.DataRequestProto()
    asked.header.exec_endpoint, asked.header.request_id = "/encode", request_id
    asked.data.docs.CopyFrom(DocumentArray([Document(text="dress")]).to_protobuf())

    async def run() -> list[jina_pb2.DataRequestProto]:
        async with grpc.aio.insecure_channel(open_flow.grpc.removeprefix("grpc://")) as channel:
            ask = channel.unary_unary(
                "/jina.JinaSingleDataRequestRPC/process_single_data",
                response_deserializer=jina_pb2.DataRequestProto.FromString,
            )
            return await asyncio.gather(*(ask(asked.SerializeToString(), timeout=60) for _ in range(50)))

    for answer in asyncio.run(run()):
        assert answer.header.request_id == request_id
        assert len(answer.data.docs.docs[0].embedding.dense.buffer) == 16
