"""Make the dialogue that is shipped: `python -m training.demo_video [--folder serve_app/demo_media]`.

Needs Debian's flite (`apt-get install flite`). Writes dialogue.mp4 and its truth, dialogue.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import serve_app.demo_media
from serve_app.demo_media.video import Card, write_video
from training.demo_video.dialogue import Dialogue, perform
from training.demo_video.script import NOISE_DB, SCRIPT, SEED, SPEAKERS
from training.demo_video.synthesis import SAMPLE_RATE_HZ, Synthesizer

_ORIGIN = {
    "made_by": "python -m training.demo_video",
    "voices": "CMU Flite, cmu_us_rms and cmu_us_slt (BSD-like licence; CMU ARCTIC voices)",
    "licence": "Apache-2.0, as the project",
}


def main() -> None:
    """Write the two files and say what is in them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(serve_app.demo_media.__path__[0]))
    folder = parser.parse_args().folder
    dialogue = perform(SCRIPT, SPEAKERS, noise_db=NOISE_DB, seed=SEED, synthesizer=Synthesizer())
    video = write_dialogue(dialogue, folder / "dialogue.mp4", origin=_ORIGIN)
    print(f"{video}: {dialogue.duration_s:.1f} s, {len(dialogue.truth()['words'])} words, {video.stat().st_size} bytes")


def write_dialogue(dialogue: Dialogue, path: Path, *, origin: dict[str, str]) -> Path:
    """Write a dialogue as a video whose cards show who speaks, with its truth beside it as JSON."""
    number = {speaker.name: index for index, speaker in enumerate(dialogue.speakers)}
    cards = [Card(0.0, "A dialogue", "synthetic voices, known words", len(number))]
    cards += [Card(line.start_s, line.line.speaker, "", number[line.line.speaker]) for line in dialogue.lines]
    write_video(path, dialogue.samples, SAMPLE_RATE_HZ, cards)
    truth = dialogue.truth() | {"origin": origin}
    path.with_suffix(".json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
