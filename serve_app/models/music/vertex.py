"""`Vertex`: pieces by Vertex AI: Google's Lyria, or a model of the operator's own behind an endpoint.

Requests and answers: cloud.google.com/vertex-ai/generative-ai/docs/model-reference/lyria-music-generation. Google's
reference and its notebook name the sound differently (`audioContent`, `bytesBase64Encoded`): both are read.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from typing import Any
from urllib.parse import quote

from serve_app.errors import ModelError, ModelLoadingError, MusicRefused, ProcessingError
from serve_app.models.music.caged_answer import sound_of_answer
from serve_app.models.music.encoding import MAX_BYTES
from serve_app.models.music.options import VertexOptions
from serve_app.models.music.pieces import piece_of
from serve_app.models.remote_http import Answer, RemoteServer, shown_words
from serve_app.results import MusicPlan, RenderedMusic
from serve_app.sentences import Sentence

NAME = "Vertex AI"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_SEEDS = 1 << 31
_NEGATIVE_PROMPT = "vocals, singing, speech, noise"
_ANSWER_BYTES = MAX_BYTES * 4 // 3 + (1 << 20)  # base64
_FILTERED = re.compile(
    r"\b(safety|blocked|filter(s|ed)?|recitation|prohibited|sensitive|responsible ai|usage guidelines|artist)\b",
    re.IGNORECASE,
)
_GOOGLE_LICENSE = (
    "Made by Google's {} on Vertex AI: Google Cloud's terms hold, and the sound carries a SynthID watermark."
)
_OWN_LICENSE = "Made by the operator's own model on Vertex AI, whose licence is not stated."


class Vertex:
    """Asks Vertex AI for pieces. An instance is for one event loop.

    Attributes:
        model_version: "vertex:<model>" or "vertex:endpoint-<id>".
    """

    def __init__(self, options: VertexOptions, *, first_wait_s: float = 0.5) -> None:
        """Keep the address; credentials are read at the first piece.

        Args:
            first_wait_s: as of `RemoteServer`.

        Raises:
            ModelLoadingError: an address of the options is none.
        """
        self._options = options
        host = "" if options.location == "global" else f"{options.location}-"
        base_url = options.endpoint_url or f"https://{host}aiplatform.googleapis.com"
        self._server = RemoteServer(NAME, base_url, "music.vertex.endpoint_url", first_wait_s=first_wait_s)
        self._credentials: Any = None
        self.model_version = (
            f"vertex:endpoint-{options.endpoint_id}" if options.endpoint_id else f"vertex:{options.model}"
        )

    async def render(self, plan: MusicPlan) -> RenderedMusic:
        """Return a piece; Lyria's have half a minute.

        Raises:
            MusicRefused: a filter blocked the words or the sound.
            ModelLoadingError: there are no credentials, they may not use the model, or there is no such model.
            ProcessingError: Vertex AI failed, or did not answer within `timeout_s`.
        """
        try:
            async with asyncio.timeout(self._options.timeout_s):
                answer = await self._predict(plan)
        except TimeoutError:
            raise ProcessingError(
                Sentence(
                    "{name} gave no piece within {timeout_s:g} s; raise music.vertex.timeout_s",
                    name=NAME,
                    timeout_s=self._options.timeout_s,
                )
            ) from None
        audio, rate = await asyncio.to_thread(lambda: sound_of_answer(self._sound_in(answer)))
        license = _OWN_LICENSE if self._options.endpoint_id else _GOOGLE_LICENSE.format(self._options.model)
        return await asyncio.to_thread(
            piece_of, audio, rate, plan, engine="vertex", model_version=self.model_version, license=license
        )

    async def _predict(self, plan: MusicPlan) -> Answer:
        """Return a good answer; a token that the server refuses is replaced once."""
        token = await asyncio.to_thread(self._token, False)
        answer = await self._post(plan, token)
        if answer.status == 401:
            token = await asyncio.to_thread(self._token, True)
            answer = await self._post(plan, token)
        if answer.status != 200:
            raise self._failure_of(answer)
        return answer

    async def _post(self, plan: MusicPlan, token: str) -> Answer:
        options = self._options
        parent = f"/v1/projects/{quote(options.project or '', safe='')}/locations/{quote(options.location, safe='')}"
        model = (
            f"endpoints/{quote(options.endpoint_id, safe='')}"
            if options.endpoint_id
            else f"publishers/google/models/{quote(options.model, safe='')}"
        )
        return await self._server.ask(
            "POST",
            f"{parent}/{model}:predict",
            deadline_s=options.timeout_s,
            max_bytes=_ANSWER_BYTES,
            headers={"authorization": f"Bearer {token}"},
            content={"instances": [_instance_of(plan, is_own=options.endpoint_id is not None)], "parameters": {}},
        )

    def _token(self, renew: bool) -> str:
        """Return an access token; blocks."""
        try:
            import google.auth
            from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError, TransportError
            from google.auth.transport.requests import Request
        except ImportError as error:
            raise ModelLoadingError(
                Sentence("The engine vertex needs google-auth: pip install 'serve_app[gcs]'")
            ) from error
        try:
            if self._credentials is None:
                self._credentials, _ = google.auth.default(scopes=[_SCOPE])
            if renew or not self._credentials.valid:
                self._credentials.refresh(Request())
        except DefaultCredentialsError as error:
            raise ModelLoadingError(
                Sentence(
                    "There are no Google credentials for the engine vertex: let GOOGLE_APPLICATION_CREDENTIALS name a "
                    "key file, or give the machine a service account"
                )
            ) from error
        except TransportError as error:
            raise ProcessingError(
                Sentence("Google's token server can't be reached; let this machine reach it")
            ) from error
        except (RefreshError, GoogleAuthError, ValueError) as error:
            raise ModelLoadingError(
                Sentence(
                    "Google refuses the credentials of the engine vertex ({reason}); make a new key",
                    reason=type(error).__name__,
                )
            ) from error
        return str(self._credentials.token)

    def _sound_in(self, answer: Answer) -> bytes:
        """Return the bytes of the first prediction."""
        try:
            wrapped = json.loads(answer.body)
            predictions: Any = wrapped.get("predictions") or []
            first = predictions[0] if predictions else {}
            encoded: Any = first.get("audioContent") or first.get("bytesBase64Encoded")
            reason = first.get("raiFilteredReason") or wrapped.get("raiFilteredReason")
        except (ValueError, RecursionError, AttributeError, LookupError, TypeError) as error:
            raise ProcessingError(
                Sentence("{name}'s answer has another form than its reference describes", name=NAME)
            ) from error
        if not encoded and (reason or not self._options.endpoint_id):
            told = f": {shown_words(str(reason), answer.sent)}" if reason else ""
            raise MusicRefused(
                Sentence(
                    "{name} returned no piece: its filter blocked it{told}; another picture or prompt helps",
                    name=NAME,
                    told=told,
                )
            )
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise ProcessingError(Sentence("{name}'s answer holds no sound in base64", name=NAME)) from error

    def _failure_of(self, answer: Answer) -> ModelError:
        told = f": {answer.told}" if answer.told else ""
        if answer.status == 400 and _FILTERED.search(answer.told):
            return MusicRefused(Sentence("{name}'s filter refused the piece{told}", name=NAME, told=told))
        if answer.status == 401:
            return ModelLoadingError(Sentence("{name} refuses the credentials (401); make a new key", name=NAME))
        if answer.status == 403:
            return ModelLoadingError(
                Sentence(
                    "{name} forbids this model (403){told}; give the service account the role Vertex AI User",
                    name=NAME,
                    told=told,
                )
            )
        if answer.status == 404:
            return ModelLoadingError(
                Sentence(
                    "{name} has no {partition} in {location} (404); correct music.vertex",
                    name=NAME,
                    partition=self.model_version.partition(":")[2],
                    location=self._options.location,
                )
            )
        return ProcessingError(Sentence("{name} answers {status}{told}", name=NAME, status=answer.status, told=told))


def _instance_of(plan: MusicPlan, *, is_own: bool) -> dict[str, Any]:
    """Return what the model gets; no `sample_count`, which excludes a seed."""
    instance = {"prompt": plan.prompt_en, "negative_prompt": _NEGATIVE_PROMPT, "seed": plan.seed % _SEEDS}
    if not is_own:
        return instance
    return instance | {
        "duration_s": plan.duration_s,
        "tempo_bpm": plan.tempo_bpm,
        "key": plan.key,
        "mode": plan.mode,
        "metre": plan.metre,
    }
