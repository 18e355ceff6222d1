"""The embedded recogniser, on the dialogue that is shipped: spoken words whose times are known."""

from __future__ import annotations

import json
import threading
from importlib import resources
from itertools import pairwise

import numpy as np
import pytest

from serve_app.errors import LanguageUnsupported, ModelLoadingError, ProcessingError, TaskUnsupported
from serve_app.media.decode import decode_audio
from serve_app.models.speech import pocketsphinx_recognizer as module
from serve_app.models.speech.pocketsphinx_recognizer import PocketsphinxRecognizer
from serve_app.results import SAMPLE_RATE_HZ, SpeechTask, Transcript, Word
from serve_app.scoring import score_result

MEDIA = resources.files("serve_app.demo_media")
START_S, END_S = 0.4, 10.2  # the first line of each speaker


@pytest.fixture(scope="module")
def recognizer() -> PocketsphinxRecognizer:
    return PocketsphinxRecognizer()


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    with resources.as_file(MEDIA / "dialogue.mp4") as path:
        samples = decode_audio(str(path)).samples
    return samples[round(START_S * SAMPLE_RATE_HZ) : round(END_S * SAMPLE_RATE_HZ)]


@pytest.fixture(scope="module")
def heard(recognizer: PocketsphinxRecognizer, speech: np.ndarray) -> Transcript:
    return recognizer.transcribe(speech, offset_s=START_S, language="en")


@pytest.fixture(scope="module")
def line(speech: np.ndarray) -> np.ndarray:
    """The first speaker's line."""
    return speech[: 5 * SAMPLE_RATE_HZ]


@pytest.fixture(scope="module")
def heard_line(recognizer: PocketsphinxRecognizer, line: np.ndarray) -> Transcript:
    return recognizer.transcribe(line)


def words_of(transcript: Transcript) -> list[Word]:
    return [word for segment in transcript.segments for word in segment.words]


def noise(seconds: float, level: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(2)
    return (rng.standard_normal(round(seconds * SAMPLE_RATE_HZ)) * level).astype(np.float32)


def test_words_and_times_are_those_that_were_spoken(heard: Transcript):
    truth = json.loads((MEDIA / "dialogue.json").read_text(encoding="utf-8"))
    said = [word for word in truth["words"] if START_S < word["start"] < END_S]
    result = {"word_segments": [{"word": w.word, "start_time": w.start_s, "speaker_id": None} for w in words_of(heard)]}
    scores = score_result(result, {"words": said})
    assert scores.num_words > 20
    assert scores.word_error_rate <= 0.1
    assert scores.median_word_start_error_s <= 0.03
    assert scores.p90_word_start_error_s <= 0.1


def test_words_lie_in_order_inside_their_segments_inside_the_piece(heard: Transcript):
    edges = [START_S]
    for segment in heard.segments:
        assert segment.text == " ".join(word.word for word in segment.words)
        assert (segment.start_s, segment.end_s) == (segment.words[0].start_s, segment.words[-1].end_s)
        edges += [edge for word in segment.words for edge in (word.start_s, word.end_s)]
    assert edges == sorted(edges)
    assert edges[-1] <= END_S


def test_confidences_are_probabilities_that_differ(heard: Transcript):
    confidences = [word.confidence for word in words_of(heard)]
    assert all(confidence is not None and 0.0 < confidence <= 1.0 for confidence in confidences)
    assert np.ptp(confidences) > 0.1


def test_no_filler_or_pronunciation_number_is_left(heard: Transcript):
    assert not [word.word for word in words_of(heard) if not word.word.replace("'", "").isalpha()]
    assert "I" in heard.segments[-1].text.split()


def test_the_model_and_the_language_are_named(heard: Transcript, recognizer: PocketsphinxRecognizer):
    assert heard.language == "en"
    assert heard.model_version.startswith("pocketsphinx-en-us-5.")
    assert heard.notes == ()


def test_it_detects_no_language_and_says_so(recognizer: PocketsphinxRecognizer, speech: np.ndarray, heard: Transcript):
    transcript = recognizer.transcribe(speech, offset_s=START_S, language="auto")
    assert transcript.language == "und"
    assert transcript.notes == (module.NOT_DETECTED,)
    assert "not detected" in module.NOT_DETECTED
    assert transcript.segments == heard.segments  # taken for English


@pytest.mark.slow
def test_an_answer_does_not_depend_on_what_was_heard_before(
    recognizer: PocketsphinxRecognizer, line: np.ndarray, heard_line: Transcript
):
    recognizer.transcribe(noise(1.0, level=0.3))
    recognizer.transcribe(line[-2 * SAMPLE_RATE_HZ :] * 0.01)
    assert recognizer.transcribe(line) == heard_line
    assert PocketsphinxRecognizer().transcribe(line) == heard_line


def test_an_offset_moves_times_and_nothing_else(
    recognizer: PocketsphinxRecognizer, line: np.ndarray, heard_line: Transcript
):
    here, there = words_of(heard_line), words_of(recognizer.transcribe(line, offset_s=1000.0))
    assert here
    assert [word.start_s + 1000.0 for word in here] == pytest.approx([word.start_s for word in there])
    assert [word.word for word in here] == [word.word for word in there]


def test_quiet_speech_is_heard_as_well(recognizer: PocketsphinxRecognizer, line: np.ndarray, heard_line: Transcript):
    loud, quiet = words_of(heard_line), words_of(recognizer.transcribe(line * 0.002))
    same = {word.word for word in loud} & {word.word for word in quiet}
    assert len(same) >= 0.7 * len({word.word for word in loud})


@pytest.mark.slow
def test_a_long_pause_ends_a_segment(recognizer: PocketsphinxRecognizer, line: np.ndarray):
    apart = np.concatenate([line, noise(1.0, 0.001), line])
    segments = recognizer.transcribe(apart).segments
    assert len(segments) >= 2
    for before, after in pairwise(segments):
        assert after.start_s - before.end_s >= module.MAX_PAUSE_S
    for segment in segments:
        assert all(b.start_s - a.end_s < module.MAX_PAUSE_S for a, b in pairwise(segment.words))


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, np.float32),
        np.zeros(SAMPLE_RATE_HZ, np.float32),
        np.full(SAMPLE_RATE_HZ, np.nan, np.float32),
        np.full(100, 0.5, np.float32),
    ],
    ids=["nothing", "silence", "not a number", "six milliseconds"],
)
def test_where_nothing_is_said_nothing_is_heard(recognizer: PocketsphinxRecognizer, samples: np.ndarray):
    assert recognizer.transcribe(samples).segments == ()


