from __future__ import annotations

import copy
from typing import Any

import pytest

from serve_app.analysis.result import AnalysisResult
from serve_app.commands.demo.contract import callback_problems, music_result_problems, result_problems
from serve_app.messages import JobKind, Locale, MusicStage, Stage, stage_message

RESULT: AnalysisResult = {
    "segments": [
        {
            "start_time": 1.5,
            "end_time": 3.2,
            "text": "hello you",
            "speaker": {"speaker_id": "SPEAKER_00"},
            "words": [
                {
                    "word": "hello",
                    "start": 1.5,
                    "end": 1.8,
                    "acoustic_features": {"volume_db": -20.0, "pitch_hz": None, "spectral_centroid": 1500.0},
                },
                {
                    "word": "you",
                    "start": 1.9,
                    "end": 3.2,
                    "acoustic_features": {"volume_db": -20.0, "pitch_hz": 150.0, "spectral_centroid": 1500.0},
                },
            ],
        }
    ],
    "word_segments": [
        {"word": "hello", "start_time": 1.5, "end_time": 1.8, "speaker_id": "SPEAKER_00", "confidence": 0.9},
        {"word": "you", "start_time": 1.9, "end_time": 3.2, "speaker_id": "SPEAKER_00", "confidence": None},
    ],
    "speakers": {"SPEAKER_00": {"total_duration": 1.7, "segment_count": 1}},
    "text": "hello you",
    "language": "en",
    "duration": 4.0,
    "metadata": {
        "model_version": "m",
        "processing_time": 1.0,
        "unique_speakers": 1,
        "total_segments": 1,
        "language_requested": "en",
        "language_detected": "en",
        "processing_mode": "targeted",
    },
}


def good_callbacks() -> list[dict]:
    payloads = [
        {
            "job_id": "j",
            "status": "processing",
            "progress": int(stage),
            "message": stage_message(JobKind.VIDEO, stage, Locale.KO),
        }
        for stage in Stage
    ]
    payloads[-1] |= {"status": "completed", "result": copy.deepcopy(RESULT)}
    return payloads


def test_what_is_right_has_no_problem() -> None:
    assert callback_problems(good_callbacks(), "j") == []


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda payloads: payloads[0].update(extra=1), "extra"),
        (lambda payloads: payloads[1].update(error_code=None), "null"),
        (lambda payloads: payloads.pop(2), "callbacks were"),
        (lambda payloads: payloads.insert(2, payloads[2]), "callbacks were"),
        (lambda payloads: payloads.reverse(), "callbacks were"),
        (lambda payloads: payloads[3].update(message="Transcribing"), "callbacks were"),
        (lambda payloads: payloads[0].update(job_id="other"), "job_id"),
        (lambda payloads: payloads[0].update(progress="10"), "progress"),
    ],
)
def test_a_wrong_callback_is_noticed(break_it, said: str) -> None:
    payloads = good_callbacks()
    break_it(payloads)
    assert any(said in problem for problem in callback_problems(payloads, "j"))


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda result: result["segments"][0]["words"][0].update(start=None), "start"),
        (lambda result: result["segments"][0]["words"][1].update(end=9.0), "in order"),
        (lambda result: result["segments"][0]["words"][1].update(start=1.4), "in order"),
        (lambda result: result["segments"][0].update(end_time=5.0), "inside the file"),
        (lambda result: result["word_segments"].pop(), "different words"),
        (lambda result: result["speakers"].clear(), "not listed"),
        (lambda result: result["metadata"].update(total_segments=2), "total_segments"),
        (lambda result: result["metadata"].pop("processing_mode"), "processing_mode"),
    ],
)
def test_a_wrong_result_is_noticed(break_it, said: str) -> None:
    result = copy.deepcopy(RESULT)
    break_it(result)
    assert any(said in problem for problem in result_problems(result))


