"""`finish`: from an engine's file to a mastered piece with its faults."""

from __future__ import annotations

from serve_app.models.music.encoding import from_audio, to_flac
from serve_app.models.music.gate import clipped_share, faults_of, measure
from serve_app.models.music.mastering import master
from serve_app.results import MasteredMusic, MusicPlan


def finish(content: bytes, plan: MusicPlan) -> MasteredMusic:
    """Return a rendered piece at its length and loudness, measured; ProcessingError where it can't be decoded."""
    audio, rate = from_audio(content)
    mastered = master(audio, rate, plan.duration_s)
    measurements = measure(mastered, rate, plan)
    measurements["clipped_share"] = max(measurements["clipped_share"], clipped_share(audio))
    return MasteredMusic(
        audio=to_flac(mastered, rate),
        duration_s=len(mastered) / rate,
        measurements=measurements,
        faults=faults_of(measurements, plan),
    )
