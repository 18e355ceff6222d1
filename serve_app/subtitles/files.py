"""Files of transcripts: SubRip, WebVTT, plain text, JSON. Pure.

WebVTT: https://www.w3.org/TR/webvtt1/. SubRip has no standard; it is written as ffmpeg and VLC read it, in UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum

from serve_app.analysis.result import AnalysisResult
from serve_app.results import Segment
from serve_app.subtitles.cues import Cue, cut_into_cues
from serve_app.subtitles.passages import Passage, TimedWord, columns, joined, tokens_of

TEXT_COLUMNS = 80
_PARAGRAPH_PAUSE_MS = 2000


class TranscriptForm(StrEnum):
    """A file's form; the value is its suffix."""

    SRT = "srt"
    VTT = "vtt"
    TXT = "txt"
    JSON = "json"

    @property
    def media_type(self) -> str:
        return _MEDIA_TYPES[self]


_MEDIA_TYPES = {
    TranscriptForm.SRT: "application/x-subrip; charset=utf-8",
    TranscriptForm.VTT: "text/vtt; charset=utf-8",
    TranscriptForm.TXT: "text/plain; charset=utf-8",
    TranscriptForm.JSON: "application/json",
}


def transcript_file(result: AnalysisResult, form: TranscriptForm) -> str:
    if form is TranscriptForm.JSON:
        return _json(result)
    passages = passages_of_result(result)
    return {TranscriptForm.SRT: srt, TranscriptForm.VTT: vtt, TranscriptForm.TXT: txt}[form](passages)


def passages_of_segments(segments: Sequence[Segment]) -> list[Passage]:
    """Return a recogniser's segments as passages without speakers."""
    return [
        Passage(
            segment.text,
            _ms(segment.start_s),
            _ms(segment.end_s),
            tuple(TimedWord(word.word, _ms(word.start_s), _ms(word.end_s)) for word in segment.words),
        )
        for segment in segments
    ]


def passages_of_result(result: AnalysisResult) -> list[Passage]:
    return [
        Passage(
            segment["text"],
            _ms(segment["start_time"]),
            _ms(segment["end_time"]),
            tuple(TimedWord(word["word"], _ms(word["start"]), _ms(word["end"])) for word in segment["words"]),
            segment["speaker"]["speaker_id"],
        )
        for segment in result["segments"]
    ]


def srt(passages: Sequence[Passage]) -> str:
    """Return SubRip; a speaker's name before each cue where there is more than one."""
    named = _several_speakers(passages)
    width = max((columns(_label(passage.speaker)) for passage in passages), default=0) if named else 0
    return "".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{_srt_text(cue, named)}\n\n"
        for number, cue in enumerate(cut_into_cues(passages, label_columns=width), 1)
    )


def vtt(passages: Sequence[Passage]) -> str:
    """Return WebVTT; a cue has its speaker as voice, where one is known."""
    cues = cut_into_cues(passages)
    return "WEBVTT\n" + "".join(
        f"\n{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{_vtt_text(cue)}\n" for cue in cues
    )


def txt(passages: Sequence[Passage]) -> str:
    """Return paragraphs of lines of at most 80 columns: one for each turn of a speaker, and after each long pause."""
    named = _several_speakers(passages)
    paragraphs: list[tuple[str | None, int, list[str]]] = []
    for passage in sorted(passages, key=lambda passage: passage.start_ms):
        text = " ".join(passage.text.split())
        if not text:
            continue
        speaker, end_ms, texts = paragraphs[-1] if paragraphs else (None, 0, [])
        if texts and speaker == passage.speaker and passage.start_ms - end_ms < _PARAGRAPH_PAUSE_MS:
            texts.append(text)
            paragraphs[-1] = (speaker, passage.end_ms, texts)
        else:
            paragraphs.append((passage.speaker, passage.end_ms, [text]))
    return "\n".join(_wrapped((_label(speaker) if named else "") + " ".join(texts)) for speaker, _, texts in paragraphs)


def _json(result: AnalysisResult) -> str:
    """Return the result's text and segments, without acoustic features."""
    segments = [
        {
            "start_time": segment["start_time"],
            "end_time": segment["end_time"],
            "text": segment["text"],
            "speaker": segment["speaker"],
            "words": [
                {name: value for name, value in word.items() if name != "acoustic_features"}
                for word in segment["words"]
            ],
        }
        for segment in result["segments"]
    ]
    whole = {"text": result["text"], "language": result["language"], "duration": result["duration"]}
    return json.dumps({**whole, "segments": segments}, ensure_ascii=False, indent=2) + "\n"


def _several_speakers(passages: Sequence[Passage]) -> bool:
    return len({passage.speaker for passage in passages if passage.speaker}) > 1


def _label(speaker: str | None) -> str:
    return f"{speaker}: " if speaker else ""


def _srt_text(cue: Cue, named: bool) -> str:
    text = (_label(cue.speaker) if named else "") + "\n".join(cue.lines)
    return text.replace("-->", "→")  # players split at it, and nothing escapes it


def _vtt_text(cue: Cue) -> str:
    voice = f"<v {_escaped(cue.speaker)}>" if cue.speaker else ""
    return voice + "\n".join(_escaped(line) for line in cue.lines)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _wrapped(text: str) -> str:
    """Return a paragraph's lines, each with its end; a word wider than a line is broken."""
    lines: list[str] = []
    tokens = tokens_of(Passage(text, 0, 0), TEXT_COLUMNS)
    first, width = 0, 0
    for index, token in enumerate(tokens):
        needed = token.columns + (token.spaced and index > first)
        if index > first and width + needed > TEXT_COLUMNS:
            lines.append(joined(tokens[first:index]))
            first, width, needed = index, 0, token.columns
        width += needed
    return "".join(f"{line}\n" for line in (*lines, joined(tokens[first:])))


def _clock(time_ms: int, point: str) -> str:
    seconds, ms = divmod(time_ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
