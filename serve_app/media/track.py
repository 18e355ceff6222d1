"""`open_track`: the audio track of an open media file: its frames, and what the file says of their times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream as AudioTrack
from av.container import InputContainer
from av.packet import Packet

from serve_app.media.audio_tracks import choose_track
from serve_app.media.container import open_container
from serve_app.media.section import Section
from serve_app.sentences import Sentence

# Their headers declare the duration of the sound; for others FFmpeg guesses it from the bit rate.
_TRUSTED_DURATIONS = frozenset({"mov", "matroska", "wav", "w64", "flac", "aiff", "caf"})
# Of these FFmpeg guesses it too, unless the samples are plain numbers.
_BY_RATE = frozenset({"wav", "w64", "aiff"})
# Their time stamps begin with the file: sound that starts at 5 s does so for every player. A file that starts later
# than a minute was cut from a longer one.
_OWN_CLOCK = frozenset({"mov", "matroska"})
_LATEST_START_S = 60.0
_TRUNCATED_S = 1.0


@dataclass(slots=True)
class Track:
    """The audio track of an open file, and what went wrong while it was read."""

    container: InputContainer
    stream: AudioTrack
    origin_s: float | None  # time stamp of the start of the file
    declared_s: float | None  # duration that the file declares
    is_cut_off: bool
    notes: tuple[str, ...]
    num_damaged: int = 0  # packets

    def frames(self) -> Iterator[AudioFrame]:
        """Decode to the end of the file, or to where it is broken."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, IndexError, av.error.FFmpegError) as error:
                # PyAV raises IndexError at the end of a file in which a stream appeared in the middle
                self.is_cut_off |= isinstance(error, av.error.FFmpegError)
                if not isinstance(error, StopIteration):
                    yield from self._decoded(None)
                return
            if packet.stream.index == self.stream.index:
                yield from self._decoded(packet)

    def why_empty(self) -> Sentence:
        """Return why the track gave no sound."""
        reason = Sentence("every packet is damaged") if self.num_damaged else Sentence("it is empty")
        return Sentence(
            "The audio track ({codec}) holds no sound that can be decoded: {reason}",
            codec=self.stream.codec_context.name,
            reason=reason,
        )

    def closing_notes(self, duration_s: float) -> list[str]:
        """Return notes on the file, and on what was missing."""
        notes: list[str] = [*self.notes]
        if self.num_damaged:
            notes.append(Sentence("{num} damaged audio packets were skipped", num=self.num_damaged))
        declared_s = self.declared_s or 0.0
        if declared_s - duration_s > max(_TRUNCATED_S, 0.02 * declared_s):
            notes.append(
                Sentence(
                    "The file is cut off: {duration:.1f} s of the declared {declared:.1f} s are there",
                    duration=duration_s,
                    declared=declared_s,
                )
            )
        elif self.is_cut_off:
            notes.append(Sentence("The file is cut off or damaged after {duration:.1f} s", duration=duration_s))
        return notes

    def _decoded(self, packet: Packet | None) -> list[AudioFrame]:
        """Decode a packet, or the rest that the decoder holds (None)."""
        try:
            return self.stream.codec_context.decode(packet)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError:
            self.num_damaged += 1
            return []


@contextmanager
def open_track(file: BinaryIO, section: Section, audio_track: int | None) -> Iterator[Track]:
    """Open a section of a file, and yield the track to decode; errors as of `open_container` and `choose_track`."""
    with open_container(file, section) as container:
        stream, notes = choose_track(container, file, section, audio_track)
        origin_s = _origin_s(container)
        declared_s = _declared_duration_s(container, stream, origin_s or 0.0)
        yield Track(container, stream, origin_s, declared_s, section.is_cut_off, (*section.notes, *notes))


def _formats(container: InputContainer) -> set[str]:
    return set(container.format.name.split(","))


def _origin_s(container: InputContainer) -> float | None:
    """Return the time stamp of the start of the file; None where it is that of the first frame."""
    if container.start_time is None:
        return None
    start_s = float(container.start_time / av.time_base)
    return 0.0 if 0 < start_s <= _LATEST_START_S and _OWN_CLOCK & _formats(container) else start_s


def _declared_duration_s(container: InputContainer, stream: AudioTrack, origin_s: float) -> float | None:
    """Return the declared duration of the sound from the start of the file; None where there is none."""
    formats = _formats(container)
    if not _TRUSTED_DURATIONS & formats or (_BY_RATE & formats and not stream.codec_context.name.startswith("pcm_")):
        return None
    if stream.duration is not None and stream.time_base is not None:
        lead_s = float((stream.start_time or 0) * stream.time_base) - origin_s
        return float(stream.duration * stream.time_base) + max(0.0, lead_s)
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", "").strip())
    if match:  # Matroska: end of the last block, per track
        return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) - origin_s
    if len(container.streams) == 1 and container.duration is not None:
        return container.duration / av.time_base
    return None
