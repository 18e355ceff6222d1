"""`decode_audio`, `AudioStream`: the sound of any container as mono float32, whole at 16 kHz or in blocks of any rate.

PyAV decodes; no ffmpeg binary is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np

from serve_app.errors import AudioExtractionError
from serve_app.media.container import BROKEN, EMPTY, refuse_by_head
from serve_app.media.downmix import channel_weights
from serve_app.media.samples import MAX_DURATION_S, DecodedAudio
from serve_app.media.section import Section, read_at
from serve_app.media.sections import sections_of
from serve_app.media.timeline import Timeline
from serve_app.media.track import open_track
from serve_app.results import SAMPLE_RATE_HZ
from serve_app.sentences import Sentence, to_json

# Silence in FLAC takes 50 bytes a second. A file with less for each second, and of more than ten minutes, is made to
# cost more than it is.
_FREE_S = 600.0
_BYTES_PER_S = 32.0
_REMOTE_BLOCK_BYTES = 1 << 22
_HEAD_BYTES = 1024
_MAX_NOTES = 20


def decode_audio(
    source: str | BinaryIO, *, max_duration_s: float = MAX_DURATION_S, audio_track: int | None = None
) -> DecodedAudio:
    """Decode an audio track: of several the default one, or the first that is not silent.

    The decodable part of a truncated or damaged file is returned, with a note. Files that follow one another in one
    are read one after the other. The mix weighs front channels alike and never clips; a stereo pair in opposite
    polarity does not cancel.

    Args:
        source: local path, fsspec URL, or seekable binary file.
        max_duration_s: a longer track is refused once that much is decoded, whatever its header declares.
        audio_track: number of the track to decode, from 0, among the audio tracks.

    Raises:
        AudioExtractionError: the file is at fault, so that another try fails too; or it has no such track.
        OSError: reading the source failed.
    """
    with _opened(source) as file:
        timeline = Timeline(max_duration_s, num_bytes=file.seek(0, os.SEEK_END))
        reading = _Reading(file, timeline, audio_track)
        for _ in reading.frames():
            pass
        samples, notes = timeline.finish()
        return DecodedAudio(samples, len(samples) / SAMPLE_RATE_HZ, (*notes, *reading.notes))


class AudioStream:
    """The audio track of `decode_audio` in blocks, in bounded memory.

    Each iteration reads the file from its start. Errors and arguments are those of `decode_audio`.

    Args:
        weigh: returns the channels' weights in the mix by their names (FFmpeg's: FL, FR, …).

    Attributes:
        duration_s: of the blocks so far.
        notes: as in `DecodedAudio`; complete at the end of the file.
    """

    def __init__(
        self,
        source: str | BinaryIO,
        *,
        sample_rate_hz: int,
        max_duration_s: float,
        weigh: Callable[[Sequence[str]], np.ndarray] = channel_weights,
        audio_track: int | None = None,
    ) -> None:
        self._source = source
        self._sample_rate_hz = sample_rate_hz
        self._max_duration_s = max_duration_s
        self._weigh = weigh
        self._audio_track = audio_track
        self.duration_s = 0.0
        self.notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (n,) float32, mono, finite, not limited to ±1; read-only."""
        with _opened(self._source) as file:
            timeline = Timeline(
                self._max_duration_s,
                num_bytes=file.seek(0, os.SEEK_END),
                sample_rate_hz=self._sample_rate_hz,
                weigh=self._weigh,
                streamed=True,
            )
            reading = _Reading(file, timeline, self._audio_track)
            for _ in reading.frames():
                yield from timeline.take()
            notes = timeline.end()
            self.duration_s = timeline.duration_s
            self.notes = (*notes, *reading.notes)
            yield from timeline.take()


