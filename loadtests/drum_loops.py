"""Drums of real loops against annotations by hand: `python -m loadtests.drum_loops [--model PATH] [--mistakes]`.

The loops lie in ../shared/data; training/drums/annotations has what is played in them, and in its README how sure that
is. An uncertain stroke is neither demanded nor punished ("lenient"), or does not exist ("strict"). Of loops that hold
none of the three drums, whatever is found is a false alarm.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from loadtests.drum_loop_pictures import draw_loop
from loadtests.loop_scoring import Mistake, read_loop, score_loop, table
from serve_app.models.drums.checkpoint import load_checkpoint
from serve_app.models.drums.transcription import transcribe_drums
from serve_app.results import Drum

ROOT = Path(__file__).resolve().parents[1]
ANNOTATIONS = ROOT / "training" / "drums" / "annotations"
LOOPS = ROOT.parent / "shared" / "data" / "drums"
# Loops with none of the three drums; loop_tabla, which is annotated, is another.
WITHOUT_DRUMS = ("mehackit1", "mehackit2", "electric", "safari", "weirdo", "perc1", "perc2", "3d_printer", "drone_g_97")
# A whole number of beats over the loop's length.
TEMPI_BPM = {
    "loop_amen": 136.9,
    "loop_amen_full": 140.0,
    "loop_breakbeat": 126.0,
    "loop_compus": 148.0,
    "loop_garzul": 120.0,
    "loop_industrial": 135.8,
    "loop_mika": 120.0,
}
WINDOWS_S = (0.02, 0.03, 0.05)
_SHOWN_WINDOW_S = 0.03


def main() -> None:
    """Print the tables; write pictures."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.drum_loops", description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "serve_app/models/drums/drum_net/best_model.pt")
    parser.add_argument("--loops", type=Path, default=LOOPS)
    parser.add_argument("--mistakes", action="store_true", help="list them")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each loop")
    arguments = parser.parse_args()
    loaded = load_checkpoint(arguments.model)
    truths = {path.stem: read_loop(path) for path in sorted(ANNOTATIONS.glob("loop_*.txt"))}
    heard = {name: transcribe_drums(arguments.loops / f"{name}.flac", loaded) for name in truths}
    print(f"{loaded.model_version}, thresholds {loaded.thresholds}")
    for lenient in (True, False):
        for window_s in WINDOWS_S if lenient else (_SHOWN_WINDOW_S,):
            print(f"\n{'lenient' if lenient else 'strict'}, within {1000 * window_s:.0f} ms\n")
            scored = {
                name: score_loop(truth, heard[name].transcript.hits, window_s, lenient=lenient)
                for name, truth in truths.items()
            }
            print("\n".join(table({name: counts for name, (counts, _) in scored.items()})))
            if lenient and window_s == _SHOWN_WINDOW_S and arguments.mistakes:
                print(*(f"\n{name}: {_listed(mistakes)}" for name, (_, mistakes) in scored.items()))
    print("\n| loop without drums | s | kick | snare | hi-hat |\n| --- | --- | --- | --- | --- |")
    for name in WITHOUT_DRUMS:
        transcript = transcribe_drums(arguments.loops / f"loop_{name}.flac", loaded).transcript
        numbers = (sum(hit.drum == drum for hit in transcript.hits) for drum in Drum)
        print(f"| loop_{name} | {transcript.duration_s:.1f} | {' | '.join(map(str, numbers))} |")
    print("\n| loop | BPM | BPM found |\n| --- | --- | --- |")
    print("\n".join(f"| {name} | {bpm} | {heard[name].transcript.bpm:.1f} |" for name, bpm in TEMPI_BPM.items()))

    if arguments.pictures:
        for name, truth in truths.items():
            told = f"{name}: {loaded.model_version}"
            path = arguments.pictures / f"{name}.png"
            draw_loop(path, arguments.loops / f"{name}.flac", heard[name], truth, _SHOWN_WINDOW_S, told)


def _listed(mistakes: Sequence[Mistake]) -> str:
    return "; ".join(map(str, mistakes)) or "none"


if __name__ == "__main__":
    main()
