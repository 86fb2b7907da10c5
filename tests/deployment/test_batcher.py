"""Promises of deployment/batcher.py."""

import asyncio
import threading

import pytest

from practicum.deployment.batcher import Batcher, Full


class Worker:
    """Records batches; computes only while open."""

    def __init__(self):
        self.batches, self.open, self.entered = [], threading.Event(), threading.Event()
        self.open.set()

    def __call__(self, items):
        self.batches.append(list(items))
        self.entered.set()
        assert self.open.wait(30)
        return [ValueError(item) if item == 'bad' else item * 2 for item in items]


def run(test, **options):
    """Runs test(batcher, worker) in a loop; returns the worker."""
    async def main():
        worker = Worker()
        batcher = Batcher(worker, **({'largest': 4, 'queue': 8, 'name': 'test'} | options))
        await test(batcher, worker)
        worker.open.set()
        await batcher.close()
        assert not batcher._thread.is_alive()
        return worker
    return asyncio.run(asyncio.wait_for(main(), 30))


async def held(batcher, worker, items):
    """Begins to compute 0 and has the items wait behind it; returns all tasks."""
    worker.open.clear()
    first = asyncio.create_task(batcher.submit(0))
    await asyncio.to_thread(worker.entered.wait, 30)
    tasks = [asyncio.create_task(batcher.submit(item)) for item in items]
    await asyncio.sleep(0.01)
    return [first, *tasks]


def test_one_item_does_not_wait_for_company():
    async def test(batcher, worker):
        assert await batcher.submit(3) == 6
    assert run(test).batches == [[3]]


def test_what_waits_is_the_next_batch_in_its_order():
    async def test(batcher, worker):
        tasks = await held(batcher, worker, [1, 2, 3, 4, 5])
        assert batcher.waiting == 5
        worker.open.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
    assert run(test).batches == [[0], [1, 2, 3, 4], [5]]


def test_a_full_queue_refuses_at_once():
    async def test(batcher, worker):
        tasks = await held(batcher, worker, [1, 2])
        with pytest.raises(Full):
            await batcher.submit(3)
        worker.open.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4]
    run(test, queue=2)


def test_a_cancelled_item_is_dropped_and_makes_room():
    async def test(batcher, worker):
        tasks = await held(batcher, worker, [1, 2])
        tasks[1].cancel()
        await asyncio.gather(tasks[1], return_exceptions=True)
        tasks.append(asyncio.create_task(batcher.submit(3)))
        await asyncio.sleep(0.01)
        tasks[0].cancel()  # the worker has it: its result goes nowhere
        await asyncio.sleep(0.01)
        worker.open.set()
        assert await asyncio.gather(*tasks[2:]) == [4, 6]
    assert run(test, queue=2).batches == [[0], [2, 3]]


def test_a_mistake_is_told_to_the_one_who_made_it():
    async def test(batcher, worker):
        tasks = await held(batcher, worker, [1, 'bad', 3])
        worker.open.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [found[0], found[1], found[3]] == [0, 2, 6] and isinstance(found[2], ValueError)
    run(test)


def test_a_bug_is_told_to_all_of_its_batch_and_the_worker_goes_on(caplog):
    async def test(batcher, worker):
        with pytest.raises(TypeError):
            await batcher.submit(None)
        assert await batcher.submit(2) == 4
    run(test)
    assert 'a batch of 1 failed' in caplog.text


def test_rows_are_counted_and_kinds_kept_apart():
    async def test(batcher, worker):
        tasks = await held(batcher, worker, [])
        for item, rows, kind in ((1, 3, 'a'), (2, 2, 'a'), (3, 2, 'a'), (4, 1, 'b'), (5, 9, 'b')):
            tasks.append(asyncio.create_task(batcher.submit(item, rows=rows, kind=kind)))
        await asyncio.sleep(0.01)
        worker.open.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
    assert run(test).batches == [[0], [1], [2, 3], [4], [5]]


def test_closing_answers_what_waits():
    async def test(batcher, worker):
        tasks = await held(batcher, worker, [1, 2])
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.01)
        worker.open.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4]
        await closing
    run(test)