@contextmanager
def _opened(source: str | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(source, str):
        yield source
        return
    if "://" in source:
        import fsspec  # here: it takes 7 MB, and a decoder's process needs none

        storage, path = fsspec.core.url_to_fs(source)
        file = cast(BinaryIO, storage.open(path, "rb", block_size=_REMOTE_BLOCK_BYTES, cache_type="readahead"))
    else:
        file = Path(source).open("rb")  # noqa: SIM115 - closed below
    with closing(file):
        yield file


class _Reading:
    """Reads the sections of a file into a timeline."""

    def __init__(self, file: BinaryIO, timeline: Timeline, audio_track: int | None) -> None:
        self._file, self._timeline, self._audio_track = file, timeline, audio_track
        self._num_bytes = file.seek(0, os.SEEK_END)
        self._notes: dict[str, None] = {}  # each once

    @property
    def notes(self) -> tuple[str, ...]:
        """What was missing or repaired; complete once `frames` ends."""
        notes = list(self._notes)
        if len(notes) <= _MAX_NOTES:
            return tuple(notes)
        left_out = Sentence("{num} more notes of this kind are left out", num=len(notes) - _MAX_NOTES)
        return (*notes[:_MAX_NOTES], left_out)

    def frames(self) -> Iterator[None]:
        """Yield after each frame; AudioExtractionError where no section has sound."""
        refuse_by_head(read_at(self._file, 0, _HEAD_BYTES))
        sections = sections_of(self._file)
        faults: list[str] = []
        for number, section in enumerate(sections, 1):
            fault = yield from self._section(section)
            if fault:
                faults.append(fault)
                note = Sentence(
                    "File {number} of those in this one can't be read: {reason}", number=number, reason=fault
                )
                self._notes[note] = None
        if len(faults) == len(sections):
            raise AudioExtractionError(faults[0])
        if len(sections) > 1:
            note = Sentence(
                "The file holds {num} files, one behind the other; they were read as one", num=len(sections)
            )
            self._notes = {note: None, **self._notes}

    def _section(self, section: Section) -> Generator[None, None, str | None]:
        """Read a section; return why it has no sound, or None."""
        with ExitStack() as opened:
            try:
                track = opened.enter_context(open_track(self._file, section, self._audio_track))
            except AudioExtractionError as error:
                return error.detail
            before_s = self._timeline.duration_s
            self._timeline.start_section(track.origin_s, track.declared_s)
            for frame in track.frames():
                self._timeline.add(frame)
                self._check_plausible()
                yield
            self._timeline.end_section()
            duration_s = self._timeline.duration_s - before_s
            if not duration_s:
                return track.why_empty()
            self._notes |= dict.fromkeys(track.closing_notes(duration_s))
            return None

    def _check_plausible(self) -> None:
        """Refuse more sound than a file of this size can hold."""
        duration_s = self._timeline.duration_s
        if duration_s > _FREE_S + self._num_bytes / _BYTES_PER_S:
            raise AudioExtractionError(
                Sentence(
                    "The file has {num_bytes} bytes for more than {minutes:.0f} minutes of sound, which is not "
                    "accepted",
                    num_bytes=self._num_bytes,
                    minutes=duration_s / 60,
                )
            )


def length_of(file: BinaryIO) -> float | None:
    """Return the seconds of sound that the headers declare, or that FFmpeg guesses. For `media.caged_audio`."""
    refuse_by_head(read_at(file, 0, _HEAD_BYTES))
    total_s = 0.0
    for section in sections_of(file):
        with open_track(file, section, 0) as track:
            guessed = track.container.duration
            length_s = track.declared_s or (None if guessed is None else guessed / av.time_base)
        if length_s is None:
            return None
        total_s += length_s
    return total_s


def why_no_sound(file: BinaryIO) -> dict[str, Any] | None:
    """Return why a file has no sound to begin with, as JSON; None where it has. For `media.caged_audio`."""
    try:
        refuse_by_head(read_at(file, 0, _HEAD_BYTES))
        with open_track(file, sections_of(file)[0], None) as track:
            if next(track.frames(), None) is not None:
                return None
            reason: str = track.why_empty()
    except AudioExtractionError as error:
        reason = error.detail
    return {"reason": to_json(reason), "is_broken": reason in (EMPTY, BROKEN)}


def sound_of(file: BinaryIO, **arguments: Any) -> Generator[np.ndarray, None, dict[str, Any]]:
    """Yield the blocks of `AudioStream`; return its duration and notes. For `media.caged_audio`."""
    stream = AudioStream(file, **arguments)
    yield from stream
    return {"duration_s": stream.duration_s, "notes": [to_json(note) for note in stream.notes]}
