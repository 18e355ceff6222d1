"""`PocketsphinxRecognizer`: the embedded recogniser, CMU PocketSphinx with the US English model in its wheel.

It needs no download, 90 MB and one core, hears clean read English nearly verbatim and telephone speech badly. Beams,
language weight and noise removal are the library's own: on the clips of `loadtests/recognizer_wer.py` no setting tried
was better by more than chance, switching noise removal off was worse, and wider beams doubled the time.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from importlib.metadata import version
from itertools import pairwise

import numpy as np
import pocketsphinx
from numpy.typing import NDArray

from serve_app.errors import LanguageUnsupported, ModelLoadingError, ProcessingError, TaskUnsupported
from serve_app.results import AUTO, SAMPLE_RATE_HZ, UNDETERMINED, Segment, SpeechTask, Transcript, Word

LANGUAGES = (AUTO, "en")
NOT_DETECTED = (
    "the language was not detected: no deployed speech backend can detect it, and the speech was taken for English"
)
# Shorter pieces hold no word: the shortest in the dictionary have three phones of three frames of 10 ms.
MIN_PIECE_S = 0.1
# A pause that ends a segment: longer than those inside a sentence (0.2-0.4 s), shorter than those between turns.
MAX_PAUSE_S = 0.6

_FRAMES_PER_S = 100
# Samples per call of the search. The library holds the interpreter's lock while it searches: 0.2 s of audio are 20-60
# ms in which no other thread runs, and the longest that a stop has to wait before the last pass.
_BLOCK = SAMPLE_RATE_HZ // 5
_QUIET_PEAK, _RAISED_PEAK = 0.1, 0.5
_LEVELS_SEARCH = "levels"


class PocketsphinxRecognizer:
    """Transcribes pieces of English speech into words with times and confidences.

    An answer depends on the piece alone: the state that the library carries from one utterance to the next (cepstral
    mean, noise floor) is set anew for each. One decoder works on one piece at a time; calls from several threads wait
    for each other, so give each thread its own recogniser.

    Args:
        num_threads: as for other recognisers; this library's decoder never uses more than one.

    Raises:
        ModelLoadingError: if the model that belongs in the wheel is missing or broken.
    """

    def __init__(self, *, num_threads: int = 1) -> None:
        self.num_threads = num_threads
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
            # the smallest grammar there is: a pass with it yields a piece's cepstral mean for 0.2 % of its duration
            self._decoder.add_jsgf_string(_LEVELS_SEARCH, "#JSGF V1.0; grammar levels; public <word> = a;")
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            raise ModelLoadingError(
                f"pocketsphinx could not load its US English model ({error}); reinstall the pocketsphinx wheel"
            ) from error

    @staticmethod
    def check_language(language: str) -> None:
        """Raise LanguageUnsupported for all but "auto" and "en"."""
        if language not in LANGUAGES:
            raise LanguageUnsupported(
                f"the embedded recogniser hears English only, not {language!r}; deploy a Whisper backend for it "
                "(faster-whisper, transformers or openai-whisper): name its weights and enable its deployment in the "
                "configuration"
            )

    @staticmethod
    def check_task(task: SpeechTask) -> None:
        """Raise TaskUnsupported for a translation."""
        if task is SpeechTask.TRANSLATE:
            raise TaskUnsupported(
                "the embedded recogniser can't translate; deploy a Whisper backend for it (faster-whisper, "
                "transformers or openai-whisper) with whisper-base, -small, -medium, -large-v2 or -large-v3"
            )

    def transcribe(
        self,
        samples: NDArray[np.float32],  # (samples,) 16 kHz mono
        *,
        offset_s: float = 0.0,
        language: str = "auto",
        should_stop: Callable[[], bool] | None = None,
    ) -> Transcript:
        """Transcribe one piece of at most about 30 s, cut at silences.

        Not-a-number samples count as silence; what is beyond full scale is clipped.

        Args:
            offset_s: where it begins in the file; added to every time.
            language: "en"; or "auto", which takes the speech for English, and returns the language "und" and a note.
            should_stop: asked every 0.2 s of audio; True ends the call.

        Raises:
            LanguageUnsupported: for any other language.
            ProcessingError: if the decoder fails, or `should_stop` answered True.
        """
        self.check_language(language)
        notes = (NOT_DETECTED,) if language == AUTO else ()
        pcm = _to_pcm(samples)
        duration_s = len(pcm) / SAMPLE_RATE_HZ
        words: list[Word] = []
        if duration_s >= MIN_PIECE_S and pcm.any():
            with self._lock:
                try:
                    words = self._decode(pcm, should_stop or _never)
                except RuntimeError as error:
                    raise ProcessingError(f"pocketsphinx failed on {duration_s:.1f} s of audio: {error}") from error
        placed = [
            Word(
                word.word,
                offset_s + min(word.start_s, duration_s),
                offset_s + min(word.end_s, duration_s),
                word.confidence,
            )
            for word in words
        ]
        return Transcript(_segments(placed), UNDETERMINED if language == AUTO else "en", self.model_version, notes)

    def _decode(self, pcm: NDArray[np.int16], should_stop: Callable[[], bool]) -> list[Word]:
        decoder = self._decoder
        decoder.reinit_feat()  # forgets earlier pieces
        decoder.activate_search(_LEVELS_SEARCH)
        decoder.start_utt()
        try:
            decoder.process_raw(pcm.tobytes(), no_search=True, full_utt=True)
            cepstral_mean = decoder.get_cmn()
        finally:
            decoder.end_utt()
        decoder.activate_search(self._words_search)
        # Taken block by block the features are normalised by a running mean. It starts at 40,3,-1 by default, which
        # garbles the first seconds; started at the piece's own mean it does as well as the whole piece in one call.
        # The noise floor is kept from the first pass: starting cold, it takes the first words for noise.
        decoder.set_cmn(cepstral_mean)
        decoder.start_utt()
        try:
            for first in range(0, len(pcm), _BLOCK):
                if should_stop():
                    raise ProcessingError("recognition was stopped, as its caller asked")
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
                float(np.clip(segment.prob, 0.0, 1.0)),  # posterior; linear already, though scores elsewhere are logs
            )
            for segment in decoder.seg()
            if not _is_filler(segment.word)
        ]


def _never() -> bool:
    return False


def _to_pcm(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return 16-bit samples; a quiet piece is raised, so that it isn't lost between their steps."""
    if samples.ndim != 1:
        raise ProcessingError(f"expected mono samples of shape (n,), got {samples.shape}")
    clean = np.nan_to_num(samples.astype(np.float32, copy=False), nan=0.0, posinf=1.0, neginf=-1.0)
    peak = float(np.abs(clean).max(initial=0.0))
    gain = _RAISED_PEAK / peak if 1 / 32768 <= peak < _QUIET_PEAK else 1.0
    return (np.clip(clean * gain, -1.0, 1.0) * 32767).astype(np.int16)


def _is_filler(token: str) -> bool:
    """Tell silences (<s>, </s>, <sil>) and noises ([NOISE], [SPEECH], ++BREATH++) from words."""
    return token.startswith(("<", "[", "++"))


def _spelling(token: str) -> str:
    """Return a dictionary entry as it is written: without its pronunciation's number, the pronoun I as a capital."""
    word = re.sub(r"\(\d+\)$", "", token)
    return "I" + word[1:] if word == "i" or word.startswith("i'") else word


def _segments(words: list[Word]) -> tuple[Segment, ...]:
    """Return runs of words without a long pause."""
    cuts = [index for index, (a, b) in enumerate(pairwise(words), start=1) if b.start_s - a.end_s >= MAX_PAUSE_S]
    runs: Iterable[list[Word]] = (words[a:b] for a, b in pairwise([0, *cuts, len(words)]) if a < b)
    return tuple(
        Segment(run[0].start_s, run[-1].end_s, " ".join(word.word for word in run), tuple(run)) for run in runs
    )
