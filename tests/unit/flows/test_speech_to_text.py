"""Choosing a backend, spreading pieces, falling back: over deployments that are plain objects here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.deployments.protocols import AnalyzesAudio, RecognizerInfo
from serve_app.errors import (
    GpuMemoryError,
    InvalidRequest,
    LanguageUnsupported,
    ModelLoadingError,
    ProcessingError,
    ServeAppError,
    TaskUnsupported,
    Unavailable,
)
from serve_app.flows.handles import Calls
from serve_app.flows.speech_to_text import ChosenBackend, SpeechModels, SpeechOptions, SpeechToText
from serve_app.flows.steps import DurableSteps, PlainSteps, Steps
from serve_app.models.speech.backends import BackendName
from serve_app.results import Segment, SpeechActivity, SpeechRegion, SpeechTask, Transcript, Word
from tests.unit.flows.fakes import placed

FASTER, TRANSFORMERS, OPENAI, SPHINX = BackendName
AUDIO = "audio"


class Analyzer:
    """Decodes every file to the same audio."""

    async def decode(self, source: str) -> str:
        return AUDIO


class Recognizer:
    """A backend's deployment: says which piece it heard."""

    def __init__(
        self,
        version: str,
        *,
        languages: tuple[str, ...] = ("en", "ko"),
        translates: bool = True,
        failure: ServeAppError | None = None,
        detects: dict[str, float] | None = None,
        is_stand_in: bool = False,
    ) -> None:
        self.version = version
        self.languages = languages
        self.translates = translates
        self.failure = failure
        self.detects = detects
        self.is_stand_in = is_stand_in
        self.working = self.most_at_once = 0
        self.prepared: list[str] = []
        self.shown: list[list[SpeechRegion]] = []
        self.heard: list[tuple[float, str, str | None]] = []
        self.tasks: set[SpeechTask] = set()
        self.told: list[tuple[SpeechRegion, tuple[SpeechRegion, ...], str | None]] = []

    async def prepare(self, language: str, task: SpeechTask) -> RecognizerInfo:
        self.prepared.append(language)
        if isinstance(self.failure, ModelLoadingError | Unavailable):
            raise self.failure
        if language not in ("auto", *self.languages):
            raise LanguageUnsupported(f"{self.version} does not hear {language}")
        if task is SpeechTask.TRANSLATE and not self.translates:
            raise TaskUnsupported(f"{self.version} can't translate")
        return RecognizerInfo(self.version, (), 100.0, self.detects is not None, self.is_stand_in)

    async def detect_languages(self, audio: Any, pieces: Sequence[SpeechRegion]) -> list[dict[str, float]]:
        assert audio is AUDIO
        self.shown.append(list(pieces))
        if self.failure is not None:
            raise self.failure
        return [dict(self.detects or {}) for _ in pieces]

    async def transcribe(
        self,
        audio: Any,
        piece: SpeechRegion,
        language: str,
        prompt: str | None,
        task: SpeechTask,
        speech: Sequence[SpeechRegion],
        likely_language: str | None,
    ) -> Transcript:
        assert audio is AUDIO
        self.told.append((piece, tuple(speech), likely_language))
        self.tasks.add(task)
        self.working += 1
        self.most_at_once = max(self.most_at_once, self.working)
        for _ in range(10 - int(piece.start_s) % 7):  # later pieces end before earlier ones
            await asyncio.sleep(0)
        self.working -= 1
        if self.failure is not None:
            raise self.failure
        self.heard.append((piece.start_s, language, prompt))
        word = Word(f"at{piece.start_s:.0f}", piece.start_s, piece.end_s)
        return Transcript((Segment(piece.start_s, piece.end_s, word.word, (word,)),), "en", self.version)


class Aligning:
    """An aligner that moves every word to the start of its piece, or fails."""

    def __init__(self, failure: ServeAppError | None = None) -> None:
        self.failure = failure

    async def align(self, audio: Any, heard: Transcript, piece: SpeechRegion) -> Transcript:
        if self.failure is not None:
            raise self.failure
        return Transcript(heard.segments, heard.language, heard.model_version, (*heard.notes, "aligned"))


