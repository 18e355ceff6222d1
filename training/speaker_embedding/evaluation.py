"""Diarization error of the pipeline: pyannote.metrics, no collar, overlapped speech scored."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate

from serve_app.models.diarization.local_pipeline import LocalPipeline
from training.speaker_embedding.conversations import Conversation

SAMPLE_RATE_HZ = 16_000


@dataclass(frozen=True, slots=True)
class Recording:
    """Audio with its truth.

    Attributes:
        name: unique.
        group: what its figures are averaged with.
        file: what pyannote takes; in training mode the pipeline keeps segmentation and embeddings in it.
        reference: who really spoke when.
        scored: the part of it that counts.
    """

    name: str
    group: str
    file: dict[str, Any] = field(repr=False)
    reference: Annotation = field(repr=False)
    scored: Timeline = field(repr=False)

    @property
    def num_speakers(self) -> int:
        """Return how many speakers the truth knows."""
        return len(self.reference.labels())


@dataclass(frozen=True, slots=True)
class Score:
    """How one recording went. Seconds, but for the counts."""

    name: str
    group: str
    missed_s: float
    false_alarm_s: float
    confusion_s: float
    total_s: float
    num_speakers: int
    num_found: int

    @property
    def error_rate(self) -> float:
        """Return the diarization error rate in percent."""
        return 100.0 * (self.missed_s + self.false_alarm_s + self.confusion_s) / self.total_s


def from_conversation(conversation: Conversation) -> Recording:
    """Return a made conversation as a recording."""
    spans = [(turn.start_s, turn.end_s, turn.speaker_id) for turn in conversation.turns]
    return _recording(conversation.name, conversation.place, conversation.samples, spans)


def sample_call() -> Recording:
    """Return the telephone call that ships with pyannote.audio."""
    spec = importlib.util.find_spec("pyannote.audio")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "sample"
    samples, _ = soundfile.read(folder / "sample.wav", dtype="float32")
    return _recording("sample", "sample.wav", samples, read_rttm(folder / "sample.rttm")["sample"])


def meetings(folder: Path) -> list[Recording]:
    """Return the AMI excerpts of shared/data/diarization."""
    truth = read_rttm(folder / "train.rttm")
    recordings = []
    for path in sorted(folder.glob("*.flac")):
        samples, rate = soundfile.read(path, dtype="float32")
        assert rate == SAMPLE_RATE_HZ, f"{path}: {rate} Hz"
        recordings.append(_recording(path.stem, "AMI", samples, truth[path.stem]))
    return recordings


def read_rttm(path: Path) -> dict[str, list[tuple[float, float, str]]]:
    """Return start and end in seconds and speaker of every turn, by file."""
    spans: dict[str, list[tuple[float, float, str]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = line.split()
        start_s, duration_s = float(fields[3]), float(fields[4])
        spans.setdefault(fields[1], []).append((start_s, start_s + duration_s, fields[7]))
    return spans


def score(pipeline: LocalPipeline, recordings: Iterable[Recording], told: bool) -> list[Score]:
    """Diarize every recording, telling the pipeline the number of speakers or not, and return how it went."""
    scores = []
    for recording in recordings:
        counts = {"num_speakers": recording.num_speakers} if told else {}
        found = pipeline(recording.file, **counts).speaker_diarization
        parts = DiarizationErrorRate(collar=0.0, skip_overlap=False)(
            recording.reference, found, uem=recording.scored, detailed=True
        )
        scores.append(
            Score(
                recording.name,
                recording.group,
                parts["missed detection"],
                parts["false alarm"],
                parts["confusion"],
                parts["total"],
                recording.num_speakers,
                len(found.labels()),
            )
        )
    return scores


def summarize(scores: Sequence[Score]) -> str:
    """Return one line a group: error rate pooled and as mean of recordings, and how often the count was right."""
    groups = sorted({one.group for one in scores})
    lines = []
    for name in [*groups, "all"] if len(groups) > 1 else groups:
        own = [one for one in scores if name in (one.group, "all")]
        pooled = 100.0 * sum(o.missed_s + o.false_alarm_s + o.confusion_s for o in own) / sum(o.total_s for o in own)
        mean = float(np.mean([one.error_rate for one in own]))
        right = float(np.mean([one.num_found == one.num_speakers for one in own]))
        lines.append(
            f"{name:12s} DER pooled {pooled:5.1f} mean {mean:5.1f} count right {100 * right:3.0f} % of {len(own)}"
        )
    return "\n".join(lines)


def _recording(name: str, group: str, samples: np.ndarray, spans: list[tuple[float, float, str]]) -> Recording:
    reference = Annotation(uri=name)
    for track, (start_s, end_s, speaker) in enumerate(spans):
        reference[Segment(start_s, end_s), track] = speaker
    file = {"waveform": torch.from_numpy(samples)[None], "sample_rate": SAMPLE_RATE_HZ, "uri": name}
    return Recording(name, group, file, reference, Timeline([Segment(0.0, samples.size / SAMPLE_RATE_HZ)]))
