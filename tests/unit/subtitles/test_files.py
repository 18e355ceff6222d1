"""Transcripts as files, read back by what reads such files: a strict reader of each form, and Python's json."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest

from serve_app.results import Segment, Word
from serve_app.subtitles.files import (
    TranscriptForm,
    passages_of_result,
    passages_of_segments,
    srt,
    transcript_file,
    txt,
    vtt,
)
from serve_app.subtitles.passages import Passage, TimedWord, columns
from tests.unit.api.memory_services import RESULT

SRT_CUE = re.compile(r"(\d+)\n(\d\d+:\d\d:\d\d,\d{3}) --> (\d\d+:\d\d:\d\d,\d{3})\n((?:.+\n){1,2})\n")
VTT_CUE = re.compile(r"\n(\d\d+:\d\d:\d\d\.\d{3}) --> (\d\d+:\d\d:\d\d\.\d{3})\n((?:.+\n){1,2})")

TALK = [
    Passage("Good morning to all, this is Daniel.", 610, 5570, (), "SPEAKER_00"),
    Passage("Good morning, Daniel.", 6050, 9900, (), "SPEAKER_01"),
]


def read_srt(content: str) -> list[tuple[str, str, str]]:
    """Read SubRip strictly: cues numbered from 1, and nothing between them."""
    cues = list(SRT_CUE.finditer(content))
    assert "".join(cue[0] for cue in cues) == content
    assert [int(cue[1]) for cue in cues] == list(range(1, len(cues) + 1))
    return [(cue[2], cue[3], cue[4].rstrip("\n")) for cue in cues]


def read_vtt(content: str) -> list[tuple[str, str, str]]:
    """Read WebVTT strictly."""
    header, content = content[:7], content[7:]
    assert header == "WEBVTT\n"
    cues = list(VTT_CUE.finditer(content))
    assert "".join(cue[0] for cue in cues) == content
    return [(cue[1], cue[2], cue[3].rstrip("\n")) for cue in cues]


def test_srt_names_speakers_where_there_are_several() -> None:
    assert srt(TALK) == (
        "1\n00:00:00,610 --> 00:00:05,570\nSPEAKER_00: Good morning to all,\nthis is Daniel.\n\n"
        "2\n00:00:06,050 --> 00:00:09,900\nSPEAKER_01: Good morning, Daniel.\n\n"
    )


def test_srt_of_one_speaker_names_nobody() -> None:
    assert [text for _, _, text in read_srt(srt(TALK[:1]))] == ["Good morning to all, this is Daniel."]


def test_srt_lines_keep_to_the_limit_with_their_label() -> None:
    talk = [Passage("word and " * 60, 0, 60_000, (), "SPEAKER_00"), TALK[1]]
    lines = [line for _, _, text in read_srt(srt(talk)) for line in text.split("\n")]
    assert len(lines) > 10
    assert max(columns(line) for line in lines) <= 42


def test_vtt_gives_speakers_voices() -> None:
    assert vtt(TALK) == (
        "WEBVTT\n"
        "\n00:00:00.610 --> 00:00:05.570\n<v SPEAKER_00>Good morning to all, this is Daniel.\n"
        "\n00:00:06.050 --> 00:00:09.900\n<v SPEAKER_01>Good morning, Daniel.\n"
    )


def test_vtt_without_speakers_has_no_voices() -> None:
    assert vtt([Passage("a", 0, 1000)]) == "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\na\n"


HOSTILE = "1\n\n2 --> 3\n<b>bold</b> & <script> NOTE x\n\n00:00:00.000 --> 00:00:09.000\nforged &lt;"


def test_no_text_forges_a_cue_in_vtt() -> None:
    ((start, end, text),) = read_vtt(vtt([Passage(HOSTILE[:40], 0, 2000, (), "a>b&\nc")]))
    assert (start, end) == ("00:00:00.000", "00:00:02.000")
    assert text.count("<") == 1
    voice, _, shown = text.partition(">")
    assert html.unescape(shown.replace("\n", " ")) == " ".join(HOSTILE[:40].split())
    assert html.unescape(voice).split() == ["<v", "a>b&", "c"]


@pytest.mark.parametrize(("write", "read"), [(srt, read_srt), (vtt, read_vtt)], ids=["srt", "vtt"])
def test_no_text_breaks_a_file(write: Any, read: Any) -> None:
    cues = read(write([Passage(HOSTILE, 0, 6000), Passage("after", 7000, 8000)]))
    assert all("-->" not in text for _, _, text in cues)
    assert cues[-1][2] == "after"
    assert "forged" in cues[-2][2]


def test_clock_goes_beyond_a_day() -> None:
    ((start, end, _),) = read_srt(srt([Passage("a", 360_000_001, 360_001_234)]))
    assert (start, end) == ("100:00:00,001", "100:00:01,234")


def test_empty_transcript_is_a_valid_file() -> None:
    assert srt([]) == ""
    assert vtt([]) == "WEBVTT\n"
    assert txt([]) == ""
    empty = {"segments": [], "text": "", "language": "en", "duration": 3.0}
    assert json.loads(transcript_file(empty, TranscriptForm.JSON)) == {**empty}


def test_txt_has_a_paragraph_for_each_turn() -> None:
    talk = [
        Passage("One.", 0, 1000, (), "SPEAKER_00"),
        Passage("Two.", 1500, 2000, (), "SPEAKER_00"),
        Passage("Three.", 2100, 3000, (), "SPEAKER_01"),
        Passage("", 3000, 3000, (), "SPEAKER_00"),
        Passage("Four.", 3100, 4000, (), "SPEAKER_01"),
        Passage("Five.", 6000, 7000, (), "SPEAKER_01"),
    ]
    assert txt(talk) == "SPEAKER_00: One. Two.\n\nSPEAKER_01: Three. Four.\n\nSPEAKER_01: Five.\n"


def test_txt_of_one_speaker_names_nobody_and_wraps() -> None:
    said = " ".join(f"word{n}" for n in range(100))
    lines = txt([Passage(said, 0, 60_000, (), "SPEAKER_00")]).splitlines()
    assert max(map(len, lines)) <= 80
    assert min(map(len, lines[:-1])) > 70
    assert " ".join(lines) == said


def test_txt_wraps_by_width_where_there_are_no_spaces() -> None:
    lines = txt([Passage("今" * 100, 0, 60_000)]).splitlines()
    assert [len(line) for line in lines] == [40, 40, 20]


def test_json_has_words_without_what_was_measured_beside_them() -> None:
    content = transcript_file(RESULT, TranscriptForm.JSON)
    assert "안녕하세요" in content
    assert json.loads(content) == {
        "text": "안녕하세요",
        "language": "ko",
        "duration": 120.5,
        "segments": [
            {
                "start_time": 1.5,
                "end_time": 3.2,
                "text": "안녕하세요",
                "speaker": {"speaker_id": "SPEAKER_00"},
                "words": [{"word": "안녕하세요", "start": 1.5, "end": 1.8}],
            }
        ],
    }


@pytest.mark.parametrize("form", list(TranscriptForm))
def test_every_form_of_a_result_holds_its_text_in_a_text_type(form: TranscriptForm) -> None:
    assert "안녕하세요" in transcript_file(RESULT, form)
    assert form.media_type.endswith("charset=utf-8") or form.media_type == "application/json"


def test_cues_take_the_words_times_not_their_segments() -> None:
    (passage,) = passages_of_result(RESULT)
    assert (passage.start_ms, passage.end_ms, passage.speaker) == (1500, 3200, "SPEAKER_00")
    assert [(start, end) for start, end, _ in read_vtt(vtt([passage]))] == [("00:00:01.500", "00:00:02.000")]


def test_recognisers_segments_become_passages() -> None:
    segment = Segment(0.0004, 1.9996, " Hi there", (Word(" Hi", 0.5, 0.7504), Word(" there", 0.75, 1.2)))
    (passage,) = passages_of_segments([segment])
    assert (passage.text, passage.start_ms, passage.end_ms, passage.speaker) == (" Hi there", 0, 2000, None)
    assert passage.words == (TimedWord(" Hi", 500, 750), TimedWord(" there", 750, 1200))
    assert srt([passage]) == "1\n00:00:00,500 --> 00:00:01,200\nHi there\n\n"
