"""`AceStep`: pieces by a server of ACE-Step 1.5, which takes tempo, key, metre, length and seed from the plan.

Its protocol: docs/en/API.md of github.com/ace-step/ACE-Step-1.5. A task that the server does not know, as after a
restart, has status 0 and no result.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from serve_app.errors import ModelError, ModelLoadingError, ProcessingError
from serve_app.models.music.caged_answer import sound_of_answer
from serve_app.models.music.encoding import MAX_BYTES
from serve_app.models.music.options import AceStepOptions
from serve_app.models.music.pieces import piece_of
from serve_app.models.music.scales import MODES
from serve_app.models.remote_http import Answer, RemoteServer, checked_key, shown_words
from serve_app.results import MusicPlan, RenderedMusic
from serve_app.sentences import Sentence

NAME = "ACE-Step"
_LICENSE = "Made by ACE-Step 1.5, whose licence is MIT."
_SHORTEST_S = 10.0  # of the server; mastering cuts the piece to its plan
_SEEDS = 1 << 31
_ANSWER_BYTES = 1 << 20
_SUCCEEDED, _FAILED = 1, 2
_TASK = re.compile(r"[\w.:-]{1,200}", re.ASCII)
_METRES = {"3/4": "3", "4/4": "4", "6/8": "6"}


class AceStep:
    """Asks a server for pieces. An instance is for one event loop."""

    def __init__(self, options: AceStepOptions, key: str | None, *, first_wait_s: float = 0.5) -> None:
        """Keep the address; nothing is sent yet.

        Args:
            key: of the server; None where it wants none.
            first_wait_s: as of `RemoteServer`.

        Raises:
            ModelLoadingError: the options name no server, or the key is none.
        """
        if not options.base_url:
            raise ModelLoadingError(
                Sentence("The engine acestep needs music.acestep.base_url, such as http://localhost:8001")
            )
        key = checked_key(key, "SERVE_APP_MUSIC_API_KEY")
        self._options = options
        self._server = RemoteServer(NAME, options.base_url, "music.acestep.base_url", first_wait_s=first_wait_s)
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    async def start(self, plan: MusicPlan) -> str:
        """Begin a task and return its id.

        Raises:
            ModelLoadingError: the server refuses the key, or is no ACE-Step.
            ProcessingError: it refuses the task, can't be reached, or does not answer in time.
        """
        released = await self._ask("/release_task", _task_of(plan, self._options))
        task = released.get("task_id") if isinstance(released, dict) else None
        if not isinstance(task, str) or not _TASK.fullmatch(task):
            raise ProcessingError(Sentence("{name} accepted the piece without a task id", name=NAME))
        return task

    async def render(self, plan: MusicPlan, task: str | None, on_progress: Callable[[float], None]) -> RenderedMusic:
        """Return the piece of a task, begun here where there is none; one that the server forgot is begun once more.

        Raises:
            ModelLoadingError: as of `start`.
            ProcessingError: the server failed, or did not end within `timeout_s`.
        """
        try:
            async with asyncio.timeout(self._options.timeout_s):
                result = await self._result(plan, task, on_progress)
                content = await self._file(result.get("file"))
        except TimeoutError:
            raise ProcessingError(
                Sentence(
                    "{name} did not end within {timeout_s:g} s; raise music.acestep.timeout_s, or look at the server",
                    name=NAME,
                    timeout_s=self._options.timeout_s,
                )
            ) from None
        audio, rate = await asyncio.to_thread(sound_of_answer, content)
        version = shown_words(str(result.get("dit_model") or "unknown"), self._headers, 60)
        return await asyncio.to_thread(
            piece_of, audio, rate, plan, engine="acestep", model_version=f"acestep:{version}", license=_LICENSE
        )

    async def _result(self, plan: MusicPlan, task: str | None, on_progress: Callable[[float], None]) -> dict[str, Any]:
        may_begin_again = task is not None
        task = task or await self.start(plan)
        while True:
            status, results = await self._query(task)
            if status == _FAILED:
                told = shown_words(str(results[0].get("error") or "") if results else "", self._headers)
                raise ProcessingError(
                    Sentence("{name} failed to make the piece{value}", name=NAME, value=f": {told}" if told else "")
                )
            if not results:
                if not may_begin_again:
                    raise ProcessingError(Sentence("{name} lost the task; was the server restarted twice?", name=NAME))
                may_begin_again = False
                task = await self.start(plan)
                continue
            if status == _SUCCEEDED:
                return results[0]
            share = results[0].get("progress")
            if isinstance(share, int | float) and 0.0 <= share <= 1.0:
                on_progress(float(share))
            await asyncio.sleep(self._options.poll_s)

    async def _query(self, task: str) -> tuple[int, list[dict[str, Any]]]:
        """Return a task's status and results; no results: the server does not know it."""
        found = await self._ask("/query_result", {"task_id_list": [task]})
        if not isinstance(found, list) or (found and not isinstance(found[0], dict)):
            raise ProcessingError(Sentence("{name}'s answer has another form than its API describes", name=NAME))
        if not found:
            return 0, []
        results = found[0].get("result") or "[]"
        try:
            results = json.loads(results) if isinstance(results, str) else results
        except (ValueError, RecursionError):
            results = [{"error": results}]
        results = results if isinstance(results, list) else [results]
        return found[0].get("status"), [each for each in results if isinstance(each, dict)]

    async def _file(self, place: Any) -> bytes:
        answer = await self._send("GET", _path_of(place), max_bytes=MAX_BYTES)
        return answer.body

    async def _ask(self, path: str, content: Any) -> Any:
        """Return the `data` of an answer in the API's form."""
        answer = await self._send("POST", path, content, max_bytes=_ANSWER_BYTES)
        try:
            wrapped = json.loads(answer.body)
        except (ValueError, RecursionError):
            wrapped = None
        if not isinstance(wrapped, dict) or "data" not in wrapped:
            raise ProcessingError(Sentence("{name}'s answer has another form than its API describes", name=NAME))
        if wrapped.get("code", 200) != 200 or wrapped.get("error"):
            told = shown_words(str(wrapped.get("error")), self._headers)
            raise ProcessingError(Sentence("{name} refuses the request: {told}", name=NAME, told=told))
        return wrapped["data"]

    async def _send(self, method: str, path: str, content: Any = None, *, max_bytes: int) -> Answer:
        answer = await self._server.ask(
            method,
            path,
            deadline_s=self._options.timeout_s,
            max_bytes=max_bytes,
            headers=self._headers,
            content=content,
        )
        if answer.status != 200:
            raise _failure_of(answer)
        return answer


