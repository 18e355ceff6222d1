"""The way from a recording to its MIDI file on this machine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from serve_app.commands.drums.routes import OnProgress, Wishes, Written
from serve_app.models.drums.config import InferenceConfig, checked_bpm
from serve_app.models.drums.loading import EMBEDDED, load_drums
from serve_app.models.drums.midi import midi_bytes
from serve_app.models.drums.text_log import text_log
from serve_app.models.drums.transcription import transcribe_drums
from serve_app.results import DrumTranscript


class LocalRoute:
    """Runs the network in this process.

    Args:
        wishes: of the caller.
        model: spec of the weights, see `models.weights`; None: those that come with serve_app.
        device: "auto", "cpu", "cuda" or a torch device string.
        cache_dir: where weights that are fetched are kept.
        hf_token: opens gated models.

    Raises:
        InvalidRequest: a wish can't be granted.
        ModelLoadingError: the model can't be used.
    """

    def __init__(
        self, wishes: Wishes, *, model: str | None, device: str, cache_dir: Path, hf_token: str | None = None
    ) -> None:
        self._config = InferenceConfig()
        self._config.grid_division.update(wishes.grid)
        self._config.thresholds.update(wishes.thresholds)
        self._config.check()
        self._bpm = checked_bpm(wishes.bpm)
        self._plot = wishes.plot
        self._loaded = load_drums(model or EMBEDDED, cache_dir=cache_dir, device=device, hf_token=hf_token)

    @property
    def model_version(self) -> str:
        """Name of the weights."""
        return self._loaded.model_version

    def hear(self, path: Path, on_progress: OnProgress) -> DrumTranscript:
        """Return what is played in a recording; errors as `transcribe`."""
        return transcribe_drums(path, self._loaded, self._config, self._bpm, on_progress=on_progress).transcript

    def transcribe(self, path: Path, on_progress: OnProgress) -> Written:
        """Return a recording's drums, ready to be stored."""
        heard = transcribe_drums(path, self._loaded, self._config, self._bpm, on_progress=on_progress)
        transcript = heard.transcript
        picture = None
        if self._plot:
            from serve_app.models.drums.picture import draw_drums  # matplotlib takes a second to load

            picture = draw_drums(transcript, heard.activations, self._loaded.thresholds | self._given())
        return Written(
            midi_bytes(transcript),
            text_log(transcript, path.name, self._config),
            picture,
            transcript.bpm,
            transcript.duration_s,
            Counter(str(hit.drum) for hit in transcript.hits),
            transcript.notes,
        )

    def _given(self) -> dict[str, float]:
        return {drum: value for drum, value in self._config.thresholds.items() if value is not None}
