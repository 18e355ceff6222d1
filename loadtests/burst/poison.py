"""Files made to hurt the service, each with the ends that its job may have."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import av
from PIL import Image

from loadtests.images.crafted import blank_png

_RATE_HZ = 16_000
_COMPLETED, _NO_SOUND, _NO_FILE = "completed", "AUDIO_EXTRACTION_ERROR", "DOWNLOAD_ERROR"


class Way(StrEnum):
    """How a file reaches the service."""

    VIDEO_JOB = "video job"
    MUSIC_JOB = "music job"
    MUSIC_UPLOAD = "music upload"
    PICTURE = "picture route"


@dataclass(frozen=True, slots=True)
class Poison:
    """One file.

    Attributes:
        name: also the name of the file that is served.
        way: to the service.
        make: returns its bytes; None: the file is not there.
        ends: `completed` and error codes that its job may end with. A refusal (400, 413, 422) is a right answer to an
            upload, too.
        longest_s: a completed job's sound is not longer.
    """

    name: str
    way: Way
    make: Callable[[], bytes] | None
    ends: frozenset[str]
    longest_s: float = 60.0


def poison_files(side_px: int) -> list[Poison]:
    """Return all twenty.

    Args:
        side_px: of the pictures that cost most; 16 000 and more take gigabytes to decode.
    """
    sound = frozenset({_COMPLETED, _NO_SOUND})
    broken = frozenset({_NO_SOUND})
    picture = frozenset({_COMPLETED, _NO_FILE, "PROCESSING_ERROR"})
    refused: frozenset[str] = frozenset()
    tile_px = side_px // 16 * 16

    def cover(depth: int = 8) -> bytes:
        return blank_png(side_px, side_px, depth=depth, colour=6)

    return [
        Poison("cover.mp3", Way.VIDEO_JOB, lambda: _mp3(cover(), 1), sound),
        Poison("text.mp4", Way.VIDEO_JOB, lambda: b"I am no video\n" * 1000, broken),
        Poison("tile.tif", Way.PICTURE, lambda: _tiled_tiff(tile_px), refused),
        Poison("jump.ts", Way.VIDEO_JOB, lambda: _jumping(3.3 * 3600), sound),
        Poison("four-covers.mp3", Way.VIDEO_JOB, lambda: _mp3(cover(), 4), sound),
        Poison("music-tile.tif", Way.MUSIC_UPLOAD, lambda: _tiled_tiff(tile_px), picture),
        Poison("random.mp4", Way.VIDEO_JOB, lambda: os.urandom(200_000), broken),
        Poison("cover.flac", Way.VIDEO_JOB, lambda: _flac(cover()), sound),
        Poison("music-url-tile.tif", Way.MUSIC_JOB, lambda: _tiled_tiff(tile_px), picture - {_COMPLETED}),
        Poison("frame.mkv", Way.VIDEO_JOB, lambda: _mkv(cover(), side_px), sound),
        Poison("channels.wav", Way.VIDEO_JOB, lambda: _wav(65_535), sound),
        Poison("not-there.mp4", Way.VIDEO_JOB, None, frozenset({_NO_FILE})),
        Poison("large.webp", Way.PICTURE, lambda: _webp(7_000), frozenset({_COMPLETED})),
        Poison("deep-covers.mp3", Way.VIDEO_JOB, lambda: _mp3(cover(16), 2), sound),
        Poison("late.ts", Way.VIDEO_JOB, lambda: _jumping(1.0 * 3600, num_jumps=3), sound),
        Poison("silent.mp4", Way.VIDEO_JOB, _without_sound, broken),
        Poison("deep-tile.tif", Way.PICTURE, lambda: _tiled_tiff(tile_px, bits=16), refused),
        Poison("deep-frame.mkv", Way.VIDEO_JOB, lambda: _mkv(cover(16), side_px), sound),
        Poison("wide.png", Way.MUSIC_UPLOAD, lambda: blank_png(60_000, 800), picture),
        Poison("cut.mp3", Way.VIDEO_JOB, lambda: _mp3(cover(), 1)[:50_000], broken),
    ]


def _encoded(form: str, codec: str, num_frames: int, jump_after: Callable[[int], float] = lambda number: 0.0) -> bytes:
    """Return silence; frame by frame, time stamps are late by the sum of `jump_after` (seconds)."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=_RATE_HZ, layout="mono")
        size = stream.codec_context.frame_size or 1152
        late, packets = 0.0, []
        for number in range(num_frames):
            frame = av.AudioFrame(format=stream.codec_context.format.name, layout="mono", samples=size)
            frame.sample_rate, frame.pts, frame.time_base = _RATE_HZ, number * size, Fraction(1, _RATE_HZ)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            packets += stream.encode(frame)
            if number == 0:
                size = stream.codec_context.frame_size or size
        packets += stream.encode(None)
        for number, packet in enumerate(packets):
            late += jump_after(number)
            ticks = round(late / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            container.mux(packet)
    return file.getvalue()


def _jumping(seconds: float, num_jumps: int = 1) -> bytes:
    """Return an MPEG transport stream of some seconds of sound whose time stamps jump ahead."""
    return _encoded("mpegts", "mp2", 120, lambda number: seconds if 40 <= number < 40 + num_jumps else 0.0)


def _mp3(cover: bytes, copies: int) -> bytes:
    """Return 3 s of MP3 behind an ID3 tag with the cover picture."""
    sound = _encoded("mp3", "mp3", 42)
    if sound[:3] == b"ID3":
        sound = sound[10 + sum((byte & 127) << 7 * (3 - place) for place, byte in enumerate(sound[6:10])) :]
    body = b"\0image/png\0\3\0" + cover
    frames = (b"APIC" + _synchsafe(len(body)) + b"\0\0" + body) * copies
    return b"ID3\4\0\0" + _synchsafe(len(frames)) + frames + sound


def _synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))