def speech(
    deployed: Mapping[BackendName, Recognizer | list[tuple[Recognizer, bool]]],
    *,
    states: Mapping[str, str] | None = None,
    aligner: Aligning | None = None,
    aligner_on_gpu: bool = False,
    aligned: tuple[str, ...] = (),
    languages: Mapping[BackendName, frozenset[str]] | None = None,
) -> SpeechToText:
    deployed_as = {
        name: [
            placed(f"{name}{number}", recognizer, on_gpu)
            for number, (recognizer, on_gpu) in enumerate(found if isinstance(found, list) else [(found, False)])
        ]
        for name, found in deployed.items()
    }
    known = {deployment.name: "HEALTHY" for found in deployed_as.values() for deployment in found}
    known |= {"Aligner": "HEALTHY", **(states or {})}
    models = SpeechModels(
        deployed_as,
        dict.fromkeys(deployed_as, "embedded:test"),
        placed("Aligner", aligner, aligner_on_gpu) if aligner else None,
        aligned,
        languages=languages or {},
    )

    async def health() -> Mapping[str, str]:
        return known

    return SpeechToText(models, Calls(0.0), health)


def audio() -> Any:
    return Calls(0.0).shared(placed("AudioAnalyzer", Analyzer()), AnalyzesAudio.decode, "file")


def choose(service: SpeechToText, language: str = "auto", **kwargs: Any) -> ChosenBackend:
    options = SpeechOptions(language, kwargs.pop("enable_gpu", True), task=kwargs.pop("task", SpeechTask.TRANSCRIBE))
    return asyncio.run(service.choose(options, **kwargs))


def test_the_contracts_order_decides_where_none_is_named() -> None:
    service = speech({SPHINX: Recognizer("p"), OPENAI: Recognizer("o"), FASTER: Recognizer("f")})
    assert choose(service) == ChosenBackend(FASTER)


def test_the_configured_order_decides_for_video_jobs_and_the_language_within_it() -> None:
    service = speech({FASTER: Recognizer("f"), SPHINX: Recognizer("p", languages=("en",))})
    assert choose(service, "en", order=(SPHINX, FASTER)).name == SPHINX
    # a recogniser that was not made for a language is no failure: nothing is said of it
    assert choose(service, "ko", order=(SPHINX, FASTER)) == ChosenBackend(FASTER)


def test_what_is_unhealthy_or_can_not_load_is_passed_over_and_told() -> None:
    service = speech(
        {
            FASTER: Recognizer("f"),
            TRANSFORMERS: Recognizer("t", failure=ModelLoadingError("t has no weights")),
            OPENAI: Recognizer("o"),
        },
        states={"faster-whisper0": "UNHEALTHY"},
    )
    chosen = choose(service)
    assert chosen.name == OPENAI
    assert [note.partition(": ")[2] for note in chosen.notes] == ["faster-whisper is not healthy", "t has no weights"]


@pytest.mark.parametrize("state", ["HEALTHY", "UPDATING"])
def test_a_named_backend_is_taken_and_no_other(state: str) -> None:
    service = speech({FASTER: Recognizer("f"), OPENAI: Recognizer("o")}, states={"openai-whisper0": state})
    assert choose(service, backend="openai-whisper").name == OPENAI


def test_a_backend_that_is_not_deployed_is_refused_with_the_names_of_those_that_are() -> None:
    service = speech({FASTER: Recognizer("f"), SPHINX: Recognizer("p")}, states={"faster-whisper0": "UNHEALTHY"})
    with pytest.raises(InvalidRequest, match=r"'transformers' is not deployed; healthy ones: pocketsphinx"):
        choose(service, backend="transformers")
    with pytest.raises(Unavailable, match=r"faster-whisper is not healthy; healthy ones: pocketsphinx"):
        choose(service, backend="faster-whisper")


def test_a_named_backend_does_not_fall_back() -> None:
    service = speech({FASTER: Recognizer("f", languages=("en",)), OPENAI: Recognizer("o")})
    with pytest.raises(LanguageUnsupported):
        choose(service, "ko", backend="faster-whisper")


def test_when_none_will_do_the_most_telling_reason_is_raised() -> None:
    only_english = Recognizer("p", languages=("en",))
    with pytest.raises(LanguageUnsupported, match="p does not hear ko"):
        choose(speech({SPHINX: only_english}), "ko")
    broken = Recognizer("f", failure=ModelLoadingError("f has no weights"))
    with pytest.raises(ModelLoadingError, match="f has no weights"):
        choose(speech({FASTER: broken, SPHINX: only_english}), "ko")
    with pytest.raises(Unavailable):
        choose(speech({SPHINX: only_english}, states={"pocketsphinx0": "DEPLOY_FAILED"}))


