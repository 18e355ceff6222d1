from __future__ import annotations

import threading

import httpx
import pytest

from serve_app.commands.demo.receiver import CALLBACK_PATH, CallbackReceiver


def test_it_keeps_what_came_in_order_by_job() -> None:
    with CallbackReceiver() as receiver:
        for job_id, progress in (("a", 10), ("b", 10), ("a", 25)):
            httpx.post(receiver.base_url + CALLBACK_PATH, json={"job_id": job_id, "progress": progress})
        assert [callback.payload["progress"] for callback in receiver.received("a")] == [10, 25]


def test_an_answer_that_raises_is_a_lost_answer() -> None:
    def lose(received: object) -> int:
        raise ConnectionError

    with CallbackReceiver(lose) as receiver:
        with pytest.raises(httpx.HTTPError):
            httpx.post(receiver.base_url + CALLBACK_PATH, json={"job_id": "a"})
        assert len(receiver.received("a")) == 1


def test_waiting_says_what_came() -> None:
    with CallbackReceiver() as receiver:
        httpx.post(receiver.base_url + CALLBACK_PATH, json={"job_id": "a", "status": "processing", "progress": 10})
        with pytest.raises(TimeoutError, match=r"'processing', 10"):
            receiver.wait_until_final("a", 0.05)


def test_callbacks_come_one_by_one_up_to_the_last() -> None:
    with CallbackReceiver() as receiver:
        sent = [("processing", 10), ("processing", 25), ("completed", 100)]

        def send() -> None:
            for status, progress in sent:
                httpx.post(
                    receiver.base_url + CALLBACK_PATH, json={"job_id": "a", "status": status, "progress": progress}
                )

        sender = threading.Thread(target=send)
        sender.start()
        seen = [(each.payload["status"], each.payload["progress"]) for each in receiver.arriving("a", 20.0)]
        sender.join()
        assert seen == sent
        with pytest.raises(TimeoutError):
            next(receiver.arriving("b", 0.05))
