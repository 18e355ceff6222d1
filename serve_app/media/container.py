"""`open_container`: opens a stranger's file with PyAV, so that FFmpeg reads that file and nothing else.

Playlists, concat scripts, SDP and image sequences can make FFmpeg open other files and addresses (CVE-2016-1897,
CVE-2016-1898). FFmpeg therefore gets a Python file object, no protocol, and only demuxers that read one file.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import BinaryIO

import av
from av.container import InputContainer

from serve_app.errors import AudioExtractionError
from serve_app.media.section import Section, SectionFile
from serve_app.sentences import Sentence

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


# Opening a file decodes a frame of every track to learn its format: of a cover picture too, which may take gigabytes.
AUDIO_ONLY = {"protocol_whitelist": "", "codec_whitelist": _audio_decoders()}  # options of FFmpeg
_OPTIONS = AUDIO_ONLY | {"format_whitelist": _DEMUXERS}
_IO_BUFFER_BYTES = 1 << 18
_PLAYLIST = re.compile(
    rb"#EXTM3U|ffconcat version|\[playlist\]|v=0\r?\n|<\?xml[^>]*>\s*<(MPD|smil)|<(MPD|smil|asx)\b", re.I
)
_MARKUP = re.compile(rb"<!doctype html|<html|<head|<body", re.I)

EMPTY = Sentence("The file is empty")
BROKEN = Sentence("The file is not media, or its header is broken or missing (an upload that was cut off?)")


def open_container(file: BinaryIO, section: Section) -> InputContainer:
    """Open a section of a file; AudioExtractionError where it is no media that is accepted here."""
    readable = SectionFile(file, section)
    try:
        return av.open(
            readable, mode="r", options=dict(_OPTIONS), buffer_size=_IO_BUFFER_BYTES, metadata_errors="replace"
        )
    except av.error.ArgumentError:  # raised by format_whitelist
        raise AudioExtractionError(
            Sentence("The file's format is not one that is accepted here (audio or video)")
        ) from None
    except av.error.MemoryError:
        raise AudioExtractionError(
            Sentence("The file's header asks for more memory than opening it may take")
        ) from None
    except av.error.FFmpegError:
        raise AudioExtractionError(BROKEN) from None


def refuse_by_head(head: bytes) -> None:
    """Raise AudioExtractionError for the first bytes of what is known to be no media."""
    if not head:
        raise AudioExtractionError(EMPTY)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if _MARKUP.match(start):
        raise AudioExtractionError(Sentence("The file is a web page (HTML), not media"))
    if _PLAYLIST.match(start):
        raise AudioExtractionError(Sentence("The file is a playlist; give the address of the media that it names"))
