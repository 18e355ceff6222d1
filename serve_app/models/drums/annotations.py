"""Annotations: drum strokes written down by hand, `time<TAB>label`, and the recordings that they belong to.

Labels are those of MDB Drums (Southall et al., ISMIR-LBD 2017), classes and subclasses, of ENST-Drums, plain names, and
General MIDI notes. As there, a cross-stick (SST, GM 37) is no snare, a pedal hi-hat is a hi-hat, and brushes, drags,
flams, ghost notes and strokes without the snares are a snare. Other labels are left out and counted.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from serve_app.errors import InvalidRequest
from serve_app.results import Drum
from serve_app.sentences import Sentence

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".mp4"})
ANNOTATION_SUFFIXES = frozenset({".txt", ".tsv", ".csv", ".lab", ".ann", ".drums"})

_LABELS = {
    Drum.KICK: ("kd", "bd", "kick", "kickdrum", "bass drum", "bassdrum", "35", "36"),
    # of MDB Drums: brush, drag, flam, ghost note, no snares; of ENST-Drums: no snares, rim shot
    Drum.SNARE: ("sd", "snare", "snaredrum", "snare drum", "38", "40", "sdb", "sdd", "sdf", "sdg", "sdns", "sd-", "rs"),
    Drum.HIHAT: ("hh", "hihat", "hi-hat", "hi hat", "42", "44", "46", "chh", "ohh", "phh"),
}
_DRUM_OF = {label: drum for drum, labels in _LABELS.items() for label in labels}

_BLANKS = re.compile(r"[\s,;]+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_UNCERTAIN = "?"
_COMMENT = ("#", "%", "//")
# Data sets append these to a recording's name: MusicDelta_80sRock_Drum.wav, MusicDelta_80sRock_class.txt.
_NAME_ENDS = re.compile(
    r"[ _.#-]+(drums?|only|mix|fullmix|full|audio|(sub)?class(es)?|onsets?|anno|annotations?|hits|labels?)$"
)
_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)", re.IGNORECASE)
_MAX_HEADER_LINES = 5
_MAX_ANNOTATION_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Annotation:
    """The strokes of one recording.

    Attributes:
        times_s: strokes of each drum, in order.
        uncertain_s: strokes that the annotator marked as uncertain, in order.
        left_out: labels of other instruments, and how often each occurs.
    """

    times_s: Mapping[Drum, tuple[float, ...]]
    uncertain_s: Mapping[Drum, tuple[float, ...]]
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Recordings with their annotations.

    Attributes:
        pairs: recording and annotation, by the recording's name.
        audio_alone: recordings that no annotation belongs to.
        annotations_alone: annotations that belong to no recording.
    """

    pairs: tuple[tuple[Path, Path], ...]
    audio_alone: tuple[Path, ...]
    annotations_alone: tuple[Path, ...]


def drum_of(label: str) -> Drum | None:
    """Return the drum that a label means; None for another instrument and for an unknown label."""
    return _DRUM_OF.get(label.strip().strip("\"'").lower())


def read_annotation(path: Path) -> Annotation:
    """Return the strokes of an annotation's file.

    A line is a time in seconds and a label, separated by tabs, spaces, commas or semicolons. Of three columns (start,
    end, label; or time, note, velocity) the label is the first that is no number, else the second. A last column `?`
    marks a stroke as uncertain. Lines before the first stroke are a header; empty lines and comments are skipped.

    Raises:
        InvalidRequest: the file can't be read, or a line is malformed; names the line.
    """
    times_s: dict[Drum, list[float]] = {drum: [] for drum in Drum}
    uncertain_s: dict[Drum, list[float]] = {drum: [] for drum in Drum}
    left_out: Counter[str] = Counter()
    began = False
    for number, line in enumerate(_lines(path), start=1):
        text = line.strip()
        if not text or text.startswith(_COMMENT):
            continue
        time_text, *rest = _columns(text)
        if not _NUMBER.fullmatch(time_text):
            if began or number > _MAX_HEADER_LINES:
                raise InvalidRequest(
                    Sentence(
                        "{path}, line {number}: {text} does not begin with a time in seconds",
                        path=path,
                        number=number,
                        text=repr(text[:80]),
                    )
                )
            continue
        began = True
        time_s = float(time_text)
        if not rest or not math.isfinite(time_s) or time_s < 0:
            raise InvalidRequest(
                Sentence(
                    "{path}, line {number}: {text} is no time in seconds with a label",
                    path=path,
                    number=number,
                    text=repr(text[:80]),
                )
            )
        is_certain = len(rest) == 1 or rest[-1] != _UNCERTAIN
        label = _label(rest if is_certain else rest[:-1])
        drum = drum_of(label)
        if drum is None:
            left_out[label] += 1
        else:
            (times_s if is_certain else uncertain_s)[drum].append(time_s)
    return Annotation(_in_order(times_s), _in_order(uncertain_s), dict(left_out))


