"""`WhisperTokens`: a checkpoint's token ids, its prompts, and words from tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from faster_whisper.tokenizer import Tokenizer
from tokenizers import Tokenizer as TokenizerFile

from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint
from serve_app.models.speech.whisper.checkpoint_files import TOKENIZER
from serve_app.results import SpeechTask
from serve_app.sentences import Sentence

_CONTROLS = ("startoftranscript", "startofprev", "startoflm", "transcribe", "translate", "nospeech", "nocaptions")


class WhisperTokens:
    """Token ids of one checkpoint, and `no_translation`: why it can't translate, None if it can."""

    def __init__(self, checkpoint: WhisperCheckpoint) -> None:
        self._file = TokenizerFile.from_file(str(checkpoint.folder / TOKENIZER))
        self._is_multilingual = checkpoint.is_multilingual
        english = self._of("en")
        self.start_of_transcript: int = english.sot
        self.start_of_previous: int = english.sot_prev
        self.end_of_text: int = english.eot  # ids below are text
        self.no_timestamps: int = english.no_timestamps
        self.timestamp_begin: int = english.timestamp_begin  # `<|0.00|>`; the next ones are 0.02 s apart
        self.no_speech: int = english.no_speech
        # never generated: those listed in the checkpoint, and control tokens
        listed = checkpoint.generation_config.get("suppress_tokens") or checkpoint.config.get("suppress_tokens") or ()
        controls = (self._file.token_to_id(f"<|{name}|>") for name in _CONTROLS)
        self.suppressed = tuple(sorted({*(id for id in listed if id >= 0), *(id for id in controls if id is not None)}))
        # never the first text token: a space alone, and the end
        self.suppressed_at_begin = (*english.encode(" "), self.end_of_text)
        self.max_tokens = int(checkpoint.config["max_target_positions"])  # with the prompt
        has_task = self._file.token_to_id(f"<|{SpeechTask.TRANSLATE}|>") is not None
        self.no_translation = checkpoint.no_translation or (
            None if has_task else Sentence("its tokenizer has no such task")
        )
        self._language_ids = {code: self._file.token_to_id(f"<|{code}|>") for code in checkpoint.languages}

    @property
    def language_ids(self) -> dict[str, int]:
        """Id of each language's token, by code; empty for an English-only checkpoint."""
        return {code: id for code, id in self._language_ids.items() if self._is_multilingual and id is not None}

    def start(self, language: str, task: SpeechTask = SpeechTask.TRANSCRIBE) -> list[int]:
        """Return the first tokens of a transcript, or a translation, of that language."""
        return list(self._of(language, task).sot_sequence)

    def previous(self, prompt: str | None) -> list[int]:
        """Return the tokens before a transcript that continues a text, at most its last `max_prompt_tokens`."""
        ids = self._prompt_ids(prompt)[-self.max_prompt_tokens :]
        return [self.start_of_previous, *ids] if ids else []

    def is_shortened(self, prompt: str | None) -> bool:
        """Whether a text has more than `max_prompt_tokens`."""
        return len(self._prompt_ids(prompt)) > self.max_prompt_tokens

    @property
    def max_prompt_tokens(self) -> int:
        """Half of the decoder's positions less `<|startofprev|>`: openai-whisper's bound."""
        return self.max_tokens // 2 - 1

    def room_after(self, prompt: Sequence[int]) -> int:
        """Return how many tokens may follow a prompt: half of the positions, as in openai-whisper."""
        return min(self.max_tokens // 2, self.max_tokens - len(prompt) - 1)

    @lru_cache(maxsize=32)  # noqa: B019 - lives as long as its model; pieces of a file share their prompt
    def _prompt_ids(self, prompt: str | None) -> tuple[int, ...]:
        return tuple(self._of("en").encode(" " + prompt.strip())) if prompt and prompt.strip() else ()

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids; ids above the end of text have none."""
        return self._of("en").decode(list(ids))

    def words(self, ids: Sequence[int], language: str) -> list[tuple[str, int]]:
        """Split text tokens into words, each with its leading space and its number of tokens.

        Languages without spaces are split at every character, as in all libraries.
        """
        if not ids:
            return []
        words, tokens = self._of(language).split_to_word_tokens(list(ids))
        return [(word, len(own)) for word, own in zip(words, tokens, strict=True)]

    @lru_cache(maxsize=256)  # noqa: B019 - lives as long as its model; there are 100 languages
    def _of(self, language: str, task: SpeechTask = SpeechTask.TRANSCRIBE) -> Tokenizer:
        return Tokenizer(self._file, self._is_multilingual, task=task, language=language)
