"""`decode_audio`, `AudioStream`: the sound of any container as mono float32, whole at 16 kHz or in blocks of any rate.

PyAV decodes; no ffmpeg binary is needed. Playlists, concat scripts, SDP and image sequences can make FFmpeg open other
files and addresses (CVE-2016-1897, CVE-2016-1898). FFmpeg therefore gets a Python file object, no protocol, and only
demuxers that read one file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream as AudioTrack
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition

from serve_app.errors import AudioExtractionError
from serve_app.media.downmix import channel_weights
from serve_app.media.samples import MAX_DURATION_S, DecodedAudio
from serve_app.media.timeline import Timeline
from serve_app.results import SAMPLE_RATE_HZ

_DEMUXERS = (
    "3gp,aa,aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,dv,eac3,flac,flv,gsm,gxf,loas,m4a,matroska,"
    "mlp,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,nut,ogg,oma,qcp,rm,sox,tak,truehd,tta,voc,w64,wav,webm,wtv,wv"
)


def _audio_decoders() -> str:
    names = []
    for name in av.codecs_available:
        with suppress(av.codec.codec.UnknownCodecError):  # of one that encodes only
            if av.Codec(name, "r").type == "audio":
                names.append(name)
    return ",".join(sorted({*names} - {"wavesynth"}))  # which makes sound by instructions


# Their headers declare the duration of the sound; for others FFmpeg guesses it from the bit rate.
_TRUSTED_DURATIONS = frozenset({"mov", "matroska", "wav", "w64", "flac", "aiff", "caf"})
# Opening a file decodes a frame of every track to learn its format: of a cover picture too, which may take gigabytes.
AUDIO_ONLY = {"protocol_whitelist": "", "codec_whitelist": _audio_decoders()}  # options of FFmpeg
_OPTIONS = AUDIO_ONLY | {"format_whitelist": _DEMUXERS}
_MAX_CHANNELS = 64
# Silence in FLAC takes 50 bytes a second. A file with less for each second, and of more than ten minutes, is made to
# cost more than it is.
_FREE_S = 600.0
_BYTES_PER_S = 32.0
_IO_BUFFER_BYTES = 1 << 18
_REMOTE_BLOCK_BYTES = 1 << 22
_HEAD_BYTES = 1024
_PLAYLIST = re.compile(
    rb"#EXTM3U|ffconcat version|\[playlist\]|v=0\r?\n|<\?xml[^>]*>\s*<(MPD|smil)|<(MPD|smil|asx)\b", re.I
)
_MARKUP = re.compile(rb"<!doctype html|<html|<head|<body", re.I)
_TRUNCATED_S = 1.0


def decode_audio(source: str | BinaryIO, *, max_duration_s: float = MAX_DURATION_S) -> DecodedAudio:
    """Decode the default audio track, or the first.

    The decodable part of a truncated or damaged file is returned, with a note. The mix weighs front channels alike and
    never clips; a stereo pair in opposite polarity does not cancel.

    Args:
        source: local path, fsspec URL, or seekable binary file.
        max_duration_s: a longer track is refused once that much is decoded, whatever its header declares.

    Raises:
        AudioExtractionError: the file is at fault, so that another try fails too.
        OSError: reading the source failed.
    """
    with _opened(source) as file, _open_track(file) as track:
        timeline = Timeline(track.origin_s, track.declared_s, max_duration_s, num_bytes=track.num_bytes)
        for frame in track.frames():
            timeline.add(frame)
            track.check_plausible(timeline.num_samples / SAMPLE_RATE_HZ)
        samples, notes = timeline.finish()
        duration_s = len(samples) / SAMPLE_RATE_HZ
        return DecodedAudio(samples, duration_s, (*notes, *track.closing_notes(duration_s)))


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
    ) -> None:
        self._source = source
        self._sample_rate_hz = sample_rate_hz
        self._max_duration_s = max_duration_s
        self._weigh = weigh
        self.duration_s = 0.0
        self.notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (n,) float32, mono, finite, not limited to ±1; read-only."""
        with _opened(self._source) as file, _open_track(file) as track:
            timeline = Timeline(
                track.origin_s,
                track.declared_s,
                self._max_duration_s,
                num_bytes=track.num_bytes,
                sample_rate_hz=self._sample_rate_hz,
                weigh=self._weigh,
                streamed=True,
            )
            for frame in track.frames():
                timeline.add(frame)
                track.check_plausible(timeline.num_samples / self._sample_rate_hz)
                yield from timeline.take()
            notes = timeline.end()
            self.duration_s = timeline.num_samples / self._sample_rate_hz
            self.notes = (*notes, *track.closing_notes(self.duration_s))
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