def _task_of(plan: MusicPlan, options: AceStepOptions) -> dict[str, Any]:
    is_major = 4 in MODES[plan.mode]  # semitones above the tonic: the major third
    task = {
        "prompt": plan.prompt_en,
        "lyrics": "[Instrumental]",
        "audio_duration": max(_SHORTEST_S, plan.duration_s),
        "bpm": plan.tempo_bpm,
        "key_scale": f"{plan.key} {'Major' if is_major else 'Minor'}",
        "time_signature": _METRES[plan.metre],
        "inference_steps": options.inference_steps,
        "batch_size": 1,
        "use_random_seed": False,
        "seed": plan.seed % _SEEDS,
        "audio_format": "flac",
        "thinking": False,
    }
    return task if options.model is None else task | {"model": options.model}


def _path_of(place: Any) -> str:
    """Return the path of a result on the configured server; ProcessingError where it leads anywhere else."""
    refused = ProcessingError(
        Sentence("{name} names a file that is not on its own server; it was not fetched", name=NAME)
    )
    if not isinstance(place, str) or not place.isascii() or not place.isprintable() or "\\" in place:
        raise refused
    try:
        parts = urlsplit(place)
    except ValueError:
        raise refused from None
    if parts.scheme or parts.netloc or not place.startswith("/") or place.startswith("//") or parts.fragment:
        raise refused
    values = [parts.path, *(value for _, value in parse_qsl(parts.query))]
    if any(".." in unquote(unquote(value)) for value in values):
        raise refused
    return place


def _failure_of(answer: Answer) -> ModelError:
    told = f": {answer.told}" if answer.told else ""
    if answer.status in (401, 403):
        return ModelLoadingError(
            Sentence(
                "{name} refuses the key ({status}); correct SERVE_APP_MUSIC_API_KEY", name=NAME, status=answer.status
            )
        )
    if answer.status == 404 or 300 <= answer.status < 400:
        return ModelLoadingError(
            Sentence(
                "{name} answers {status}{told}; correct music.acestep.base_url",
                name=NAME,
                status=answer.status,
                told=told,
            )
        )
    return ProcessingError(Sentence("{name} answers {status}{told}", name=NAME, status=answer.status, told=told))
