"""Who said what: word errors, speaker errors and cpWER of whole recordings, by the model code of a video job.

    python -m loadtests.who_said_what --model whisper-base [--only call dialogue made] [--words said] [--turns truth]
    python -m loadtests.who_said_what --only call --result result.json

- call: the telephone call inside pyannote.audio (30 s) and its sample.stm; the words of a segment share its time by
  their letters.
- dialogue: the made dialogue that is shipped.
- dialogues: ten that are made on the spot, as the shipped one, with other texts, voices, rooms and noise; needs
  Debian's flite, and runs only where it is named.
- made: made conversations of the reporting speakers (training.speaker_embedding), two to four speakers in each. Nobody
  wrote down what they read: the true words are those that the same model hears in their dry utterances. So the figures
  tell what rooms, noise, the telephone, tempo and overlaps add, not what the model gets wrong in clean speech.

`--words said` attributes the true words instead of recognised ones, `--turns truth` uses the true turns instead of the
diarizer's. `--result` scores a job's result object instead of running anything.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

import serve_app.demo_media
from serve_app import WhisperSTT
from serve_app.analysis.attribution import fit_words
from serve_app.demo_media import call_sample
from serve_app.media.decode import decode_audio
from serve_app.models.diarization import networks
from serve_app.models.diarization.pipeline import SpeakerDiarizer
from serve_app.results import Diarization, Segment, SpeakerTurn, Transcript, Word
from serve_app.scoring import Scores, score_result
from training.attributed import attributed_result
from training.cp_word_error import CpWordErrors, cp_word_errors, result_words
from training.speaker_embedding.conversations import Conversation, PlacedPhrase, make_set
from training.speaker_embedding.speakers import split_speakers

SAMPLE_RATE_HZ = 16_000
_KINDS = ("call", "dialogue", "made")  # what runs where nothing is named
_SEEDS_OF_DIALOGUES = range(100, 110)  # as in training.demo_video.evaluate
_SPEAKERS = Path(__file__).resolve().parents[2] / "shared" / "data" / "speakers"
# In an STM the text follows five fields, of which the third to fifth are speaker, start and end.
_STM_LINE = re.compile(r"(\S+) \S+ (\S+) ([\d.]+) ([\d.]+) (.+)")


@dataclass(frozen=True, slots=True)
class Recording:
    """A conversation and who says what in it.

    Attributes:
        name: of the row.
        kind: "call", "dialogue", "dialogues" or "made".
        samples: (samples,) float32, 16 kHz.
        words: what is said, with times.
        speakers: of each word.
        turns: who really speaks when.
    """

    name: str
    kind: str
    samples: NDArray[np.float32]
    words: tuple[Word, ...]
    speakers: tuple[str, ...]
    turns: tuple[SpeakerTurn, ...]

    @property
    def duration_s(self) -> float:
        """Return the length of the sound."""
        return self.samples.size / SAMPLE_RATE_HZ

    def truth(self) -> dict[str, Any]:
        """Return the truth as `serve_app.scoring` reads it."""
        pairs = zip(self.words, self.speakers, strict=True)
        return {"words": [{"word": word.word, "start": word.start_s, "speaker": name} for word, name in pairs]}

    def said(self) -> Transcript:
        """Return the words as a recogniser without errors would: a segment ends at any pause of a second."""
        segments: list[list[Word]] = []
        for word in sorted(self.words, key=lambda word: word.start_s):
            if not segments or word.start_s - segments[-1][-1].end_s > 1.0:
                segments.append([])
            segments[-1].append(word)
        return Transcript(
            tuple(
                Segment(own[0].start_s, max(w.end_s for w in own), " ".join(w.word for w in own), tuple(own))
                for own in segments
            ),
            "en",
            "the truth",
        )


Hear = Callable[[NDArray[np.float32]], Transcript]


def main() -> None:
    """Print a row for each recording, and the sum of each kind that has several."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="whisper-base", help="what WhisperSTT takes")
    parser.add_argument("--backend", default="faster-whisper")
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--segmentation", default=networks.SEGMENTATION)
    parser.add_argument("--embeddings", nargs="+", default=networks.EMBEDDINGS)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".local/state/serve_app/models")
    parser.add_argument("--only", nargs="+", choices=(*_KINDS, "dialogues"), default=_KINDS)
    parser.add_argument("--conversations", type=int, default=1, help="made ones for each place and number of speakers")
    parser.add_argument("--speakers", type=Path, default=_SPEAKERS, help="folder of recordings for the made ones")
    parser.add_argument("--part", choices=("tune", "report"), default="report", help="whose conversations")
    parser.add_argument("--told", action="store_true", help="tell the diarizer the number of speakers")
    parser.add_argument("--words", choices=("heard", "said"), default="heard")
    parser.add_argument("--turns", choices=("diarized", "truth"), default="diarized")
    parser.add_argument("--result", type=Path, help="a result object to score, for one recording")
    arguments = parser.parse_args()
    if arguments.result and arguments.only not in (["call"], ["dialogue"]):
        parser.error("--result needs --only call or --only dialogue")
    hear = _hearing(arguments)
    diarizer = None
    if arguments.turns == "diarized" and not arguments.result:
        chosen = networks.load_networks(arguments.segmentation, arguments.embeddings, cache_dir=arguments.cache)
        diarizer = SpeakerDiarizer(networks=chosen, num_threads=1)
        print(diarizer.model_version)
    print(f"{'recording':>18} {'speakers':>8} {'s':>6} {'words':>6} {'WER':>7} {'speaker':>8} {'cpWER':>7}")
    by_kind: dict[str, list[CpWordErrors]] = {}
    for recording in _recordings(arguments, hear):
        if arguments.result:
            result = json.loads(arguments.result.read_text(encoding="utf-8"))
        else:
            transcript = recording.said() if arguments.words == "said" else hear(recording.samples)
            result = attributed_result(transcript, _turns(recording, diarizer, arguments.told), recording.duration_s)
        by_kind.setdefault(recording.kind, []).append(print_row(recording, result))
    for kind, rows in by_kind.items():
        if len(rows) > 1:
            num_errors, num_words = (sum(getattr(one, name) for one in rows) for name in ("num_errors", "num_words"))
            title = f"{kind}, together"
            print(f"{title:>18} {'':>8} {'':>6} {num_words:6d} {'':>7} {'':>8} {num_errors / num_words:7.1%}")


