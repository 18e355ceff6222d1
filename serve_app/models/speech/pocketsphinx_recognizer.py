"""`PocketsphinxRecognizer`: the embedded recogniser, CMU PocketSphinx with the US English model in its wheel.

It needs no download, 90 MB and one core. It transcribes clean read English nearly verbatim and telephone speech badly.
Beams, language weight and noise removal are the library's defaults: `loadtests/recognizer_wer.py` found none better.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise

import numpy as np
import pocketsphinx
from numpy.typing import NDArray

from serve_app.errors import LanguageUnsupported, ModelLoadingError, ProcessingError, TaskUnsupported
from serve_app.results import AUTO, SAMPLE_RATE_HZ, UNDETERMINED, Segment, SpeechTask, Transcript, Word
from serve_app.sentences import Sentence

LANGUAGES = (AUTO, "en")
NOT_DETECTED = Sentence(
    "the language was not detected: no deployed speech backend can detect it, and the speech was taken for English"
)
MIN_PIECE_S = 0.1  # the shortest words of the dictionary have three phones of three frames of 10 ms
MAX_PAUSE_S = 0.6  # ends a segment: pauses inside a sentence take 0.2-0.4 s, those between turns more
_FRAMES_PER_S = 100
# Samples per call of the search. The library holds the interpreter's lock while it searches: 0.2 s of audio block other
# threads for 20-60 ms, and a stop waits as long.
_BLOCK = SAMPLE_RATE_HZ // 5
_QUIET_PEAK, _RAISED_PEAK = 0.1, 0.5
_LEVELS_SEARCH = "levels"


class PocketsphinxRecognizer:
    """Transcribes pieces of English speech into words with times and confidences.

    A transcript depends on its piece alone: the state that the library keeps between utterances (cepstral mean, noise
    floor) is reset. One decoder works on one piece at a time, on one thread; other threads wait.

    Raises:
        ModelLoadingError: the wheel's model is missing or broken.
    """

    def __init__(self) -> None:
        self.model_version = f"pocketsphinx-en-us-{version('pocketsphinx')}"
        self._lock = threading.Lock()
        try:
            self._decoder = pocketsphinx.Decoder(
                hmm=pocketsphinx.get_model_path("en-us/en-us"),
                lm=pocketsphinx.get_model_path("en-us/en-us.lm.bin"),
                dict=pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"),
                loglevel="FATAL",
            )
            self._words_search = self._decoder.current_search()
            # the smallest grammar: a pass with it yields a piece's cepstral mean in 0.2 % of its duration
            self._decoder.add_jsgf_string(_LEVELS_SEARCH, "#JSGF V1.0; grammar levels; public <word> = a;")
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            raise ModelLoadingError(
                Sentence(
                    "pocketsphinx could not load its US English model ({reason}); reinstall the pocketsphinx wheel",
                    reason=str(error),
                )
            ) from error

    @staticmethod
    def check_language(language: str) -> None:
        """Raise LanguageUnsupported for all but "auto" and "en"."""
        if language not in LANGUAGES:
            raise LanguageUnsupported(
                Sentence(
                    "the embedded recogniser transcribes English only, not {language}; deploy a Whisper backend for it "
                    "(faster-whisper, transformers or openai-whisper): name its weights and enable its deployment in "
                    "the configuration",
                    language=repr(language),
                )
            )

    @staticmethod
    def check_task(task: SpeechTask) -> None:
        """Raise TaskUnsupported for a translation."""
        if task is SpeechTask.TRANSLATE:
            raise TaskUnsupported(
                Sentence(
                    "the embedded recogniser can't translate; deploy a Whisper backend for it (faster-whisper, "
                    "transformers or openai-whisper) with whisper-base, -small, -medium, -large-v2 or -large-v3"
                )
            )

    def transcribe(
        self,
        samples: NDArray[np.float32],  # (samples,) 16 kHz mono
        *,
        offset_s: float = 0.0,
        language: str = "auto",
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Transcript:
        """Transcribe one piece of at most about 30 s, cut at silences.

        Not-a-number samples count as silence; samples beyond full scale are clipped.

        Args:
            offset_s: where it begins in the file; added to every time.
            language: "en"; or "auto": the speech is taken for English, the language is "und", and a note says so.
            should_stop: called every 0.2 s of audio; True ends the call.

        Raises:
            LanguageUnsupported: any other language.
            ProcessingError: the decoder failed, or `should_stop` returned True.
        """
        self.check_language(language)
        notes = (NOT_DETECTED,) if language == AUTO else ()
        pcm = _to_pcm(samples)
        duration_s = len(pcm) / SAMPLE_RATE_HZ
        words: list[Word] = []
        if duration_s >= MIN_PIECE_S and pcm.any():
            with self._lock:
                try:
                    words = self._decode(pcm, should_stop)
                except RuntimeError as error:
                    raise ProcessingError(
                        Sentence(
                            "pocketsphinx failed on {duration_s:.1f} s of audio: {reason}",
                            duration_s=duration_s,
                            reason=str(error),
                        )
                    ) from error
        placed = [
            replace(
                word,
                start_s=offset_s + min(word.start_s, duration_s),
                end_s=offset_s + min(word.end_s, duration_s),
            )
            for word in words
        ]
        return Transcript(_segments(placed), UNDETERMINED if language == AUTO else "en", self.model_version, notes)

    def _decode(self, pcm: NDArray[np.int16], should_stop: Callable[[], bool]) -> list[Word]:
        decoder = self._decoder
        decoder.reinit_feat()  # drops the state of earlier pieces
        decoder.activate_search(_LEVELS_SEARCH)
        decoder.start_utt()
        try:
            decoder.process_raw(pcm.tobytes(), no_search=True, full_utt=True)
            cepstral_mean = decoder.get_cmn()
        finally:
            decoder.end_utt()
        decoder.activate_search(self._words_search)
        # Block by block, features are normalised by a running mean. Its default start, 40,3,-1, garbles the first
        # seconds; the piece's own mean works as well as one call for the whole piece. The noise floor stays from the
        # first pass: without it, the decoder takes the first words for noise.
        decoder.set_cmn(cepstral_mean)
        decoder.start_utt()
        try:
            for first in range(0, len(pcm), _BLOCK):
                if should_stop():
                    raise ProcessingError(Sentence("recognition was stopped, as its caller asked"))
                decoder.process_raw(pcm[first : first + _BLOCK].tobytes())
        finally:
            decoder.end_utt()
        if decoder.hyp() is None:
            return []
        return [
            Word(
                _spelling(segment.word),
                segment.start_frame / _FRAMES_PER_S,
                (segment.end_frame + 1) / _FRAMES_PER_S,  # the end frame is part of the word
                float(np.clip(segment.prob, 0.0, 1.0)),  # posterior; linear, though other scores are logs
            )
            for segment in decoder.seg()
            if not segment.word.startswith(("<", "[", "++"))  # silence (<s>, <sil>), noise ([NOISE], ++BREATH++)
        ]


def _to_pcm(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return 16-bit samples; a quiet piece is raised above their steps."""
    if samples.ndim != 1:
        raise ProcessingError(Sentence("expected mono samples of shape (n,), got {shape}", shape=samples.shape))
    clean = np.nan_to_num(samples.astype(np.float32, copy=False), nan=0.0, posinf=1.0, neginf=-1.0)
    peak = float(np.abs(clean).max(initial=0.0))
    gain = _RAISED_PEAK / peak if 1 / 32768 <= peak < _QUIET_PEAK else 1.0
    return (np.clip(clean * gain, -1.0, 1.0) * 32767).astype(np.int16)


def _spelling(token: str) -> str:
    """Return a dictionary entry without its pronunciation's number, and with a capital I for the pronoun."""
    word = re.sub(r"\(\d+\)$", "", token)
    return "I" + word[1:] if word == "i" or word.startswith("i'") else word


def _segments(words: list[Word]) -> tuple[Segment, ...]:
    """Return runs of words without a long pause."""
    cuts = [index for index, (a, b) in enumerate(pairwise(words), start=1) if b.start_s - a.end_s >= MAX_PAUSE_S]
    runs = (words[a:b] for a, b in pairwise([0, *cuts, len(words)]) if a < b)
    return tuple(
        Segment(run[0].start_s, run[-1].end_s, " ".join(word.word for word in run), tuple(run)) for run in runs
    )
