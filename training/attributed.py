"""Words and turns put together as a job does, without measuring how the words sound."""

from __future__ import annotations

from serve_app.analysis.assembly import RunFacts, assemble
from serve_app.analysis.attribution import attribute
from serve_app.analysis.result import AnalysisResult
from serve_app.results import AcousticFeatures, Diarization, Transcript

_UNMEASURED = AcousticFeatures(-100.0, None, None)  # no score reads them


def attributed_result(transcript: Transcript, diarization: Diarization, duration_s: float) -> AnalysisResult:
    """Return the result of an analysis."""
    spoken = attribute(transcript.segments, diarization.turns)
    sounds = [_UNMEASURED] * sum(len(part.segment.words) for part in spoken)
    facts = RunFacts(duration_s, "auto", 0.0)
    return assemble(spoken, sounds, transcript=transcript, diarization=diarization, facts=facts)