def test_what_one_whisper_can_not_translate_the_others_are_not_asked() -> None:
    other = Recognizer("o")
    service = speech({FASTER: Recognizer("f", translates=False), OPENAI: other, SPHINX: Recognizer("p")})
    # all Whisper backends serve one checkpoint; a model that was not made for it is no failure: nothing is said of it
    assert choose(service, task=SpeechTask.TRANSLATE) == ChosenBackend(SPHINX)
    assert other.prepared == []
    assert choose(service) == ChosenBackend(FASTER)
    with pytest.raises(TaskUnsupported, match="f can't translate"):
        choose(service, task=SpeechTask.TRANSLATE, backend="faster-whisper")


def test_when_none_can_translate_the_first_says_so() -> None:
    neither = {FASTER: Recognizer("f", translates=False), SPHINX: Recognizer("p", translates=False)}
    with pytest.raises(TaskUnsupported, match="f can't translate"):
        choose(speech(neither), task=SpeechTask.TRANSLATE)


def test_pieces_are_translated_without_alignment() -> None:
    recognizer = Recognizer("f")
    service = speech({FASTER: recognizer}, aligner=Aligning(), aligned=("en",))
    assert heard_by(service, SpeechOptions(task=SpeechTask.TRANSLATE))[0].notes == ()
    assert recognizer.tasks == {SpeechTask.TRANSLATE}
    assert heard_by(service, SpeechOptions())[0].notes == ("aligned",)
    assert recognizer.tasks == {SpeechTask.TRANSLATE, SpeechTask.TRANSCRIBE}


def test_without_gpu_only_cpu_replicas_are_used() -> None:
    on_gpu, on_cpu = Recognizer("gpu"), Recognizer("cpu")
    both = speech({FASTER: [(on_gpu, True), (on_cpu, False)]})
    options = SpeechOptions(enable_gpu=False)
    assert heard_by(both, options)[0].model_version == "cpu"
    assert not on_gpu.heard
    with pytest.raises(InvalidRequest, match="cpu_fallback"):
        choose(speech({FASTER: [(on_gpu, True)]}), enable_gpu=False, backend="faster-whisper")


def heard_by(
    service: SpeechToText,
    options: SpeechOptions,
    num_pieces: int = 6,
    *,
    chosen: ChosenBackend = ChosenBackend(FASTER),  # noqa: B008 - frozen
    steps: Steps | None = None,
) -> list[Transcript]:
    """Return the pieces of a file with an utterance of 20 s every 40 s."""
    regions = tuple(SpeechRegion(40.0 * number, 40.0 * number + 20) for number in range(num_pieces))

    async def run() -> list[Transcript]:
        activity = SpeechActivity(40.0 * num_pieces, regions)
        return [piece async for piece in service.pieces(audio(), activity, chosen, options, steps or PlainSteps())]

    return asyncio.run(run())


def test_a_model_that_wants_utterances_apart_gets_them_apart() -> None:
    regions = tuple(SpeechRegion(3.0 * number, 3.0 * number + 2.5) for number in range(8))

    def num_pieces(pause_s: float, name: BackendName = FASTER) -> int:
        service = speech({name: Recognizer("f")})
        service._models = replace(service._models, max_pause_s=pause_s)

        async def run() -> int:
            activity = SpeechActivity(24.0, regions)
            chosen = ChosenBackend(name)
            return len([p async for p in service.pieces(audio(), activity, chosen, SpeechOptions(), PlainSteps())])

        return asyncio.run(run())

    assert num_pieces(5.0) == 1
    assert num_pieces(0.5) == 8
    assert num_pieces(0.5, SPHINX) == 1


def test_a_step_kept_under_other_cuts_is_not_taken_for_this_one() -> None:
    regions = tuple(SpeechRegion(3.0 * number, 3.0 * number + 2.5) for number in range(8))

    def step_names(pause_s: float) -> set[str]:
        service = speech({FASTER: Recognizer("f")})
        service._models = replace(service._models, max_pause_s=pause_s)
        steps = PlainSteps()

        async def run() -> None:
            activity = SpeechActivity(24.0, regions)
            async for _ in service.pieces(audio(), activity, ChosenBackend(FASTER), SpeechOptions(), steps):
                pass

        asyncio.run(run())
        return set(steps.seconds)

    assert len(step_names(0.5)) == 8
    assert step_names(0.5) == step_names(0.5)
    assert not step_names(0.5) & step_names(5.0)


