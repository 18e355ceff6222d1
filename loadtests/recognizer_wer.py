"""Word error rate, speed and memory of the embedded recogniser on the English clips of the shared data.

    python -m loadtests.recognizer_wer [--data ../shared/data] [--max-piece-s 30]

The clips go the way of a job: decoded, cut at silences, transcribed. "Read" sums up the people who read aloud, close to
a microphone; the others are a speech in a large hall and two clips about software.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

from serve_app.media.decode import decode_audio
from serve_app.models.speech.pieces import recognizer_pieces
from serve_app.models.speech.pocketsphinx_recognizer import PocketsphinxRecognizer
from serve_app.models.speech.voice_activity import detect_speech
from serve_app.results import SAMPLE_RATE_HZ
from serve_app.scoring import count_word_errors

_READ = ("ljspeech", "librispeech")


def main() -> None:
    """Print a row for each clip, then the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--max-piece-s", type=float, default=30.0)
    parser.add_argument("--show", action="store_true", help="print what was heard")
    args = parser.parse_args()
    before_mb = _peak_mb()
    began = time.perf_counter()
    recognizer = PocketsphinxRecognizer()
    print(f"{recognizer.model_version}: loaded in {time.perf_counter() - began:.2f} s")
    totals: dict[str, list[float]] = {}
    print(f"{'clip':<58} {'s':>6} {'errors':>7} {'words':>6} {'WER':>7} {'x real time':>12}")
    for line in (args.data / "speech" / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        clip = json.loads(line)
        # the stereo clip has a speaker on each channel: as one signal it has no single true text
        if not clip["language"].startswith("en") or clip["text"].startswith("[left]"):
            continue
        audio = decode_audio(str(args.data / clip["path"]))
        began_cpu = time.process_time()
        heard = []
        for piece in recognizer_pieces(detect_speech(audio.samples), audio.duration_s, args.max_piece_s):
            first, last = (round(edge * SAMPLE_RATE_HZ) for edge in (piece.start_s, piece.end_s))
            transcript = recognizer.transcribe(audio.samples[first:last], offset_s=piece.start_s, language="en")
            heard += [segment.text for segment in transcript.segments]
        cpu_s = time.process_time() - began_cpu
        num_errors, num_words = count_word_errors(clip["text"], " ".join(heard))
        name = Path(clip["path"]).stem
        figures = (audio.duration_s, num_errors, num_words, cpu_s)
        for group in ("all", *(["read"] if any(part in name for part in _READ) else [])):
            totals[group] = [a + b for a, b in zip(totals.get(group, [0.0] * 4), figures, strict=True)]
        _row(name, figures)
        if args.show:
            print(f"    {' '.join(heard)}")
    for group, sums in totals.items():
        _row(group, sums)
    print(f"peak memory {_peak_mb():.0f} MB, of which {before_mb:.0f} MB before the recogniser was loaded")


def _row(name: str, figures: tuple[float, ...] | list[float]) -> None:
    duration_s, num_errors, num_words, cpu_s = figures
    print(
        f"{name:<58} {duration_s:6.1f} {num_errors:7.0f} {num_words:6.0f} {num_errors / num_words:7.1%} "
        f"{duration_s / cpu_s:12.1f}",
        flush=True,
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