def pair_files(audio_dir: Path, annotation_dir: Path) -> Pairing:
    """Pair the recordings and annotations of two folders, which may be the same.

    Names are compared without the endings of data sets (`_Drum`, `_MIX`, `_class`, …), composed or not. A recording
    without a partner then gets the annotation whose name is the same but for percent-encoding and the eight digits that
    Label Studio puts before an upload's name, else the one with the longest name that its own begins with. Of several
    annotations of a recording (MDB Drums has classes and subclasses) the one with the shortest name is used.

    Raises:
        InvalidRequest: a folder is missing, or has no recordings or annotations.
    """
    recordings = _files(audio_dir, AUDIO_SUFFIXES, Sentence("recordings"))
    annotations = _files(annotation_dir, ANNOTATION_SUFFIXES, Sentence("annotations"))
    by_key: dict[str, list[Path]] = {}
    for annotation in annotations:
        by_key.setdefault(_key(annotation), []).append(annotation)
    keys = {recording: _key(recording) for recording in recordings}
    partners = {recording: key for recording, key in keys.items() if key in by_key}
    partners |= _as_uploaded(
        {recording: key for recording, key in keys.items() if recording not in partners},
        by_key.keys() - partners.values(),
    )
    left = [recording for recording in recordings if recording not in partners]
    partners |= _by_beginning({recording: keys[recording] for recording in left}, by_key.keys() - partners.values())
    return Pairing(
        tuple(
            (recording, min(by_key[partners[recording]], key=lambda path: (len(path.name), path.name)))
            for recording in recordings
            if recording in partners
        ),
        tuple(recording for recording in recordings if recording not in partners),
        tuple(annotation for annotation in annotations if _key(annotation) not in partners.values()),
    )


def _in_order(times_s: Mapping[Drum, Sequence[float]]) -> dict[Drum, tuple[float, ...]]:
    return {drum: tuple(sorted(times)) for drum, times in times_s.items()}


def _columns(text: str) -> list[str]:
    """Split a line at tabs, semicolons or commas, so that a label may contain blanks; else at blanks."""
    for separator in "\t;,":
        columns = [column.strip() for column in text.split(separator) if column.strip()]
        if len(columns) > 1 and _NUMBER.fullmatch(columns[0]):
            return columns
    return _BLANKS.split(text)


def _label(columns: Sequence[str]) -> str:
    """Return the label in the columns after the time."""
    named = [column for column in columns if not _NUMBER.fullmatch(column)]
    if not named:
        return columns[0]
    whole = " ".join(named)  # "bass drum" where blanks part the columns
    return whole if drum_of(named[0]) is None and drum_of(whole) is not None else named[0]


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > _MAX_ANNOTATION_BYTES:
            raise InvalidRequest(Sentence("{path} is too large to be an annotation", path=path))
        content = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(
            Sentence("{path} can't be read: {reason}", path=path, reason=error.strerror or error)
        ) from error
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    # a label in another encoding is at worst unknown
    return content.decode(encoding, "replace").splitlines()


def _files(folder: Path, suffixes: Iterable[str], what: str) -> list[Path]:
    if not folder.is_dir():
        raise InvalidRequest(Sentence("{folder} is not a folder", folder=folder))
    visible = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    found = sorted(path for path in visible if path.suffix.lower() in suffixes)
    if not found:
        raise InvalidRequest(
            Sentence(
                "{folder} holds no {what} ({suffixes})", folder=folder, what=what, suffixes=", ".join(sorted(suffixes))
            )
        )
    return found


def _key(path: Path) -> str:
    """Return a file's name without the endings of data sets; macOS writes accents and Hangul apart (NFD)."""
    return _without_ends(unicodedata.normalize("NFC", path.stem).lower())


def _without_ends(key: str) -> str:
    while (shorter := _NAME_ENDS.sub("", key)) != key and shorter:
        key = shorter
    return key


def _as_uploaded(keys: Mapping[Path, str], others: Iterable[str]) -> dict[Path, str]:
    """Return for recordings the only name that is theirs without percent-encoding and Label Studio's digits."""

    def plain(key: str) -> str:
        key = unicodedata.normalize("NFC", unquote(key)).lower()
        return _without_ends(_UPLOAD_PREFIX.sub("", key, count=1))

    found: dict[str, list[str]] = {}
    for other in others:
        found.setdefault(plain(other), []).append(other)
    owners = Counter(plain(key) for key in keys.values())
    return {
        recording: found[plain(key)][0]
        for recording, key in keys.items()
        if len(found.get(plain(key), [])) == 1 and owners[plain(key)] == 1
    }


def _by_beginning(keys: Mapping[Path, str], others: Iterable[str]) -> dict[Path, str]:
    """Return for recordings the longest name that begins their own, or that their own begins, up to a word's end.

    A name that fits two recordings is left out: a wrong annotation is worse than none.
    """
    claims: dict[str, list[Path]] = {}
    for recording, key in keys.items():
        fitting = sorted((other for other in others if _begins(key, other) or _begins(other, key)), key=len)
        shorter = [other for other in fitting if len(other) < len(key)]
        if shorter or len(fitting) == 1:
            claims.setdefault((shorter or fitting)[-1], []).append(recording)
    return {recordings[0]: other for other, recordings in claims.items() if len(recordings) == 1}


def _begins(name: str, beginning: str) -> bool:
    return name.startswith(beginning) and len(name) > len(beginning) and not name[len(beginning)].isalnum()
