"""`SpeechToText`: chooses the speech backend for a file, and distributes the file's pieces to its replicas.

choose a backend ─ cut at silences ─ pieces, few at a time ─┬─ transcribe (─ align) ─┬─ join
                                                            └─ …                     ┘
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from serve_app.deployments.protocols import Aligns, DetectsLanguages, TranscribesSpeech
from serve_app.errors import (
    InvalidRequest,
    LanguageUnsupported,
    ModelError,
    ModelLoadingError,
    ServeAppError,
    TaskUnsupported,
    Unavailable,
)
from serve_app.flows.handles import Calls, Health, Placed, SharedResult, with_fallback
from serve_app.flows.health import USABLE
from serve_app.flows.steps import Steps
from serve_app.models.speech.backends import MAX_PIECE_S, BackendName
from serve_app.models.speech.joining import without_repetition
from serve_app.models.speech.pieces import MAX_PAUSE_S, recognizer_pieces, speech_inside
from serve_app.models.speech.whisper.backend import language_windows, likely_language
from serve_app.results import AUTO, SpeechActivity, SpeechRegion, SpeechTask, Transcript
from serve_app.sentences import Sentence, Text, joined

if TYPE_CHECKING:
    from serve_app.media.samples import DecodedAudio

    Audio = SharedResult[DecodedAudio]

_RETRY_AFTER_S = 10.0
# A replica that is younger than the call's wait was started for the call; a shorter wait is not reported.
_NOTABLE_START_S = 0.5
# whisper-micro transcribes one utterance better than several (docs/models/whisper-micro.md)
_STAND_IN_PAUSE_S = 0.3

GAVE_WAY = Sentence(
    "pocketsphinx transcribed the speech as English: of Whisper models, only whisper-micro could be loaded"
)


@dataclass(frozen=True, slots=True)
class SpeechModels:
    """The speech backends of the graph.

    Attributes:
        backends: each backend's deployments in order of preference; the next one is called when GPU memory ran out.
        models: the model that each backend loads first.
        aligner: forced alignment, None where it is not deployed.
        aligned_languages: the languages of the aligner's models.
        max_pause_s: a silence this long ends a piece for a Whisper backend.
        languages: of each backend, where they are known before its model is loaded.
    """

    backends: Mapping[BackendName, Sequence[Placed[TranscribesSpeech]]]
    models: Mapping[BackendName, str]
    aligner: Placed[Aligns] | None = None
    aligned_languages: tuple[str, ...] = ()
    max_pause_s: float = MAX_PAUSE_S
    languages: Mapping[BackendName, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChosenBackend:
    """The backend that transcribes a file.

    Attributes:
        name: of the backend.
        start_s: how long its replica took to start, where it was started for this file; else 0.
        notes: the backends and models that were passed over, and why.
        can_detect_languages: whether it detects the spoken language.
        is_stand_in: whether its model is whisper-micro.
        gives_way: whether pocketsphinx transcribes English instead: for a stand-in, where the request names no backend.
    """

    name: BackendName
    start_s: float = 0.0
    notes: tuple[Text, ...] = ()
    can_detect_languages: bool = False
    is_stand_in: bool = False
    gives_way: bool = False


@dataclass(frozen=True, slots=True)
class DetectedLanguage:
    """The language of a file: its two-letter code, and its mean probability over some windows."""

    language: str
    probability: float


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """Options of a transcription.

    Attributes:
        language: two-letter code, or "auto".
        enable_gpu: whether GPU replicas may be used.
        max_workers: pieces at once.
        prompt: text with the spelling of the file.
        align: align words, where the aligner is deployed; a translation is never aligned.
        task: transcribe, or translate into English.
    """

    language: str = "auto"
    enable_gpu: bool = True
    max_workers: int = 4
    prompt: str | None = None
    align: bool = True
    task: SpeechTask = SpeechTask.TRANSCRIBE


class SpeechToText:
    """Transcribes decoded files over the speech deployments; `health` returns every deployment's state by name."""

    def __init__(self, models: SpeechModels, call: Calls, health: Health) -> None:
        self._models = models
        self._call = call
        self._health = health

    async def healthy(self) -> dict[BackendName, bool]:
        """Return every deployed backend, in the order of `BackendName`, and whether it takes requests."""
        states = await self._health()
        return {
            name: any(states.get(placed.name) in USABLE for placed in self._models.backends[name])
            for name in BackendName
            if name in self._models.backends
        }

    async def choose(
        self, options: SpeechOptions, *, backend: str | None = None, order: Sequence[BackendName] | None = None
    ) -> ChosenBackend:
        """Return the named backend, or the first of `order` that is healthy, loads, and serves the task and language.

        A backend that is scaled to zero is started, unless it is known not to transcribe the language. For "auto",
        pocketsphinx comes last, as it can't detect a language.

        Args:
            options: the language, the task, and whether GPUs may be used.
            backend: a name; it is never replaced by another.
            order: of preference; None: that of `BackendName`, and whisper-micro transcribes English, too.

        Raises:
            InvalidRequest: the named backend is not deployed, or runs on a GPU only and `enable_gpu` is false.
            Unavailable: it is not healthy, or none is.
            LanguageUnsupported: it does not transcribe the language, or none does.
            TaskUnsupported: it can't translate, or none can.
            ModelLoadingError: it could load no model, or none could, or its libraries are not installed.
        """
        health = await self.healthy()
        if backend is not None:
            return await self._named(backend, health, options)
        failures: list[ServeAppError] = []
        candidates = [name for name in (order or tuple(BackendName)) if name in health]
        if options.language == AUTO:
            candidates.sort(key=lambda name: not name.is_whisper)  # stable; the others can't detect a language
        checkpoint_refuses = False
        for name in candidates:
            if missing := self._missing(name):
                failures.append(ModelLoadingError(missing))
                continue
            if not health[name]:
                failures.append(Unavailable(Sentence("{name} is not healthy", name=name), _RETRY_AFTER_S))
                continue
            if name.is_whisper and checkpoint_refuses:
                continue  # all Whisper backends serve one checkpoint
            try:
                chosen = await self._prepared(name, options)
            except (LanguageUnsupported, TaskUnsupported) as error:
                checkpoint_refuses |= name.is_whisper
                failures.append(error)
            except (InvalidRequest, ModelLoadingError, Unavailable) as error:
                failures.append(error)
            else:
                has_pocketsphinx = BackendName.POCKETSPHINX in candidates and health[BackendName.POCKETSPHINX]
                yields = chosen.is_stand_in and order is not None and has_pocketsphinx
                return replace(chosen, gives_way=yields, notes=(*_passed_over(failures), *chosen.notes))
        raise _worst(failures)

    async def _named(self, backend: str, health: Mapping[BackendName, bool], options: SpeechOptions) -> ChosenBackend:
        usable = ", ".join(name for name in health if health[name]) or Sentence("none at present")
        if backend not in health:
            raise InvalidRequest(
                Sentence(
                    "backend {backend!r} is not deployed; healthy ones: {usable}", backend=backend[:40], usable=usable
                )
            )
        name = BackendName(backend)
        if missing := self._missing(name):
            raise ModelLoadingError(missing)
        if not health[name]:
            unhealthy = Sentence("backend {name} is not healthy; healthy ones: {usable}", name=name, usable=usable)
            raise Unavailable(unhealthy, _RETRY_AFTER_S)
        return await self._prepared(name, options)

    def _missing(self, name: BackendName) -> str | None:
        """Return what to install where no deployment of a backend is in the graph."""
        reasons = [placed.missing for placed in self._models.backends[name]]
        return None if None in reasons else reasons[0]

    async def _prepared(self, name: BackendName, options: SpeechOptions) -> ChosenBackend:
        known = self._models.languages.get(name)
        if known is not None and options.language not in (AUTO, *known):
            raise LanguageUnsupported(
                Sentence(
                    "{name} serves {model}, which transcribes {known}, not {language!r}; a multilingual Whisper "
                    "transcribes 99 languages: name one in args.whisper.models, e.g. whisper-base",
                    name=name,
                    model=self._models.models[name],
                    known=", ".join(sorted(known)),
                    language=options.language,
                )
            )
        called_at = time.monotonic()
        first = self._allowed(name, options)[0]
        info = await self._call(first, TranscribesSpeech.prepare, options.language, options.task)
        waited_s = time.monotonic() - called_at
        started = waited_s > _NOTABLE_START_S and info.uptime_s <= waited_s
        return ChosenBackend(
            name, waited_s if started else 0.0, info.notes, info.can_detect_languages, info.is_stand_in
        )

    def _allowed(self, name: BackendName, options: SpeechOptions) -> list[Placed[TranscribesSpeech]]:
        found = [placed for placed in self._models.backends[name] if placed.is_allowed(options.enable_gpu)]
        if not found:
            raise InvalidRequest(
                Sentence(
                    "enable_gpu is false, but {name} has no CPU replicas: set cpu_fallback in its arguments", name=name
                )
            )
        return found

    async def pieces(
        self,
        audio: Audio,
        activity: SpeechActivity,
        chosen: ChosenBackend,
        options: SpeechOptions,
        steps: Steps,
        on_share: Callable[[float], Awaitable[None]] | None = None,
    ) -> AsyncIterator[Transcript]:
        """Yield the transcripts of a file's pieces in order of time; each is a step of its own.

        `on_share` is told after each piece which share of their time is done.

        Pieces lie between silences and have at most 30 s; the cuts depend on the file and `max_pause_s` alone. With
        "auto", the file's language is detected first, in three of its pieces.
        """
        cuts = self._cut(activity, chosen)
        likely: str | None = None
        if options.language == AUTO and chosen.can_detect_languages and (len(cuts) > 1 or chosen.gives_way) and cuts:
            detected = await steps.run(
                "detect_language", DetectedLanguage, lambda: self._detect_language(audio, cuts, chosen, options)
            )
            likely = detected.language
        gave_way = chosen.gives_way and "en" in (options.language, likely)
        if gave_way:
            # the language stays "auto": whisper-micro, of synthetic speech alone, detects real Korean as English
            chosen = replace(chosen, name=BackendName.POCKETSPHINX)
            cuts = self._cut(activity, chosen)
        free = asyncio.Semaphore(options.max_workers)
        done_s, all_s = 0.0, sum(cut.end_s - cut.start_s for cut in cuts)

        async def transcribe(piece: SpeechRegion) -> Transcript:
            # by its bounds, not its number: a runner with another config cuts at other places
            name = f"transcribe/{round(piece.start_s * 1000):09d}-{round(piece.end_s * 1000):09d}"
            speech = speech_inside(activity.regions, piece)
            async with free:
                heard = await steps.run(
                    name, Transcript, lambda: self._transcribe(audio, piece, speech, likely, chosen, options)
                )
            if on_share is not None:
                nonlocal done_s
                done_s += piece.end_s - piece.start_s
                await on_share(min(1.0, done_s / all_s))
            return heard

        tasks = [asyncio.create_task(transcribe(piece)) for piece in cuts]
        try:
            before: Transcript | None = None
            for task in tasks:
                piece = without_repetition(before, await task)
                before = piece if piece.segments else before
                yield replace(piece, notes=(GAVE_WAY, *piece.notes)) if gave_way else piece
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _cut(self, activity: SpeechActivity, chosen: ChosenBackend) -> Sequence[SpeechRegion]:
        max_pause_s = self._models.max_pause_s
        if not chosen.name.is_whisper:
            max_pause_s = MAX_PAUSE_S
        elif chosen.is_stand_in:
            max_pause_s = min(max_pause_s, _STAND_IN_PAUSE_S)
        return recognizer_pieces(activity.regions, activity.duration_s, MAX_PIECE_S, max_pause_s=max_pause_s)

    async def _detect_language(
        self, audio: Audio, cuts: Sequence[SpeechRegion], chosen: ChosenBackend, options: SpeechOptions
    ) -> DetectedLanguage:
        windows = language_windows(cuts)
        # the caller has checked `chosen.can_detect_languages`
        candidates = cast("list[Placed[DetectsLanguages]]", self._allowed(chosen.name, options))
        found = await with_fallback(
            candidates,
            lambda placed: self._call.with_shared(placed, DetectsLanguages.detect_languages, audio, windows),
            Sentence("language detection"),
        )
        return DetectedLanguage(*likely_language(found))

    async def _transcribe(
        self,
        audio: Audio,
        piece: SpeechRegion,
        speech: Sequence[SpeechRegion],
        likely: str | None,
        chosen: ChosenBackend,
        options: SpeechOptions,
    ) -> Transcript:
        notes: list[str] = []
        transcript = await with_fallback(
            self._allowed(chosen.name, options),
            lambda placed: self._call.with_shared(
                placed,
                TranscribesSpeech.transcribe,
                audio,
                piece,
                options.language,
                options.prompt,
                options.task,
                speech,
                likely,
            ),
            Sentence("transcription"),
            notes,
        )
        return await self._align(audio, piece, replace(transcript, notes=(*notes, *transcript.notes)), options)

    async def _align(
        self, audio: Audio, piece: SpeechRegion, transcript: Transcript, options: SpeechOptions
    ) -> Transcript:
        """Return the piece with aligned words; where they can't be aligned, unchanged, with a note."""
        aligner = self._models.aligner
        if aligner is None or not options.align or options.task is SpeechTask.TRANSLATE or not transcript.segments:
            return transcript
        if transcript.language not in self._models.aligned_languages:
            reason: str = Sentence("no alignment model for {language!r} is configured", language=transcript.language)
        elif not aligner.is_allowed(options.enable_gpu):
            reason = Sentence("enable_gpu is false, and alignment runs on GPUs only")
        elif aligner.missing is not None:
            reason = aligner.missing
        elif (await self._health()).get(aligner.name) not in USABLE:
            reason = Sentence("{name} is not healthy", name=aligner.name)
        else:
            try:
                return await self._call.with_shared(aligner, Aligns.align, audio, transcript, piece)
            except ModelError as error:
                reason = error.detail
        note = Sentence("words keep their recogniser's times: {reason}", reason=reason)
        return replace(transcript, notes=(*transcript.notes, note))


def _passed_over(failures: Sequence[ServeAppError]) -> list[str]:
    """Return a note for each backend that should have been used, but not for an unsupported language or task."""
    return [
        Sentence("a preferred speech backend was passed over: {reason}", reason=error.detail)
        for error in failures
        if not isinstance(error, LanguageUnsupported | TaskUnsupported)
    ]


def _worst(failures: Sequence[ServeAppError]) -> ServeAppError:
    """Return the failure that explains best why no backend can transcribe the file."""
    for kind in (ModelLoadingError, LanguageUnsupported, TaskUnsupported, InvalidRequest, Unavailable):
        found = [error for error in failures if isinstance(error, kind)]
        if found and kind is ModelLoadingError:
            return ModelLoadingError(joined("; ", [error.detail for error in found]))
        if found:
            return found[0]
    return Unavailable(Sentence("no speech backend is deployed"), _RETRY_AFTER_S)