@pytest.mark.parametrize("max_workers", [1, 2, 6, 50])
def test_pieces_come_in_order_of_time_and_no_more_at_once_than_allowed(max_workers: int) -> None:
    recognizer = Recognizer("f")
    pieces = heard_by(speech({FASTER: recognizer}), SpeechOptions("ko", max_workers=max_workers, prompt="names"))
    starts = [piece.segments[0].start_s for piece in pieces]
    assert starts == sorted(starts)
    assert len(starts) == 6
    assert recognizer.most_at_once == min(max_workers, 6)
    assert {(language, prompt) for _, language, prompt in recognizer.heard} == {("ko", "names")}


def test_out_of_gpu_memory_the_piece_is_heard_again_on_the_cpu_and_told() -> None:
    on_cpu = Recognizer("cpu")
    service = speech({FASTER: [(Recognizer("gpu", failure=GpuMemoryError("full")), True), (on_cpu, False)]})
    pieces = heard_by(service, SpeechOptions())
    assert {piece.model_version for piece in pieces} == {"cpu"}
    assert {piece.notes for piece in pieces} == {("transcription ran out of GPU memory and was repeated on the CPU",)}
    with pytest.raises(GpuMemoryError):
        heard_by(speech({FASTER: [(Recognizer("gpu", failure=GpuMemoryError("full")), True)]}), SpeechOptions())


def test_a_failing_piece_ends_the_others() -> None:
    recognizer = Recognizer("f", failure=ProcessingError("broken"))
    with pytest.raises(ProcessingError):
        heard_by(speech({FASTER: recognizer}), SpeechOptions(max_workers=2), num_pieces=50)
    assert recognizer.most_at_once == 2


def test_words_are_aligned_where_there_is_a_model_and_kept_where_not() -> None:
    english = speech({FASTER: Recognizer("f")}, aligner=Aligning(), aligned=("en",))
    assert heard_by(english, SpeechOptions())[0].notes == ("aligned",)
    assert heard_by(english, SpeechOptions(align=False))[0].notes == ()
    other = speech({FASTER: Recognizer("f")}, aligner=Aligning(), aligned=("ko",))
    assert "no alignment model for 'en'" in heard_by(other, SpeechOptions())[0].notes[0]
    failing = speech({FASTER: Recognizer("f")}, aligner=Aligning(ModelLoadingError("gone")), aligned=("en",))
    assert heard_by(failing, SpeechOptions())[0].notes == ("words keep their recogniser's times: gone",)
    down = speech({FASTER: Recognizer("f")}, aligner=Aligning(), aligned=("en",), states={"Aligner": "UNHEALTHY"})
    assert heard_by(down, SpeechOptions())[0].notes == ("words keep their recogniser's times: Aligner is not healthy",)


def test_without_gpu_words_keep_their_times_where_alignment_has_gpus_only() -> None:
    service = speech({FASTER: Recognizer("f")}, aligner=Aligning(), aligner_on_gpu=True, aligned=("en",))
    assert heard_by(service, SpeechOptions())[0].notes == ("aligned",)
    assert heard_by(service, SpeechOptions(enable_gpu=False))[0].notes == (
        "words keep their recogniser's times: enable_gpu is false, and alignment runs on GPUs only",
    )


def test_none_is_deployed() -> None:
    with pytest.raises(Unavailable, match="no speech backend is deployed"):
        choose(speech({}))


def test_a_replica_that_was_started_for_the_call_shows_in_the_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Starting(Recognizer):
        async def prepare(self, language: str, task: SpeechTask) -> RecognizerInfo:
            clock[0] += 7.0
            return RecognizerInfo("f", (), 6.0)

    clock = [0.0]
    monkeypatch.setattr("serve_app.flows.speech_to_text.time.monotonic", lambda: clock[0])
    assert choose(speech({FASTER: Starting("f")})) == ChosenBackend(FASTER, 7.0)


def test_for_auto_pocketsphinx_comes_last_wherever_it_stands() -> None:
    sphinx = Recognizer("p", languages=("en",))
    service = speech({FASTER: Recognizer("f"), OPENAI: Recognizer("o"), SPHINX: sphinx})
    assert choose(service, "auto", order=(SPHINX, OPENAI, FASTER)).name == OPENAI
    assert choose(service, "en", order=(SPHINX, OPENAI, FASTER)).name == SPHINX
    assert choose(speech({SPHINX: sphinx}), "auto", order=(SPHINX, FASTER)).name == SPHINX


