"""`Client`: a method for each route, but those under `/v1`, which OpenAI's client calls, and `GET /health/live`."""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self
from urllib.parse import quote

import httpx

from serve_app.client.failures import error_from_response
from serve_app.errors import InvalidRequest, Overloaded, ServeAppError, Unavailable
from serve_app.sentences import Sentence

_KEY_VARIABLE, _KEY_HEADER = "SERVE_APP_API_KEY", "X-API-Key"
_STREAM_SILENCE_S = 60.0  # four heartbeats: a connection that is silent for longer is dead
_UPLOAD_STALL_S = 300.0  # a busy service may leave an upload half read while it works on others
_MAX_RECONNECT_WAIT_S = 30.0
File = Path | str | BinaryIO  # a path, or a file open in binary mode
MusicFormat = Literal["mp3", "flac", "mid", "picture", "caption", "plan"]
_FINAL = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """One event of a job.

    Attributes:
        seq: its number within the job; `after_seq` takes it, to go on after this event.
        name: `progress`, `completed`, `failed` or `cancelled`.
        payload: the body of the job's callback.
    """

    seq: int
    name: str
    payload: dict[str, Any]


class Client:
    """Connections to one service. Thread-safe; close it, or use it as a context manager.

    Args:
        base_url: e.g. http://127.0.0.1:8000.
        timeout_s: limit of each wait for the network; `analyze` has its own.
        headers: sent with every request, e.g. the Authorization that a gateway checks.
        api_key: of the service; default: of SERVE_APP_API_KEY in the environment. It is sent to the service alone, also
            where an answer leads elsewhere.
        max_reconnects: how often in a row `events` and `wait` may fail before the failure is raised.
        transport: replaces the network, in tests.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        timeout_s: float = 30.0,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        max_reconnects: int = 5,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=base_url.rstrip("/"),
            timeout=timeout_s,
            headers=dict(headers or {}),
            transport=transport,
            event_hooks={"request": [self._identify]},
        )
        self._api_key = os.environ.get(_KEY_VARIABLE, "").strip() if api_key is None else api_key
        self._timeout_s = timeout_s
        self._max_reconnects = max_reconnects

    @property
    def base_url(self) -> str:
        """Address of the service, without a trailing slash."""
        return str(self._http.base_url).rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _identify(self, request: httpx.Request) -> None:
        """Add the key to a request to the service; take it from one that follows a redirect to another server."""
        request.headers.pop(_KEY_HEADER, None)
        if self._api_key and _origin(request.url) == _origin(self._http.base_url):
            request.headers[_KEY_HEADER] = self._api_key

    def submit(self, video_url: str, *, job_id: str | None = None, **options: Any) -> dict[str, Any]:
        """Submit a video.

        Args:
            video_url: the file to analyse.
            job_id: default: a new UUID; choose your own to be able to repeat a submission safely.
            **options: the route's other fields (`fastapi_base_url`, `language`, `enable_gpu`, `max_workers`, …).

        Raises:
            InvalidRequest: a field is wrong, or the callback base may not be reached (CallbackRefused).
            JobConflict: the id is taken by another request.
            Overloaded: the queue is full.
        """
        body = {"job_id": job_id or str(uuid.uuid4()), "video_url": video_url, **options}
        return self._json("POST", "/api/upload-video/process-video", json=body)

    def get(self, job_id: str) -> dict[str, Any]:
        """Return a job; JobNotFound."""
        return self._json("GET", f"/jobs/{_quoted(job_id)}")

    def page(self, *, status: str | None = None, limit: int = 50, cursor: str | None = None) -> dict[str, Any]:
        """Return some jobs, newest first, and `next_cursor`."""
        return self._json("GET", "/jobs", params=_given(status=status, limit=limit, cursor=cursor))

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Ask for a job's end and return the job; JobNotFound, JobConflict once it has ended otherwise."""
        return self._json("POST", f"/jobs/{_quoted(job_id)}/cancel")

    def delete(self, job_id: str) -> None:
        """Remove an ended job; JobNotFound, JobConflict while it is active."""
        self._send("DELETE", f"/jobs/{_quoted(job_id)}")

    def transcript(self, job_id: str, form: Literal["srt", "vtt", "txt", "json"] = "srt") -> str:
        """Return a completed job's transcript as a file's text; JobNotFound, JobConflict before it has completed."""
        return self._send("GET", f"/jobs/{_quoted(job_id)}/transcript.{form}").text

    def result(self, job_id: str) -> dict[str, Any]:
        """Return a completed job's result alone; JobNotFound, JobConflict before it has completed."""
        return self._json("GET", f"/jobs/{_quoted(job_id)}/result")

    def deliveries(self, job_id: str) -> list[dict[str, Any]]:
        """Return what was sent, or is to be sent, to the job's callback, without the result; JobNotFound."""
        return self._json("GET", f"/jobs/{_quoted(job_id)}/deliveries")["deliveries"]

    def replay(self, job_id: str) -> int:
        """Queue all of a job's events for its callback again; return how many."""
        return self._json("POST", f"/jobs/{_quoted(job_id)}/deliveries/replay")["replayed"]

    def events(self, job_id: str, *, after_seq: int = 0) -> Iterator[ClientEvent]:
        """Yield a job's events as they come, until it has ended; reconnects after the last one seen.

        Raises:
            JobNotFound: no job has this id, or it was deleted meanwhile.
            Unavailable: the stream failed more than `max_reconnects` times in a row.
        """
        path, timeout = f"/jobs/{_quoted(job_id)}/events", httpx.Timeout(self._timeout_s, read=_STREAM_SILENCE_S)
        retry_s, failures = 3.0, 0  # until the service sends another
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after_seq)}
            at_least_s = 0.0
            try:
                with self._http.stream("GET", path, headers=headers, timeout=timeout) as answer:
                    if answer.status_code == httpx.codes.NO_CONTENT:
                        return
                    if not answer.is_success:
                        answer.read()
                        raise error_from_response(answer)
                    for block in _parse_blocks(answer.iter_bytes()):
                        if "retry" in block:
                            retry_s = int(block["retry"]) / 1000
                        if "data" in block:
                            failures, after_seq = 0, int(block["id"])
                            event = ClientEvent(after_seq, block["event"], json.loads(block["data"]))
                            yield event
                            if event.payload["status"] in _FINAL:
                                return
                problem: ServeAppError = Unavailable(
                    Sentence("the events of {job_id} ended before the job did", job_id=job_id)
                )
            except Overloaded as error:
                problem, at_least_s = error, error.retry_after_s
            except httpx.TransportError as error:
                problem = Unavailable(
                    Sentence("the events of {job_id} broke off: {error}", job_id=job_id, error=repr(error))
                )
            failures += 1
            if failures > self._max_reconnects:
                raise problem
            time.sleep(min(max(retry_s * 2 ** (failures - 1), at_least_s), _MAX_RECONNECT_WAIT_S))

    def wait(self, job_id: str, *, timeout_s: float | None = None, poll_s: float = 1.0) -> dict[str, Any]:
        """Return the job once it has ended, however it ended: look at its `status`.

        Raises:
            TimeoutError: it has not ended in time; it goes on all the same.
            Unavailable: the service could not be reached more than `max_reconnects` times in a row.
        """
        deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        failures = 0
        while True:
            wait_s = poll_s
            try:
                job = self.get(job_id)
            except Overloaded as error:  # also Unavailable: a service that restarts keeps its jobs
                failures += 1
                if failures > self._max_reconnects:
                    raise
                wait_s = max(poll_s * 2**failures, error.retry_after_s)
            else:
                failures = 0
                if job["status"] in _FINAL:
                    return job
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"job {job_id} has not ended in {timeout_s} s")
            time.sleep(min(wait_s, left_s))

    def analyze(
        self,
        *,
        audio_path: str | None = None,
        video_url: str | None = None,
        video_path: str | None = None,
        timeout_s: float | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Analyse one file and wait for the result; `audio_path` wins over `video_url` wins over `video_path`.

        `options` are the route's other fields (`language`, `enable_gpu`, `num_speakers`, …).

        Raises:
            MediaError: the file can't be fetched, or has no usable audio.
            ModelError: a stage failed, or the language is not served.
            Overloaded: too many analyses at once; submit a job instead.
        """
        sources = _given(audio_path=audio_path, video_url=video_url, video_path=video_path)
        return self._json("POST", "/transcribe", json=sources | options, timeout=self._answer_within(timeout_s))

    def transcribe(
        self,
        file: File,
        *,
        language: str = "auto",
        backend: str | None = None,
        diarize: bool = False,
        filename: str | None = None,
        timeout_s: float | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Upload a recording and return its words; the file is streamed, never held in memory.

        Args:
            file: a path, or a file open in binary mode, which is read from its start if it can be rewound.
            language: `auto`, or a two-letter code.
            backend: a speech backend; None: the first healthy one.
            diarize: analyse the recording in full, speakers included: the answer is that of `analyze`.
            filename: shown in the answer; default: the file's own.
            timeout_s: of the wait for the answer; None: no limit, as a first request may wait for a backend's start.
            **options: the form's other fields: `prompt`, `align`, `audio_track` (from 0), and with `diarize`
                `num_speakers`, `min_speakers`, `max_speakers`, `enable_gpu`, `emotion_detection`, `max_workers`; None
                is not sent.

        Raises:
            OSError: the file can't be read.
            InvalidRequest: no such backend or language; an option of `diarize` without it.
            MediaError: the file has no usable audio, or is too large.
            ModelError: the model failed, or the language is not served.
            Overloaded: a queue is full (Unavailable: the backend is not up); worth another try after `retry_after_s`.
        """
        fields = _given(language=language, backend=backend, diarize=diarize or None, **options)
        return self._upload("/transcribe", file, fields, filename, timeout_s)

    def transcribe_drums(
        self,
        file: File,
        *,
        bpm: float | None = None,
        grid: Mapping[str, int] | None = None,
        thresholds: Mapping[str, float] | None = None,
        plot: bool = False,
        audio_track: int | None = None,
        filename: str | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Upload a recording of drums and return its hits, tempo and MIDI file (base64); the file is streamed.

        Args:
            file, filename, timeout_s: as for `transcribe`, whose errors this raises too.
            bpm: the tempo; None: detected.
            grid: by drum (`kick`, `snare`, `hihat`): into how many parts a whole note is divided, e.g. 16.
            thresholds: by drum: the least activation that is a hit, between 0 and 1.
            plot: also return a picture of activations and hits (PNG, base64).
            audio_track: number of the audio track, from 0; None: the default one, or the first that is not silent.
        """
        fields = _given(bpm=bpm, plot=plot or None, audio_track=audio_track)
        fields |= {f"grid_{drum}": division for drum, division in (grid or {}).items()}
        fields |= {f"threshold_{drum}": value for drum, value in (thresholds or {}).items()}
        return self._upload("/transcribe-drums", file, fields, filename, timeout_s)

    def classify_reusable(
        self, file: File | None = None, *, image_url: str | None = None, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Return whether the container in a picture is reusable; give either a file or an address.

        Arguments and errors are those of `transcribe`. MediaError: it is no picture, too large, or can't be fetched.
        """
        return self._picture("/classify-reusable", file, image_url, timeout_s)

    def verify_beverage(
        self,
        file: File | None = None,
        *,
        image_url: str | None = None,
        confidence_threshold: float = 0.7,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Return whether the container in a picture holds a drink, as `classify_reusable`.

        A drink is valid (`is_valid`) with at least the confidence `confidence_threshold`.
        """
        path = f"/verify-beverage?confidence_threshold={confidence_threshold}"
        return self._picture(path, file, image_url, timeout_s)

    def embed_image(
        self,
        file: File | None = None,
        *,
        image_url: str | None = None,
        model: str = "container",
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Return a picture's features (`embedding`, of length 1) by the backbone of a classifier.

        `model` is "container" or "beverage"; the other arguments, and errors, are those of `classify_reusable`.
        """
        return self._picture("/embed-image", file, image_url, timeout_s, {"model": model})

    def generate_music(
        self,
        picture: File,
        *,
        prompt: str | None = None,
        duration: float | None = None,
        seed: int | None = None,
        locale: str | None = None,
        job_id: str | None = None,
        callback_base: str | None = None,
    ) -> dict[str, Any]:
        """Submit a picture; `events` and `wait` follow its job, as a video's.

        The service's cookie is kept: what a Client submits after its first piece, no other client can see.

        Args:
            picture: a path, a file open in binary mode, or an address (`https://…`).
            prompt: what to hear.
            duration: length in seconds, 5 to 120; None: 30.
            seed: of every random choice; None: made from the job's id.
            locale: `ko` or `en`, of the job's messages; None: the operator's.
            job_id: default: a new UUID; choose your own to be able to repeat a submission safely.
            callback_base: of the callbacks' receiver.

        Raises:
            OSError: the file can't be read.
            InvalidRequest: a field is wrong, or the callback base may not be reached (CallbackRefused).
            MediaError: the file is no picture, or too large.
            JobConflict: the id is taken by another request.
            Overloaded: the queue is full (QuotaExceeded: this client has too many pieces in work, or made too many).
        """
        fields = _given(
            job_id=job_id or str(uuid.uuid4()),
            prompt=prompt,
            duration=duration,
            seed=seed,
            locale=locale,
            fastapi_base_url=callback_base,
        )
        if isinstance(picture, str) and "://" in picture:
            return self._json("POST", "/generate-music", json={"image_url": picture} | fields)
        return self._upload("/generate-music", picture, fields, None, self._timeout_s)

    def music(self, job_id: str) -> dict[str, Any]:
        """Return a piece: its job's state, and once that has completed caption, plan, files and more; JobNotFound."""
        return self._json("GET", f"/music/{_quoted(job_id)}")

    def download_music(self, job_id: str, form: MusicFormat, path: Path | str) -> None:
        """Write a file of a finished piece; an earlier file at `path` is replaced once the new one is whole.

        Raises:
            OSError: the file can't be written.
            JobNotFound: no piece has this id.
            JobConflict: it is not ready.
            MusicFileMissing: its engine made no such file.
        """
        part = Path(path).with_name(f".{uuid.uuid4().hex}.part")
        url = f"/music/{_quoted(job_id)}/download"
        try:
            # the service may hand the download on to its store, by a signed address
            with (
                self._stream("GET", url, params={"format": form}, follow_redirects=True) as answer,
                part.open("wb") as file,
            ):
                for chunk in answer.iter_bytes():
                    file.write(chunk)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def another_version(self, job_id: str) -> dict[str, Any]:
        """Submit a piece's picture and options again, with another seed; JobNotFound, errors as `generate_music`."""
        return self._json("POST", f"/music/{_quoted(job_id)}/versions")

    def delete_music(self, job_id: str) -> None:
        """Remove a piece with its files; one in work is cancelled. JobNotFound."""
        self._send("DELETE", f"/music/{_quoted(job_id)}")

    def models(self) -> list[dict[str, Any]]:
        """Return the models of the graph, and what each of their replicas serves."""
        return self._json("GET", "/models")["models"]

    def reload_model(self, name: str, *, timeout_s: float = 660.0) -> dict[str, Any]:
        """Have every replica of a model read its weights anew; `reloaded` is false where one could not.

        Raises:
            ServeAppError: no model has this name.
            Unavailable: not every replica answered in time.
        """
        return self._json("POST", f"/models/{_quoted(name)}/reload", timeout=self._answer_within(timeout_s))

    def health(self) -> dict[str, Any]:
        """Return the service's health."""
        return self._json("GET", "/health")

    def ready(self) -> dict[str, Any]:
        """Return every deployment's state; Unavailable, which names those that are not up."""
        return self._json("GET", "/health/ready")

    def _picture(
        self,
        path: str,
        file: File | None,
        image_url: str | None,
        timeout_s: float | None,
        fields: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        if (file is None) == (image_url is None):
            raise InvalidRequest(Sentence("give either a file or image_url"))
        if file is not None:
            return self._upload(path, file, fields or {}, None, timeout_s)
        body = {"image_url": image_url, **(fields or {})}
        return self._json("POST", path, json=body, timeout=self._answer_within(timeout_s))

    def _upload(
        self, path: str, file: File, fields: Mapping[str, Any], filename: str | None, timeout_s: float | None
    ) -> dict[str, Any]:
        if isinstance(file, Path | str):
            with open(file, "rb") as opened:
                return self._upload(path, opened, fields, filename or Path(file).name, timeout_s)
        name = filename or Path(str(getattr(file, "name", "file"))).name
        return self._json(
            "POST",
            path,
            data={
                name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in fields.items()
            },
            files={"file": (_sendable(name), file)},
            headers={"Accept": "application/json"},
            timeout=self._answer_within(timeout_s, write_s=_UPLOAD_STALL_S),
        )

    def _answer_within(self, seconds: float | None, *, write_s: float | None = None) -> httpx.Timeout:
        return httpx.Timeout(self._timeout_s, read=seconds, write=write_s or self._timeout_s)

    def _json(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        answer = self._send(method, path, **arguments)
        try:
            return answer.json()
        except ValueError:
            raise ServeAppError(
                Sentence(
                    "{url} answered {status} without JSON: not this service?",
                    url=answer.url,
                    status=answer.status_code,
                )
            ) from None

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        with self._stream(method, path, **arguments) as answer:
            answer.read()
            return answer

    @contextmanager
    def _stream(self, method: str, path: str, **arguments: Any) -> Iterator[httpx.Response]:
        try:
            with self._http.stream(method, path, **arguments) as answer:
                if not answer.is_success:
                    answer.read()
                    raise error_from_response(answer)
                yield answer
        except httpx.TransportError as error:
            raise Unavailable(
                Sentence("{url} can't be reached: {error}", url=self._http.base_url, error=repr(error))
            ) from error


def _parse_blocks(chunks: Iterator[bytes]) -> Iterator[dict[str, str]]:
    """Parse a stream of server-sent events into blocks of fields.

    Lines end at LF or CRLF only: `str.splitlines` knows more line ends, which are legal inside the data.
    """
    block: dict[str, str] = {}
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.removesuffix(b"\r").decode().partition(":")
            value = value.removeprefix(" ")
            if not name and not value:
                if block:
                    yield block
                block = {}
            elif name:  # a nameless line is a comment: a heartbeat
                block[name] = f"{block[name]}\n{value}" if name == "data" and name in block else value


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _quoted(job_id: str) -> str:
    """Keep an id one part of the path; the service checks the rest."""
    return quote(job_id, safe="")


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _sendable(filename: str) -> str:
    """Return a name that a multipart header can hold; Linux's may be of any bytes."""
    name = filename.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "\ufffd" for char in name)