def test_clipped_and_broken_samples_do_not_break_it(recognizer: PocketsphinxRecognizer, line: np.ndarray):
    piece = line * 3.0
    piece[100:110] = np.inf
    piece[200:210] = np.nan
    assert "daniel" in [word.word for word in words_of(recognizer.transcribe(piece))]


@pytest.mark.parametrize("language", ["ko", "ja", "zh", "fr"])
def test_another_language_is_refused_with_what_would_serve_it(recognizer: PocketsphinxRecognizer, language: str):
    with pytest.raises(LanguageUnsupported) as caught:
        recognizer.transcribe(noise(1.0), language=language)
    for part in (language, "faster-whisper", "transformers", "openai-whisper"):
        assert part in caught.value.detail


def test_languages_can_be_checked_before_any_audio_is_there(recognizer: PocketsphinxRecognizer):
    recognizer.check_language("auto")
    recognizer.check_language("en")
    with pytest.raises(LanguageUnsupported, match="faster-whisper"):
        recognizer.check_language("ko")


def test_a_translation_is_refused_with_what_would_make_it(recognizer: PocketsphinxRecognizer):
    recognizer.check_task(SpeechTask.TRANSCRIBE)
    with pytest.raises(TaskUnsupported, match=r"can't translate.*faster-whisper.*whisper-base"):
        recognizer.check_task(SpeechTask.TRANSLATE)


def test_stereo_is_refused(recognizer: PocketsphinxRecognizer):
    with pytest.raises(ProcessingError, match="mono"):
        recognizer.transcribe(np.zeros((2, SAMPLE_RATE_HZ), np.float32))


@pytest.mark.slow
def test_a_stop_ends_the_call_and_leaves_the_recogniser_usable(
    recognizer: PocketsphinxRecognizer, line: np.ndarray, heard_line: Transcript
):
    asked = iter([False, False, True])
    with pytest.raises(ProcessingError, match="stopped"):
        recognizer.transcribe(line, should_stop=lambda: next(asked))
    with pytest.raises(KeyboardInterrupt):
        recognizer.transcribe(line, should_stop=_interrupted)
    assert recognizer.transcribe(line) == heard_line


@pytest.mark.slow
def test_calls_from_several_threads_do_not_mix(recognizer: PocketsphinxRecognizer, speech: np.ndarray):
    pieces = [speech[: 2 * SAMPLE_RATE_HZ], speech[6 * SAMPLE_RATE_HZ : 8 * SAMPLE_RATE_HZ]]
    alone = [recognizer.transcribe(piece) for piece in pieces]
    together: dict[int, Transcript] = {}
    threads = [
        threading.Thread(target=lambda n=n: together.update({n: recognizer.transcribe(pieces[n])})) for n in (0, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [together[0], together[1]] == alone
    assert words_of(alone[0])
    assert words_of(alone[0]) != words_of(alone[1])


def test_a_missing_model_is_a_loading_error(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(module.pocketsphinx, "get_model_path", lambda name: str(tmp_path / name))
    with pytest.raises(ModelLoadingError, match="pocketsphinx"):
        PocketsphinxRecognizer()


def _interrupted() -> bool:
    raise KeyboardInterrupt
