"""A drum transcript for people: what was read, what was found, one line a stroke. Columns are parted by tabs."""

from __future__ import annotations

from serve_app.models.drums.config import InferenceConfig
from serve_app.results import Drum, DrumTranscript

_COLUMNS = ("time_s", "quantized_s", "drum", "velocity", "confidence")


def text_log(transcript: DrumTranscript, filename: str, config: InferenceConfig) -> str:
    """Return the log.

    Lines that begin with `#` are the header; every other is a stroke: seconds played, seconds on the grid, drum,
    velocity, confidence.

    Args:
        transcript: what was played.
        filename: of the recording, as the caller named it.
        config: what the transcript was made with.
    """
    counts = {drum: sum(hit.drum == drum for hit in transcript.hits) for drum in Drum}
    header = [
        ("file", " ".join(filename.split())),  # one line, whatever the name
        ("duration", f"{transcript.duration_s:.3f} s"),
        ("tempo", _tempo(transcript)),
        ("model", transcript.model_version),
        ("grid", ", ".join(f"{drum} {_division(config, drum)}" for drum in Drum)),
        ("thresholds", ", ".join(f"{drum} {_threshold(config, drum)}" for drum in Drum)),
        ("hits", f"{len(transcript.hits)} ({', '.join(f'{drum} {count}' for drum, count in counts.items())})"),
        *(("tempo from", f"{each.start_s:.3f} s: {each.bpm:.2f} BPM") for each in transcript.tempo_map[1:]),
        *(("note", note) for note in transcript.notes),
    ]
    lines = [f"# {name}: {value}" for name, value in header]
    lines.append("# " + "\t".join(_COLUMNS))
    lines += [
        f"{hit.time_s:.3f}\t{hit.quantized_s:.3f}\t{hit.drum}\t{hit.velocity}\t{hit.confidence:.2f}"
        for hit in transcript.hits
    ]
    return "\n".join(lines) + "\n"


def _tempo(transcript: DrumTranscript) -> str:
    first = transcript.tempo_map[0]
    return f"{transcript.bpm:.2f} BPM, first beat at {first.start_s:.3f} s" + (
        f" ({first.bpm:.2f} BPM there)" if len(transcript.tempo_map) > 1 else ""
    )


def _division(config: InferenceConfig, drum: Drum) -> str:
    division = config.division_of(drum)
    return f"1/{division}" if division else "none"


def _threshold(config: InferenceConfig, drum: Drum) -> str:
    value = config.thresholds.get(drum)
    return "the model's" if value is None else f"{value:g}"
