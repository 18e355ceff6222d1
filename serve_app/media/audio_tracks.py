"""`choose_track`: one audio track of a file that may have several, and a note of the others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, cast

import av
import numpy as np
from av.audio.stream import AudioStream as AudioTrack
from av.container import InputContainer
from av.stream import Discard, Disposition

from serve_app.errors import AudioExtractionError
from serve_app.media.container import open_container
from serve_app.media.section import Section
from serve_app.media.timeline import Timeline
from serve_app.results import SAMPLE_RATE_HZ
from serve_app.sentences import Sentence, joined

MAX_CHANNELS = 64
# So much of a file with several tracks is read to find one that is not silent.
_PROBED_S = 300.0
_MOST_PROBED = 16
_SILENT_BELOW = 1e-4  # -80 dBFS: a codec's noise at digital silence lies below
_MOST_LISTED = 32
_MAX_TITLE = 40


def choose_track(
    container: InputContainer, file: BinaryIO, section: Section, wanted: int | None
) -> tuple[AudioTrack, tuple[str, ...]]:
    """Return the track to decode, and a note of the others where the caller did not name one.

    It is the track of the number `wanted`; else the default one, or the first, unless it is silent for five minutes
    and another one is not. The other streams of the container are discarded.

    Raises:
        AudioExtractionError: there is no such track, its codec is not supported, or it has too many channels.
    """
    tracks = container.streams.audio
    if not tracks:
        raise AudioExtractionError(Sentence("The file has no audio track"))
    if wanted is not None:
        if not 0 <= wanted < len(tracks):
            raise AudioExtractionError(
                Sentence("The file has no audio track {wanted}; it has {tracks}", wanted=wanted, tracks=_listed(tracks))
            )
        candidates = [tracks[wanted]]
    else:
        candidates = sorted(tracks, key=lambda track: not track.disposition & Disposition.default)
    usable = [track for track in candidates if track.codec_context is not None]
    if not usable:
        raise AudioExtractionError(Sentence("The audio track's codec is not supported"))
    chosen = usable[0] if len(usable) == 1 else _first_with_sound(file, section, usable)
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    num_channels = chosen.codec_context.layout.nb_channels
    if num_channels > MAX_CHANNELS:  # before a frame of them is allocated
        raise AudioExtractionError(
            Sentence("The audio has {num} channels; at most {most} are accepted", num=num_channels, most=MAX_CHANNELS)
        )
    chosen.codec_context.thread_count = 1
    if wanted is not None or len(tracks) == 1:
        return chosen, ()
    note = Sentence(
        "The file has {num} audio tracks: {tracks}; track {index} was taken, and audio_track selects another",
        num=len(tracks),
        tracks=_listed(tracks),
        index=_number(tracks, chosen),
    )
    return chosen, (note,)


def _first_with_sound(file: BinaryIO, section: Section, candidates: Sequence[AudioTrack]) -> AudioTrack:
    """Return the first of several tracks that is not silent at its start; the first of all where each is."""
    by_index = {track.index: track for track in candidates[:_MOST_PROBED]}
    first = candidates[0].index
    heard: set[int] = set()
    with open_container(file, section) as container:
        streams = [stream for stream in container.streams.audio if stream.index in by_index]
        for stream in container.streams:
            if stream not in streams:
                stream.discard = Discard.all
        streams = [stream for stream in streams if stream.codec_context.layout.nb_channels <= MAX_CHANNELS]
        timelines = {stream.index: _timeline() for stream in streams}
        packets = container.demux(streams)
        while first not in heard and all(each.num_samples < _PROBED_S * SAMPLE_RATE_HZ for each in timelines.values()):
            try:
                packet = next(packets)
            except (StopIteration, IndexError, av.error.FFmpegError):
                break
            index = packet.stream.index
            if index not in timelines or index in heard:
                continue
            with suppress(AudioExtractionError, av.error.FFmpegError):
                for frame in cast(AudioTrack, packet.stream).codec_context.decode(packet):
                    timelines[index].add(frame)
            if _is_loud(timelines[index]):
                heard.add(index)
        for index, timeline in timelines.items():
            with suppress(AudioExtractionError):
                timeline.end()
            if _is_loud(timeline):
                heard.add(index)
    return next((track for index, track in by_index.items() if index in heard), candidates[0])


def _timeline() -> Timeline:
    return Timeline(2 * _PROBED_S, streamed=True)


def _is_loud(timeline: Timeline) -> bool:
    return any(np.abs(block).max(initial=0.0) > _SILENT_BELOW for block in timeline.take())


def _listed(tracks: Sequence[AudioTrack]) -> Sentence:
    return joined("; ", [_described(number, track) for number, track in enumerate(tracks[:_MOST_LISTED])])


def _described(number: int, track: AudioTrack) -> Sentence:
    """Return a track's number, language and title, and its number of channels."""
    language = track.metadata.get("language", "")
    names = [_clean(name) for name in (language if language != "und" else "", track.metadata.get("title", ""))]
    name = ", ".join([str(number), *filter(None, names)])
    num_channels = track.codec_context.layout.nb_channels if track.codec_context is not None else 0
    if num_channels == 1:
        return Sentence("{name} (1 channel)", name=name)
    return Sentence("{name} ({num} channels)", name=name, num=num_channels)


def _clean(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_MAX_TITLE]


def _number(tracks: Sequence[AudioTrack], chosen: AudioTrack) -> int:
    return next(number for number, track in enumerate(tracks) if track.index == chosen.index)
