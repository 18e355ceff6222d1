"""How well the embedded models do on dialogues that nothing was chosen for.

    python -m training.demo_video.evaluate [--num 10] [--first-seed 100] [--turns truth|diarized] [--told]

Each dialogue is made, written as an mp4, decoded, and goes through voice activity, recogniser, diarizer and attribution
as in a job. With `--turns truth` the true turns stand in for the diarizer's, which shows what attribution alone costs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.demo_media.video import Card, write_video
from serve_app.media.decode import decode_audio
from serve_app.models.speech.joining import join_transcripts
from serve_app.models.speech.pieces import recognizer_pieces
from serve_app.models.speech.pocketsphinx_recognizer import PocketsphinxRecognizer
from serve_app.models.speech.voice_activity import detect_speech
from serve_app.results import SAMPLE_RATE_HZ, Diarization, SpeakerTurn
from serve_app.scoring import Scores, score_result
from training.attributed import attributed_result
from training.cp_word_error import cp_word_errors, result_words, truth_words
from training.demo_video import script
from training.demo_video.dialogue import Dialogue, perform
from training.demo_video.dialogues import random_dialogue
from training.demo_video.synthesis import Synthesizer


def main() -> None:
    """Print a row for each dialogue and their mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--told", action="store_true", help="tell the diarizer the number of speakers")
    parser.add_argument("--turns", choices=("diarized", "truth"), default="diarized")
    args = parser.parse_args()
    synthesizer, recognizer = Synthesizer(), PocketsphinxRecognizer()
    diarizer = _diarizer() if args.turns == "diarized" else None
    print(
        f"{'dialogue':>10} {'spk':>5} {'s':>6} {'words':>6} {'WER':>7} {'speaker':>8} {'cpWER':>7} {'start':>9} "
        f"{'took':>7}"
    )
    shipped = perform(
        script.SCRIPT, script.SPEAKERS, noise_db=script.NOISE_DB, seed=script.SEED, synthesizer=synthesizer
    )
    _row("shipped", shipped, recognizer, diarizer, args.told)
    rows = [
        _row(str(seed), random_dialogue(seed, synthesizer), recognizer, diarizer, args.told)
        for seed in range(args.first_seed, args.first_seed + args.num)
    ]
    words, speaker, start_s = (
        np.mean([getattr(row, name) for row in rows])
        for name in ("word_error_rate", "word_speaker_error_rate", "median_word_start_error_s")
    )
    print(f"{'mean':>10} {'':>5} {'':>6} {'':>6} {words:7.1%} {speaker:8.1%} {'':>7} {start_s * 1000:6.0f} ms")


def _diarizer() -> Any:
    from serve_app.models.diarization.pipeline import SpeakerDiarizer  # slow to import: not where it isn't used

    return SpeakerDiarizer()


def _row(name: str, dialogue: Dialogue, recognizer: PocketsphinxRecognizer, diarizer: Any, told: bool) -> Scores:
    began = time.perf_counter()
    result = _analyze(dialogue, recognizer, diarizer, told)
    took_s = time.perf_counter() - began
    scores = score_result(result, dialogue.truth())
    together = cp_word_errors(truth_words(dialogue.truth()), result_words(result))
    found = f"{result['metadata']['unique_speakers']}/{len(dialogue.speakers)}"
    print(
        f"{name:>10} {found:>5} {dialogue.duration_s:6.1f} {scores.num_words:6d} {scores.word_error_rate:7.1%} "
        f"{scores.word_speaker_error_rate:8.1%} {together.rate:7.1%} "
        f"{scores.median_word_start_error_s * 1000:6.0f} ms {took_s:5.1f} s",
        flush=True,
    )
    return scores


def _analyze(dialogue: Dialogue, recognizer: PocketsphinxRecognizer, diarizer: Any, told: bool) -> dict[str, Any]:
    """Return what a job would: the pipeline's stages, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        video = write_video(Path(folder) / "dialogue.mp4", dialogue.samples, SAMPLE_RATE_HZ, [Card(0.0, "A dialogue")])
        audio = decode_audio(str(video))
    pieces = recognizer_pieces(detect_speech(audio.samples), audio.duration_s)
    transcript = join_transcripts(
        recognizer.transcribe(
            audio.samples[round(piece.start_s * SAMPLE_RATE_HZ) : round(piece.end_s * SAMPLE_RATE_HZ)],
            offset_s=piece.start_s,
        )
        for piece in pieces
    )
    if diarizer is None:
        diarization = _true_turns(dialogue)
    else:
        diarization = diarizer.diarize(audio.samples, num_speakers=len(dialogue.speakers) if told else None)
    return attributed_result(transcript, diarization, audio.duration_s)


def _true_turns(dialogue: Dialogue) -> Diarization:
    return Diarization(
        tuple(SpeakerTurn(line.start_s, line.end_s, line.line.speaker) for line in dialogue.lines), "truth"
    )


if __name__ == "__main__":
    main()
