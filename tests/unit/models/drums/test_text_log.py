"""What people read."""

from serve_app.models.drums.config import InferenceConfig
from serve_app.models.drums.files import text_log
from serve_app.results import Drum, DrumHit, DrumTranscript, TempoChange

HITS = (
    DrumHit(0.5012, 0.5, Drum.KICK, 110, 0.987),
    DrumHit(0.5031, 0.5, Drum.HIHAT, 64, 0.5),
    DrumHit(1.0, 1.0, Drum.KICK, 7, 1.0),
)


def test_whole_log() -> None:
    transcript = DrumTranscript(
        HITS,
        119.996,
        (TempoChange(0.25, 119.5), TempoChange(30.25, 121.0)),
        61.5,
        "drum-net 1 (0123abcd)",
        ("Something was repaired",),
    )
    config = InferenceConfig(grid_division={"kick": 8, "snare": None}, thresholds={"hihat": 0.15})
    assert text_log(transcript, "my\nsong.wav", config) == (
        "# file: my song.wav\n"
        "# duration: 61.500 s\n"
        "# tempo: 120.00 BPM, first beat at 0.250 s (119.50 BPM there)\n"
        "# model: drum-net 1 (0123abcd)\n"
        "# grid: kick 1/8, snare none, hihat 1/16\n"
        "# thresholds: kick the model's, snare the model's, hihat 0.15\n"
        "# hits: 3 (kick 2, snare 0, hihat 1)\n"
        "# tempo from: 30.250 s: 121.00 BPM\n"
        "# note: Something was repaired\n"
        "# time_s\tquantized_s\tdrum\tvelocity\tconfidence\n"
        "0.501\t0.500\tkick\t110\t0.99\n"
        "0.503\t0.500\thihat\t64\t0.50\n"
        "1.000\t1.000\tkick\t7\t1.00\n"
    )


def test_log_without_hits_has_its_header() -> None:
    lines = text_log(DrumTranscript((), 120.0, (TempoChange(0.0, 120.0),), 0.0, "m"), "a", InferenceConfig()).split(
        "\n"
    )
    assert "# tempo: 120.00 BPM, first beat at 0.000 s" in lines
    assert "# hits: 0 (kick 0, snare 0, hihat 0)" in lines
    assert [line for line in lines if not line.startswith("#")] == [""]


def test_a_tempo_in_doubt_is_told_with_its_alternative() -> None:
    transcript = DrumTranscript((), 74.0, (TempoChange(0.0, 74.0),), 1.0, "m", bpm_alternative=148.0)
    lines = text_log(transcript, "a", InferenceConfig()).split("\n")
    assert lines.index("# tempo or: 148.00 BPM") == lines.index("# tempo: 74.00 BPM, first beat at 0.000 s") + 1
