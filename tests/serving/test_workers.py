"""The queue of jobs, with a model that tells what it was run on."""

import gc
import threading
import weakref
from concurrent.futures import CancelledError

import numpy as np
import pytest
import tensorflow as tf

from serving.validation import InputRule, Inputs
from serving.workers import Job, Workers


class Model:
    """Its score of a candidate is its price; it starts once it is let go."""

    rules = {
        signature: {"price": InputRule(tf.float32, (None, None), ("B", axis), (None, None))}
        for signature, axis in (("rank", "N"), ("shop", "N"), ("tower", "L"))
    }

    def __init__(self):
        self.begun = threading.Event()
        self.go = threading.Event()
        self.runs = []

    def run(self, signature, arrays):
        self.begun.set()
        assert self.go.wait(20)
        self.runs.append((signature, arrays["price"].tolist()))
        if (arrays["price"] < 0).any():
            raise ValueError("a negative price")
        return {"score": arrays["price"]}


@pytest.fixture
def model():
    return Model()


def job(model, *prices, signature="rank"):
    candidates = None if signature == "tower" else len(prices)
    return Job(model, signature, Inputs({"price": np.array([prices], "f")}, 1, candidates))


def started(model, batch_candidates, **given):
    """One thread, which is busy with a job of price 9 until the model is let go."""
    workers = Workers(1, batch_candidates, **given)
    workers.start()
    workers.submit(job(model, 9))
    assert model.begun.wait(20)
    return workers


def scores(jobs):
    return [each.answer.result(20)["score"].tolist() for each in jobs]


def test_first_come_first_served(model):
    workers = started(model, batch_candidates=0)
    jobs = [job(model, price) for price in (1, 2, 3)]
    for each in jobs:
        workers.submit(each)
    assert (workers.computing, workers.waiting) == (1, 3)
    model.go.set()
    assert scores(jobs) == [[[1]], [[2]], [[3]]]
    assert [prices for _, prices in model.runs] == [[[9]], [[1]], [[2]], [[3]]]
    workers.stop()


def test_a_job_that_is_given_up_is_forgotten(model):
    workers = started(model, batch_candidates=0)
    gone, kept = job(model, 1), job(model, 2)
    workers.submit(gone)
    workers.submit(kept)
    inputs = weakref.ref(gone.inputs)
    workers.give_up(gone)
    assert workers.waiting == 1 and gone.answer.cancelled()
    del gone
    gc.collect()
    assert inputs() is None
    model.go.set()
    assert scores([kept]) == [[[2]]]
    workers.give_up(kept)  # It has its answer.
    assert scores([kept]) == [[[2]]]
    workers.stop()


def test_what_waits_is_run_as_one(model):
    workers = started(model, batch_candidates=6)
    jobs = [
        job(model, 1),
        job(model, 2, 3),
        job(model, 5, signature="shop"),
        # Two of two and this one would be 3 * 4 with padding.
        job(model, 1, 2, 3, 4),
        job(model, 6),
        job(model, 7, signature="tower"),
        job(model, 8, signature="tower"),
    ]
    for each in jobs:
        workers.submit(each)
    model.go.set()
    assert scores(jobs) == [[[1]], [[2, 3]], [[5]], [[1, 2, 3, 4]], [[6]], [[7]], [[8]]]
    assert model.runs == [
        ("rank", [[9]]),
        ("rank", [[1, 0], [2, 3], [6, 0]]),
        ("shop", [[5]]),
        ("rank", [[1, 2, 3, 4]]),
        ("tower", [[7]]),
        ("tower", [[8]]),
    ]
    workers.stop()


def test_a_batch_takes_no_more_memory_than_a_request_may(model):
    # Four bytes a price: three requests of two are 24, of three 36.
    workers = started(model, batch_candidates=100, batch_bytes=24)
    jobs = [job(model, 1, 2), job(model, 3), job(model, 4, 5, 6), job(model, 7)]
    for each in jobs:
        workers.submit(each)
    model.go.set()
    assert scores(jobs) == [[[1, 2]], [[3]], [[4, 5, 6]], [[7]]]
    assert model.runs[1:] == [("rank", [[1, 2], [3, 0], [7, 0]]), ("rank", [[4, 5, 6]])]
    workers.stop()


def test_another_models_jobs_are_not_joined(model):
    workers = started(model, batch_candidates=6)
    other = Model()
    other.go.set()
    jobs = [job(model, 1), job(other, 2), job(model, 3)]
    for each in jobs:
        workers.submit(each)
    model.go.set()
    assert scores(jobs) == [[[1]], [[2]], [[3]]]
    assert other.runs == [("rank", [[2]])]
    workers.stop()


def test_one_that_fails_fails_alone(model):
    workers = started(model, batch_candidates=6)
    jobs = [job(model, 1), job(model, -1), job(model, 3)]
    for each in jobs:
        workers.submit(each)
    model.go.set()
    assert scores([jobs[0], jobs[2]]) == [[[1]], [[3]]]
    with pytest.raises(ValueError, match="a negative price"):
        jobs[1].answer.result(20)
    workers.stop()


def test_a_thread_that_waits_keeps_nothing(model):
    workers = started(model, batch_candidates=0)
    model.go.set()
    done = job(model, 1)
    kept = weakref.ref(done)
    workers.submit(done)
    scores([done])
    del done
    for _ in range(200):
        gc.collect()
        if kept() is None:
            break
        threading.Event().wait(0.05)
    assert kept() is None
    workers.stop()


def test_stopping_cancels_what_waits(model):
    workers = started(model, batch_candidates=0)
    waiting = job(model, 1)
    workers.submit(waiting)
    stopping = threading.Thread(target=workers.stop)
    stopping.start()
    with pytest.raises(CancelledError):
        waiting.answer.result(20)
    assert stopping.is_alive()  # It waits for the job that is run.
    model.go.set()
    stopping.join(20)
    assert not stopping.is_alive() and model.runs == [("rank", [[9]])]
