"""Deployment: the embedded English recogniser (pocketsphinx)."""

from __future__ import annotations

from typing import Any

from ray import serve

from serve_app.deployments.worker_threads import WorkerThreads
from serve_app.results import SpeechRegion, Transcript


@serve.deployment(name="SpeechRecognizer")
class SpeechRecognizer:
    """Transcribes pieces of decoded audio.

    Args:
        num_threads: pieces that are recognised at once; each thread holds its own decoder.
    """

    def __init__(self, num_threads: int = 1) -> None:
        from serve_app.models.speech.recognizer import PocketsphinxRecognizer

        self._recognizer = PocketsphinxRecognizer(num_threads=num_threads)
        self._threads = WorkerThreads(num_threads, "recognizer")

    async def check_language(self, language: str) -> None:
        """Raise LanguageUnsupported, naming the backends that would serve it, for all but `auto` and `en`."""
        self._recognizer.check_language(language)

    async def transcribe(self, audio: Any, piece: SpeechRegion, language: str) -> Transcript:
        """Return what is said in one piece of `media.decode.DecodedAudio`; times are from the start of the file."""
        return await self._threads.run(
            lambda should_stop: self._recognizer.transcribe(
                audio.cut(piece.start_s, piece.end_s),
                offset_s=piece.start_s,
                language=language,
                should_stop=should_stop,
            )
        )