def test_a_language_that_no_backend_is_known_to_serve_starts_none_of_them() -> None:
    backends = {name: Recognizer(name, languages=("en", "ko")) for name in (FASTER, TRANSFORMERS, OPENAI)}
    backends[SPHINX] = Recognizer("p", languages=("en",))
    known = dict.fromkeys((FASTER, TRANSFORMERS, OPENAI), frozenset({"en", "ko"})) | {SPHINX: frozenset({"en"})}
    service = speech(backends, languages=known)
    for order in (None, (SPHINX, FASTER)):
        with pytest.raises(LanguageUnsupported) as caught:
            choose(service, "ja", order=order)
        for part in ("'ja'", "multilingual Whisper transcribes 99 languages", "whisper-base", "args.whisper.models"):
            assert part in caught.value.detail
    with pytest.raises(LanguageUnsupported, match="transformers serves embedded:test, which transcribes en, ko, not"):
        choose(service, "ja", backend="transformers")
    assert all(not backend.prepared for backend in backends.values())
    assert choose(service, "ko", order=(SPHINX, FASTER)).name == FASTER
    assert backends[SPHINX].prepared == []
    assert choose(service, "auto").name == FASTER  # "auto" is no language


def test_once_a_checkpoint_refused_a_language_no_other_backend_is_started_for_it() -> None:
    faster, other = Recognizer("f", languages=("en",)), Recognizer("o", languages=("en",))
    service = speech({FASTER: faster, TRANSFORMERS: other, OPENAI: other, SPHINX: Recognizer("p", languages=("ko",))})
    assert choose(service, "ko").name == SPHINX  # which serves another checkpoint
    with pytest.raises(LanguageUnsupported, match="f does not hear ja"):
        choose(service, "ja")
    assert faster.prepared == ["ko", "ja"]
    assert other.prepared == []


def test_a_backend_that_can_not_load_says_nothing_of_the_next() -> None:
    service = speech(
        {FASTER: Recognizer("f", failure=ModelLoadingError("no weights")), OPENAI: Recognizer("o", languages=("ko",))}
    )
    assert choose(service, "ko").name == OPENAI


def stand_in(detects: dict[str, float], **states: str) -> tuple[SpeechToText, Recognizer, Recognizer]:
    micro = Recognizer("micro", detects=detects, is_stand_in=True)
    sphinx = Recognizer("sphinx", languages=("en",))
    return speech({FASTER: micro, SPHINX: sphinx}, states=states), micro, sphinx


VIDEO_ORDER = (FASTER, SPHINX)


@pytest.mark.parametrize(
    ("language", "detects", "version"),
    [
        ("en", {}, "sphinx"),
        ("auto", {"en": 0.8, "ko": 0.2}, "sphinx"),
        ("auto", {"en": 0.2, "ko": 0.8}, "micro"),
        ("ko", {}, "micro"),
    ],
)
@pytest.mark.parametrize("num_pieces", [1, 4])
def test_whisper_micro_leaves_english_of_video_jobs_to_pocketsphinx(
    language: str, detects: dict[str, float], version: str, num_pieces: int
) -> None:
    service, micro, sphinx = stand_in(detects)
    chosen = choose(service, language, order=VIDEO_ORDER)
    assert (chosen.name, chosen.gives_way) == (FASTER, True)
    pieces = heard_by(service, SpeechOptions(language), num_pieces, chosen=chosen)
    assert [piece.model_version for piece in pieces] == [version] * num_pieces
    assert len(micro.shown) == (1 if language == "auto" else 0)
    # what whisper-micro detects is good enough to choose by, and not to be told as the language
    assert {spoken for _, spoken, _ in sphinx.heard} <= {language}
    assert not (micro.heard and sphinx.heard)


def test_whisper_micro_transcribes_what_it_is_asked_to() -> None:
    for asked in ({"backend": "faster-whisper"}, {}):  # named; an upload, for which no order is configured
        service, _, sphinx = stand_in({"en": 1.0})
        chosen = choose(service, "en", **asked)
        assert (chosen.name, heard_by(service, SpeechOptions("en"), chosen=chosen)[0].model_version) == (
            FASTER,
            "micro",
        )
        assert not chosen.gives_way
        assert not sphinx.heard