def print_row(recording: Recording, result: dict[str, Any]) -> CpWordErrors:
    """Print how good a result is and return its cpWER."""
    scores: Scores = score_result(result, recording.truth())
    spoken = [(word.word, word.start_s, name) for word, name in zip(recording.words, recording.speakers, strict=True)]
    heard = result_words(result)
    together = cp_word_errors(spoken, heard)
    plain = cp_word_errors(
        [(word, at_s, "") for word, at_s, _ in spoken], [(word, at_s, "") for word, at_s, _ in heard]
    )
    found = f"{len({speaker for _, _, speaker in heard})}/{len(set(recording.speakers))}"
    print(
        f"{recording.name:>18} {found:>8} {recording.duration_s:6.1f} {together.num_words:6d} {plain.rate:7.1%} "
        f"{scores.word_speaker_error_rate:8.1%} {together.rate:7.1%}",
        flush=True,
    )
    return together


def telephone_call() -> Recording:
    """Return the call that ships with pyannote.audio."""
    samples, _ = soundfile.read(call_sample(".wav"), dtype="float32")
    segments = read_stm(call_sample(".stm").read_text(encoding="utf-8"))
    words = [(word, speaker) for segment, speaker in segments for word in fit_words(segment).words]
    turns = tuple(SpeakerTurn(segment.start_s, segment.end_s, speaker) for segment, speaker in segments)
    return Recording(
        "call", "call", samples, tuple(word for word, _ in words), tuple(speaker for _, speaker in words), turns
    )


def read_stm(text: str) -> list[tuple[Segment, str]]:
    """Return segments and their speakers; lines that are comments are left out."""
    segments = []
    for line in text.splitlines():
        fields = _STM_LINE.fullmatch(line.strip())
        if fields and not line.startswith(";;"):
            segments.append((Segment(float(fields[3]), float(fields[4]), fields[5], ()), fields[2]))
    return segments


