from __future__ import annotations

import copy

import pytest

from serve_app.analysis.result import AnalysisResult
from serve_app.commands.demo.contract import callback_problems, result_problems
from serve_app.messages import Locale, Stage, stage_message

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
        {"job_id": "j", "status": "processing", "progress": int(stage), "message": stage_message(stage, Locale.KO)}
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
