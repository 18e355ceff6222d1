"""Small files with sound that ask for much: pictures of gigabytes, thousands of channels."""

from __future__ import annotations

import io
import struct
import zlib

import av
import numpy as np


def png(side_px: int) -> bytes:
    """Return a transparent black picture: some KB, and 4 bytes a pixel once decoded."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 4 * side_px)
    data = b"".join(packer.compress(row) for _ in range(side_px)) + packer.flush()
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )


def encoded(kind: str, codec: str, seconds: float = 2.0) -> bytes:
    """Return a tone."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=16_000, layout="mono")
        resampler = av.AudioResampler(
            format=stream.codec_context.format.name, layout="mono", rate=16_000, frame_size=stream.frame_size or 4096
        )
        tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * 16_000)) / 16_000, dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(tone[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate = 16_000
        for each in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(each))
        container.mux(stream.encode(None))
    return file.getvalue()


def mp3_with_covers(picture: bytes, copies: int) -> bytes:
    """Return an MP3 whose ID3 tag holds a picture several times."""
    sound = encoded("mp3", "libmp3lame")
    if sound.startswith(b"ID3"):
        sound = sound[10 + sum(byte << shift for byte, shift in zip(sound[6:10], (21, 14, 7, 0), strict=True)) :]
    body = b"\0image/png\0\3\0" + picture
    tag = (b"APIC" + _synchsafe(len(body)) + b"\0\0" + body) * copies
    return b"ID3\4\0\0" + _synchsafe(len(tag)) + tag + sound


def _synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))


def flac_with_cover(picture: bytes) -> bytes:
    """Return a FLAC with a picture block behind its first block."""
    sound = encoded("flac", "flac")
    head_end = 8 + int.from_bytes(sound[5:8], "big")
    body = struct.pack(">II", 3, 9) + b"image/png" + bytes(20) + struct.pack(">I", len(picture)) + picture
    block = b"\x06" + len(body).to_bytes(3, "big") + body
    return sound[:4] + bytes([sound[4] & 0x7F]) + sound[5:head_end] + block + sound[head_end:]


def matroska_with_video(picture: bytes, side_px: int) -> bytes:
    """Return a track of one PNG as video, and one of two seconds of silence."""

    def element(name: str, body: bytes) -> bytes:
        return bytes.fromhex(name) + (1 << 56 | len(body)).to_bytes(8, "big") + body

    def number(name: str, value: int) -> bytes:
        return element(name, value.to_bytes(max(1, -(-value.bit_length() // 8)), "big"))

    def block(track: int, body: bytes) -> bytes:
        return element("A3", bytes([0x80 | track]) + b"\0\0\x80" + body)

    codec = struct.pack("<IiiHH4sIiiII", 40, side_px, side_px, 1, 32, b"MPNG", 0, 0, 0, 0, 0)
    shape = element("E0", number("B0", side_px) + number("BA", side_px))
    video = number("D7", 1) + number("73C5", 1) + number("83", 1) + element("86", b"V_MS/VFW/FOURCC")
    rate = element("E1", element("B5", struct.pack(">d", 16_000.0)) + number("9F", 1) + number("6264", 16))
    audio = number("D7", 2) + number("73C5", 2) + number("83", 2) + element("86", b"A_PCM/INT/LIT") + rate
    tracks = element("AE", video + element("63A2", codec) + shape) + element("AE", audio)
    info = number("2AD7B1", 1_000_000) + element("4D80", b"x") + element("5741", b"x")
    cluster = number("E7", 0) + block(1, picture) + b"".join(block(2, bytes(3200)) for _ in range(20))
    head = b"".join(number(name, value) for name, value in (("4286", 1), ("42F7", 1), ("42F2", 4), ("42F3", 8)))
    return element("1A45DFA3", head + element("4282", b"matroska") + number("4287", 4) + number("4285", 2)) + element(
        "18538067", element("1549A966", info) + element("1654AE6B", tracks) + element("1F43B675", cluster)
    )


def wav_of_channels(num_channels: int) -> bytes:
    """Return a WAV of two frames of so many channels, whose format block is right."""
    data = bytes(4 * num_channels)
    shape = struct.pack("<HHIIHH", 1, num_channels, 16_000, 32_000 * num_channels, 2 * num_channels & 0xFFFF, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + shape + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body