@dataclass(slots=True)
class _Track:
    """The audio track of an open file, and what went wrong while it was read."""

    container: InputContainer
    stream: AudioTrack
    num_bytes: int  # of the file
    origin_s: float | None  # time stamp of the start of the file
    declared_s: float | None  # duration that the file declares
    is_cut_off: bool
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

    def check_plausible(self, duration_s: float) -> None:
        """Refuse more sound than a file of this size can hold."""
        if duration_s > _FREE_S + self.num_bytes / _BYTES_PER_S:
            raise AudioExtractionError(
                f"The file has {self.num_bytes} bytes for more than {duration_s / 60:.0f} minutes of sound, which is "
                "not accepted"
            )

    def closing_notes(self, duration_s: float) -> tuple[str, ...]:
        """Return notes on what was missing, or raise AudioExtractionError if everything was."""
        if not duration_s:
            reason = "every packet is damaged" if self.num_damaged else "it is empty"
            codec = self.stream.codec_context.name
            raise AudioExtractionError(f"The audio track ({codec}) holds no sound that can be decoded: {reason}")
        notes = [f"{self.num_damaged} damaged audio packets were skipped"] if self.num_damaged else []
        declared_s = self.declared_s or 0.0
        if declared_s - duration_s > max(_TRUNCATED_S, 0.02 * declared_s):
            notes.append(f"The file is cut off: {duration_s:.1f} s of the declared {declared_s:.1f} s are there")
        elif self.is_cut_off:
            notes.append(f"The file is cut off or damaged after {duration_s:.1f} s")
        return tuple(notes)

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
def _open_track(file: BinaryIO) -> Iterator[_Track]:
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    _refuse_by_head(head)
    with _open_container(file) as container:
        stream = _select_stream(container)
        origin_s = container.start_time / av.time_base if container.start_time is not None else None
        declared_s = _declared_duration_s(container, stream)
        yield _Track(container, stream, num_bytes, origin_s, declared_s, is_cut_off=_riff_bytes(head) > num_bytes)


def _refuse_by_head(head: bytes) -> None:
    if not head:
        raise AudioExtractionError("The file is empty")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if _MARKUP.match(start):
        raise AudioExtractionError("The file is a web page (HTML), not media")
    if _PLAYLIST.match(start):
        raise AudioExtractionError("The file is a playlist; give the address of the media that it names")


def _riff_bytes(head: bytes) -> int:
    """Return the size that a WAV or AVI header declares; 0 where there is none, or its writer did not know it.

    FFmpeg reads the file's size instead, and takes a cut-off WAV for a whole one.
    """
    if head[:4] != b"RIFF" or len(head) < 8:
        return 0
    declared = int.from_bytes(head[4:8], "little")
    return declared + 8 if declared < 0x7FFF0000 else 0  # greater: "unknown", as written to a pipe


def _open_container(file: BinaryIO) -> InputContainer:
    try:
        return av.open(file, mode="r", options=dict(_OPTIONS), buffer_size=_IO_BUFFER_BYTES, metadata_errors="replace")
    except av.error.ArgumentError:  # raised by format_whitelist
        raise AudioExtractionError("The file's format is not one that is accepted here (audio or video)") from None
    except av.error.MemoryError:
        raise AudioExtractionError("The file's header asks for more memory than opening it may take") from None
    except av.error.FFmpegError:
        raise AudioExtractionError(
            "The file is not media, or its header is broken or missing (an upload that was cut off?)"
        ) from None


def _select_stream(container: InputContainer) -> AudioTrack:
    tracks = container.streams.audio
    if not tracks:
        raise AudioExtractionError("The file has no audio track")
    usable = [track for track in tracks if track.codec_context is not None]
    if not usable:
        raise AudioExtractionError("The audio track's codec is not supported")
    chosen = next((track for track in usable if track.disposition & Disposition.default), usable[0])
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    if chosen.codec_context.layout.nb_channels > _MAX_CHANNELS:  # before a frame of them is allocated
        raise AudioExtractionError(
            f"The audio has {chosen.codec_context.layout.nb_channels} channels; at most {_MAX_CHANNELS} are accepted"
        )
    chosen.codec_context.thread_count = 1
    return chosen


def _declared_duration_s(container: InputContainer, stream: AudioTrack) -> float | None:
    """Return the declared duration of the sound from the start of the file; None where there is none."""
    if not _TRUSTED_DURATIONS & set(container.format.name.split(",")):
        return None
    if stream.duration is not None and stream.time_base is not None:
        lead = (stream.start_time or 0) * stream.time_base - (container.start_time or 0) / av.time_base
        return float(stream.duration * stream.time_base + max(0, lead))
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", "").strip())
    if match:  # Matroska: end of the last block, per track
        return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
    if len(container.streams) == 1 and container.duration is not None:
        return container.duration / av.time_base
    return None


def sound_of(file: BinaryIO, **arguments: Any) -> Generator[np.ndarray, None, dict[str, Any]]:
    """Yield the blocks of `AudioStream`; return its duration and notes. For `media.caged_audio`."""
    stream = AudioStream(file, **arguments)
    yield from stream
    return {"duration_s": stream.duration_s, "notes": list(stream.notes)}