PIECE: dict[str, Any] = {
    "caption": {
        "caption_ko": "잔잔한 바다",
        "caption_en": "A calm sea",
        "mood_words": ["calm"],
        "valence": 0.25,
        "arousal": -0.5,
        "instruments": [],
        "captioner": "features",
        "model_version": "features-1",
        "fallback_reason": None,
        "notes": [],
    },
    "plan": {
        "version": 1,
        "seed": 7,
        "picture_sha256": "ab" * 32,
        "valence": 0.25,
        "arousal": -0.5,
        "key": "D",
        "mode": "dorian",
        "tempo_bpm": 84,
        "metre": "4/4",
        "duration_s": 30.0,
        "form": [{"name": "A", "bars": 8}],
        "instruments": ["piano"],
        "density": 0.4,
        "contour": [0.5] * 16,
        "prompt_en": "ambient with piano",
    },
    "engine_used": "composer",
    "engine_version": "composer-1",
    "license": "Apache-2.0",
    "fallback_reason": None,
    "duration": 30.0,
    "measurements": {"loudness_lufs": -14.0},
    "files": {"picture.jpg": 9, "caption.json": 9, "plan.json": 9, "music.mp3": 9, "music.flac": 9, "music.mid": 9},
    "page_url": "/music/j/page",
    "audio_url": "/music/j/audio",
    "download_url": "/music/j/download",
    "stage_seconds": {"music": 1.5},
    "notes": [],
}


def good_music_callbacks() -> list[dict]:
    composing = stage_message(JobKind.MUSIC, MusicStage.COMPOSING, Locale.KO)
    payloads = [
        {
            "job_id": "j",
            "status": "processing",
            "progress": int(stage),
            "message": stage_message(JobKind.MUSIC, stage, Locale.KO),
        }
        for stage in MusicStage
    ]
    payloads[-1] |= {"status": "completed", "result": copy.deepcopy(PIECE)}
    between = [{"job_id": "j", "status": "processing", "progress": value, "message": composing} for value in (45, 70)]
    return [*payloads[:4], *between, *payloads[4:]]


def music_problems(payloads: list[dict]) -> list[str]:
    return callback_problems(payloads, "j", kind=JobKind.MUSIC)


def test_a_piece_of_music_as_it_should_be() -> None:
    assert music_problems(good_music_callbacks()) == []
    assert music_problems([each for each in good_music_callbacks() if each["progress"] not in (45, 70)]) == []


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda payloads: payloads.pop(1), "callbacks were"),
        (lambda payloads: payloads.insert(5, payloads[4]), "callbacks were"),
        (lambda payloads: payloads.insert(4, payloads.pop(5)), "callbacks were"),
        (lambda payloads: payloads[4].update(progress=85), "callbacks were"),
        (lambda payloads: payloads[4].update(message="Composing"), "callbacks were"),
        (lambda payloads: payloads.insert(7, payloads[6] | {"progress": 85}), "callbacks were"),
        (lambda payloads: payloads[-1].update(result=None), "null"),
        (lambda payloads: payloads[-1].pop("result"), "result"),
    ],
)
def test_a_wrong_callback_of_music_is_noticed(break_it, said: str) -> None:
    payloads = good_music_callbacks()
    break_it(payloads)
    assert any(said in problem for problem in music_problems(payloads))


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda piece: piece.update(duration=29.0), "29.0 s instead of 30.0 s"),
        (lambda piece: piece["files"].pop("music.mp3"), "music.mp3 is missing"),
        (lambda piece: piece["files"].update({"music.flac": 0}), "music.flac is missing"),
        (lambda piece: piece["caption"].update(caption_ko=""), "a caption is empty"),
        (lambda piece: piece["plan"].update(tempo_bpm="84"), "plan.tempo_bpm"),
        (lambda piece: piece.pop("license"), "license"),
    ],
)
def test_a_wrong_piece_is_noticed(break_it, said: str) -> None:
    piece = copy.deepcopy(PIECE)
    break_it(piece)
    assert any(said in problem for problem in music_result_problems(piece))


def test_an_engine_without_notes_has_no_midi() -> None:
    files = {name: size for name, size in PIECE["files"].items() if name != "music.mid"}
    assert music_result_problems(PIECE | {"files": files}) == []