def test_whisper_micro_gives_way_to_nobody_who_is_not_there() -> None:
    service, _, _ = stand_in({"en": 1.0}, pocketsphinx0="UNHEALTHY")
    assert not choose(service, "en", order=VIDEO_ORDER).gives_way
    service, _, _ = stand_in({"en": 1.0})
    assert not choose(service, "en", order=(FASTER,)).gives_way
    service = speech({FASTER: Recognizer("micro", is_stand_in=True)})
    assert not choose(service, "en", order=VIDEO_ORDER).gives_way


def test_a_file_in_another_language_is_detected_before_its_pieces_are_transcribed() -> None:
    recognizer = Recognizer("f", detects={"ko": 0.7, "en": 0.3})
    service = speech({FASTER: recognizer})
    chosen = choose(service)
    assert chosen.can_detect_languages
    heard_by(service, SpeechOptions(), chosen=chosen)
    [windows] = recognizer.shown
    assert len(windows) == 3
    assert {likely for _, _, likely in recognizer.told} == {"ko"}
    assert {language for _, language, _ in recognizer.heard} == {"auto"}
    for piece, inside, _ in recognizer.told:
        assert all(piece.start_s <= part.start_s < part.end_s <= piece.end_s for part in inside)
        assert sum(part.end_s - part.start_s for part in inside) == 20.0


@pytest.mark.parametrize(
    ("options", "num_pieces", "can_detect"),
    [
        (SpeechOptions("ko"), 6, True),
        (SpeechOptions(), 6, False),
        (SpeechOptions(), 1, True),
        (SpeechOptions(), 0, True),
    ],
)
def test_a_language_is_not_detected_where_it_is_told_or_there_is_one_piece(
    options: SpeechOptions, num_pieces: int, can_detect: bool
) -> None:
    recognizer = Recognizer("f", detects={"ko": 1.0} if can_detect else None)
    service = speech({FASTER: recognizer})
    heard_by(service, options, num_pieces, chosen=choose(service, options.language))
    assert recognizer.shown == []
    assert {likely for _, _, likely in recognizer.told} <= {None}


def test_out_of_gpu_memory_the_language_is_detected_on_the_cpu() -> None:
    on_cpu = Recognizer("cpu", detects={"ko": 1.0})
    full = Recognizer("gpu", failure=GpuMemoryError("full"), detects={})
    heard_by(
        speech({FASTER: [(full, True), (on_cpu, False)]}),
        SpeechOptions(),
        chosen=ChosenBackend(FASTER, can_detect_languages=True),
    )
    assert (len(full.shown), len(on_cpu.shown)) == (1, 1)
    assert {likely for _, _, likely in on_cpu.told} == {"ko"}
    with pytest.raises(GpuMemoryError):
        heard_by(
            speech({FASTER: [(full, True)]}), SpeechOptions(), chosen=ChosenBackend(FASTER, can_detect_languages=True)
        )


def test_a_detected_language_is_kept_over_a_crash() -> None:
    """A second runner finds the step in the job store, and detects nothing again."""
    kept: dict[str, object] = {}

    class Store:
        def commit_step(self, claim: Any, name: str, result: object, **_: Any) -> None:
            kept[name] = json.loads(json.dumps(result))

    def run(recognizer: Recognizer, done: dict[str, object]) -> list[Transcript]:
        claim = SimpleNamespace(job=SimpleNamespace(progress=0))
        steps = DurableSteps(Store(), claim, done, {})  # type: ignore[arg-type]
        chosen = ChosenBackend(FASTER, can_detect_languages=True)
        return heard_by(speech({FASTER: recognizer}), SpeechOptions(), chosen=chosen, steps=steps)

    first = run(Recognizer("f", detects={"ko": 0.9, "en": 0.1}), {})
    assert kept["detect_language"] == {"language": "ko", "probability": 0.9}
    after_a_crash = Recognizer("f", detects={"en": 1.0})
    again = run(after_a_crash, {"detect_language": kept["detect_language"]})
    assert [piece.segments for piece in again] == [piece.segments for piece in first]
    assert after_a_crash.shown == []
    assert {likely for _, _, likely in after_a_crash.told} == {"ko"}
    nothing_left = Recognizer("f", detects={"en": 1.0})
    assert run(nothing_left, dict(kept)) == first
    assert nothing_left.heard == []