def _flac(cover: bytes) -> bytes:
    data = _encoded("flac", "flac", 12)
    end = 8 + int.from_bytes(data[5:8], "big")  # of STREAMINFO, which says no more that it is the last block
    picture = struct.pack(">II9sIIIIII", 3, 9, b"image/png", 0, 0, 0, 0, 0, len(cover)) + cover
    block = b"\6" + len(picture).to_bytes(3, "big") + picture
    return b"fLaC" + bytes([data[4] & 127]) + data[5:end] + block + data[end:]


def _mkv(picture: bytes, side_px: int) -> bytes:
    """Return Matroska with a video track of one PNG, and 1 s of PCM."""

    def element(name: str, content: bytes) -> bytes:
        return bytes.fromhex(name) + (1 << 56 | len(content)).to_bytes(8, "big") + content

    def number(name: str, value: int) -> bytes:
        return element(name, value.to_bytes(4, "big"))

    def block(track: int, content: bytes) -> bytes:
        return element("A3", bytes([0x80 | track]) + b"\0\0\x80" + content)

    head = element("1A45DFA3", number("42F7", 1) + element("4282", b"matroska") + number("4287", 4) + number("4285", 2))
    private = struct.pack("<IiiHH4sIiiII", 40, side_px, side_px, 1, 32, b"MPNG", 0, 0, 0, 0, 0)
    size = element("E0", number("B0", side_px) + number("BA", side_px))
    codec = element("86", b"V_MS/VFW/FOURCC") + element("63A2", private)
    video = element("AE", number("D7", 1) + number("73C5", 1) + number("83", 1) + codec + size)
    sampling = element("E1", element("B5", struct.pack(">d", _RATE_HZ)) + number("9F", 1) + number("6264", 16))
    audio = element(
        "AE", number("D7", 2) + number("73C5", 2) + number("83", 2) + element("86", b"A_PCM/INT/LIT") + sampling
    )
    sound = b"".join(block(2, bytes(3200)) for _ in range(10))
    cluster = element("1F43B675", number("E7", 0) + block(1, picture) + sound)
    return head + element("18538067", element("1549A966", b"") + element("1654AE6B", video + audio) + cluster)


def _wav(channels: int) -> bytes:
    samples = bytes(2 * channels * 16)
    form = struct.pack(
        "<HHIIHH", 1, channels, _RATE_HZ, 2 * channels * _RATE_HZ & 0xFFFF_FFFF, 2 * channels & 0xFFFF, 16
    )
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def _without_sound() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), (number * 20, 0, 0)))
            frame.pts, frame.time_base = number, Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def _webp(side_px: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side_px, side_px)).save(file, "WEBP", lossless=True, quality=0, method=0)
    return file.getvalue()


def _tiled_tiff(tile_px: int, bits: int = 8) -> bytes:
    """Return a TIFF of 16 × 16 pixels in one tile of `tile_px` × `tile_px`, of which hardly anything is there."""
    samples = 4
    packed = zlib.compress(bytes(1000))
    shorts, longs = 3, 4
    after = 8 + 2 + 12 * 13 + 4
    entries = [
        (256, longs, 1, 16),
        (257, longs, 1, 16),
        (258, shorts, samples, after),
        (259, shorts, 1, 8),
        (262, shorts, 1, 2),
        (277, shorts, 1, samples),
        (284, shorts, 1, 1),
        (322, longs, 1, tile_px),
        (323, longs, 1, tile_px),
        (324, longs, 1, after + 2 * samples),
        (325, longs, 1, len(packed)),
        (338, shorts, 1, 2),
        (339, shorts, 1, 1),
    ]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    depths = struct.pack("<H", bits) * samples
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + depths + packed
