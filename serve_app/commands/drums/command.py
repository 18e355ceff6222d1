"""The arguments of `serve-app drums` and `serve-app drums-eval`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

DRUMS = ("kick", "snare", "hihat")

_DRUMS_DESCRIPTION = """Transcribe recordings of drums to General MIDI.

For each file DIR gets a MIDI file (.mid), a text log (.txt) and, with --plot, a picture (.png), named after it. The
model runs on this machine, without a server; with --url, on a server. A file that fails does not stop the others.
Ends with 0 if all files were transcribed, 1 if any failed, 130 after Ctrl-C."""

_EVAL_DESCRIPTION = """Compare drum transcripts with manual annotations: precision, recall and F at 20, 30 and 50 ms.

An annotation is a text file with a line for each stroke: time in seconds, a tab (or blanks, or a comma), a label: KD,
SD, HH and their subclasses as in MDB Drums, kick, snare, hihat, or a General MIDI note. Other labels are left out and
listed. Names pair the files, e.g. MusicDelta_80sRock_Drum.wav and MusicDelta_80sRock_class.txt.
`pooled` counts strokes of all files together; `macro` is the mean over files, without those in which a drum is neither
annotated nor found. Ends with 0 if all pairs were compared, 1 if any file failed, 130 after Ctrl-C."""


def add_commands(commands: Any) -> None:
    """Add both commands to `commands`, which `add_subparsers` returned."""
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument(
        "--model",
        metavar="SPEC",
        help="a best_model.pt: path, folder, URL, or Hugging Face id; default: the one that comes with serve-app",
    )
    model.add_argument("--device", help="auto (default: a GPU where torch finds one), cpu, cuda")
    for drum in DRUMS:
        model.add_argument(
            f"--threshold-{drum}", type=float, metavar="P", help="least activation that is a hit; default: the model's"
        )

    drums = commands.add_parser(
        "drums",
        parents=[model],
        help="transcribe recordings of drums to General MIDI",
        description=_DRUMS_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    drums.add_argument("files", type=Path, nargs="+", metavar="FILE", help="WAV, or any common audio or video")
    drums.add_argument("--out", type=Path, required=True, metavar="DIR", help="is created if it is missing")
    drums.add_argument("--bpm", type=float, help="the tempo; default: detected")
    for drum in DRUMS:
        drums.add_argument(
            f"--grid-{drum}", type=int, metavar="N", help="parts of a whole note (default 16: sixteenths); 0: as played"
        )
    drums.add_argument("--plot", action="store_true", help="also draw activations, hits and beats")
    drums.add_argument("--url", help="transcribe on this server instead")
    drums.set_defaults(command="serve_app.commands.drums.transcribe:transcribe")

    evaluation = commands.add_parser(
        "drums-eval",
        parents=[model],
        help="compare drum transcripts with manual annotations",
        description=_EVAL_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluation.add_argument("audio_dir", type=Path, metavar="AUDIO_DIR")
    evaluation.add_argument("annotation_dir", type=Path, metavar="ANNOTATION_DIR")
    evaluation.add_argument("--json", type=Path, metavar="FILE", help="also write all figures, and each file's, there")
    evaluation.set_defaults(command="serve_app.commands.drums.evaluate:evaluate_folders")
