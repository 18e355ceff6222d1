"""`AudioAnalyzer`: deployment of decoding, voice activity and acoustic features (CPU only, no torch)."""

from __future__ import annotations

from typing import Any

from ray import serve

from serve_app.deployments.replica.worker_threads import WorkerThreads
from serve_app.errors import ServeAppError, StorageError, storage_fault
from serve_app.models.speech.options import AnalyzerOptions
from serve_app.results import SpeechActivity
from serve_app.sentences import Sentence


@serve.deployment(name="AudioAnalyzer")
class AudioAnalyzer:
    """Decodes a file into the one copy of its audio that every stage reads, and measures it; refuses longer files."""

    def __init__(self, options: AnalyzerOptions, max_duration_s: float) -> None:
        from serve_app.media import acoustics, caged_audio
        from serve_app.models.speech import voice_activity

        self._acoustics = acoustics
        self._caged_audio = caged_audio
        self._voice_activity = voice_activity
        self._max_duration_s = max_duration_s
        self._threads = WorkerThreads(options.num_threads, "audio-analyzer")

    async def length_s(self, source: str) -> float | None:
        """Return the seconds of sound that an artefact's header tells; None where it tells none, or can't be read."""
        length_of = self._caged_audio.length_caged
        try:
            return await self._threads.run(lambda should_stop: length_of(source, should_stop))
        except (OSError, ServeAppError):  # decoding tells what is wrong
            return None

    async def decode(self, source: str | bytes, *, audio_track: int | None = None) -> Any:
        """Return `media.samples.DecodedAudio` of an artefact or a file's bytes; call by reference, as it is large."""
        decode, max_duration_s = self._caged_audio.decode_caged, self._max_duration_s
        try:
            return await self._threads.run(
                lambda should_stop: decode(
                    source, max_duration_s=max_duration_s, audio_track=audio_track, should_stop=should_stop
                )
            )
        except OSError as error:
            raise storage_fault(error) or StorageError(
                Sentence("the stored file can't be read ({kind})", kind=type(error).__name__)
            ) from error

    async def detect_speech(self, audio: Any) -> SpeechActivity:
        """Return the decoded audio's duration, where somebody speaks, and what decoding noted."""
        regions = await self._threads.run(lambda should_stop: self._voice_activity.detect_speech(audio.samples))
        return SpeechActivity(audio.duration_s, tuple(regions), tuple(audio.notes))

    async def measure(self, audio: Any) -> Any:
        """Return `media.acoustics.FrameFeatures` of the whole file."""
        return await self._threads.run(lambda should_stop: self._acoustics.measure_frames(audio.samples))