def shipped_dialogue() -> Recording:
    """Return the dialogue of `serve-app demo`."""
    folder = Path(serve_app.demo_media.__path__[0])
    truth = json.loads((folder / "dialogue.json").read_text(encoding="utf-8"))
    return _of_truth("dialogue", "dialogue", decode_audio(str(folder / "dialogue.mp4")).samples, truth)


def _of_truth(name: str, kind: str, samples: NDArray[np.float32], truth: dict[str, Any]) -> Recording:
    return Recording(
        name,
        kind,
        samples,
        tuple(Word(word["word"], word["start"], word["end"]) for word in truth["words"]),
        tuple(word["speaker"] for word in truth["words"]),
        tuple(SpeakerTurn(turn["start"], turn["end"], turn["speaker"]) for turn in truth["turns"]),
    )


def made_recording(conversation: Conversation, utterances: dict[str, Sequence[Word]]) -> Recording:
    """Return a made conversation with the words of its speakers' utterances put where its phrases are."""
    words = [
        (word, phrase.speaker_id)
        for phrase in conversation.phrases
        for word in words_in(phrase, utterances[phrase.speaker_id])
    ]
    words.sort(key=lambda pair: pair[0].start_s)
    turns = tuple(SpeakerTurn(turn.start_s, turn.end_s, turn.speaker_id) for turn in conversation.turns)
    return Recording(
        conversation.name,
        "made",
        conversation.samples,
        tuple(word for word, _ in words),
        tuple(speaker for _, speaker in words),
        turns,
    )


def words_in(phrase: PlacedPhrase, utterance: Sequence[Word]) -> Iterator[Word]:
    """Yield the words of an utterance whose middle lies in a phrase, at the times at which the phrase is heard."""
    for word in utterance:
        if phrase.source_start_s <= (word.start_s + word.end_s) / 2 < phrase.source_end_s:
            start_s, end_s = (
                phrase.start_s
                + (min(max(at_s, phrase.source_start_s), phrase.source_end_s) - phrase.source_start_s) / phrase.speed
                for at_s in (word.start_s, word.end_s)
            )
            yield Word(word.word, start_s, end_s)


def _recordings(arguments: argparse.Namespace, hear: Hear) -> Iterator[Recording]:
    if "call" in arguments.only:
        yield telephone_call()
    if "dialogue" in arguments.only:
        yield shipped_dialogue()
    if "dialogues" in arguments.only:
        from training.demo_video.dialogues import random_dialogue
        from training.demo_video.synthesis import Synthesizer

        synthesizer = Synthesizer()
        for seed in _SEEDS_OF_DIALOGUES:
            dialogue = random_dialogue(seed, synthesizer)
            yield _of_truth(f"dialogue {seed}", "dialogues", dialogue.samples, dialogue.truth())
    if "made" in arguments.only:
        speakers = getattr(split_speakers(arguments.speakers), arguments.part)
        utterances = {
            speaker.speaker_id: [word for segment in hear(speaker.load()).segments for word in segment.words]
            for speaker in speakers
        }
        for conversation in make_set(speakers, arguments.conversations, seed=1):
            if conversation.num_speakers > 1:
                yield made_recording(conversation, utterances)


def _hearing(arguments: argparse.Namespace) -> Hear:
    stt = WhisperSTT(
        arguments.model,
        "cpu",
        compute_type=arguments.compute_type,
        backends=[arguments.backend],
        num_threads=1,
        cache_dir=arguments.cache,
    )
    return partial(_hear, stt)


def _hear(stt: WhisperSTT, samples: NDArray[np.float32]) -> Transcript:
    answer = stt.transcribe(samples, language="en")
    segments = tuple(
        Segment(
            segment["start"],
            segment["end"],
            segment["text"],
            tuple(Word(word["word"], word["start"], word["end"]) for word in segment["words"]),
        )
        for segment in answer["segments"]
    )
    return Transcript(segments, answer["language"], answer["model_version"], tuple(answer["notes"]))


def _turns(recording: Recording, diarizer: SpeakerDiarizer | None, told: bool) -> Diarization:
    if diarizer is None:
        return Diarization(recording.turns, "the truth")
    return diarizer.diarize(recording.samples, num_speakers=len(set(recording.speakers)) if told else None)


if __name__ == "__main__":
    main()
