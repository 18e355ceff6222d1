"""`transcribe_drums` and `drum_wav_to_midi`: all steps from a recording to its hits, and to its MIDI.

config = InferenceConfig()
config.grid_division["hihat"] = 8
drum_wav_to_midi("test.wav", "model/best_model.pt", "outputs/", config=config, bpm_override=120)
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import torch

from serve_app.models.devices import AUTO, torch_device
from serve_app.models.drums.activations import DrumActivations, run_network
from serve_app.models.drums.audio_file import Recording, read_recording
from serve_app.models.drums.beats import BeatGrid, track_beats
from serve_app.models.drums.checkpoint import LoadedDrums, checkpoint_path, load_checkpoint
from serve_app.models.drums.config import InferenceConfig, checked_bpm
from serve_app.models.drums.files import midi_bytes, text_log
from serve_app.models.drums.hits import find_strokes, onset_train, place_hits
from serve_app.results import Drum, DrumHit, DrumTranscript
from serve_app.sentences import Sentence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TranscribedDrums:
    """A transcript, and the activations that it was made from."""

    transcript: DrumTranscript
    activations: DrumActivations


@dataclass(frozen=True, slots=True)
class DrumFiles:
    """The files that `drum_wav_to_midi` wrote, and their content.

    Attributes:
        midi: the General MIDI file.
        log: the text log.
        picture: the PNG; None without `plot`.
        transcript: the hits.
    """

    midi: Path
    log: Path
    picture: Path | None
    transcript: DrumTranscript


def transcribe_drums(
    source: str | Path | BinaryIO,
    loaded: LoadedDrums,
    config: InferenceConfig | None = None,
    bpm_override: float | None = None,
    *,
    on_progress: Callable[[float], None] = lambda share: None,
) -> TranscribedDrums:
    """Transcribe a recording. Memory does not grow with its length, but for 24 bytes a frame of activations.

    Another thread decodes and computes the spectrogram while this one runs the network.

    Args:
        source: path, fsspec URL, or seekable binary file.
        loaded: the network.
        config: grids and thresholds.
        bpm_override: the tempo; None: detected.
        on_progress: called with the share that is done, 0 to 1, at least every few seconds; may raise to stop.

    Raises:
        InvalidRequest: the config or the tempo is wrong.
        AudioExtractionError: the file has no sound that can be decoded.
        OSError: it can't be read.
    """
    config = config or InferenceConfig()
    config.check()
    bpm_override = checked_bpm(bpm_override)
    recording = read_recording(source, on_block=lambda read_s: on_progress(0.0))
    stitcher, num_frames = loaded.stitcher(), loaded.num_frames(recording)
    for piece in _ahead(loaded.pieces(recording)):
        with _one_thread():
            [output] = run_network(loaded.network, [piece.bands])  # several at once are no faster on a CPU
        stitcher.add(piece, output)
        on_progress(min(1.0, (piece.first_frame + piece.keep.stop) / num_frames))
    return finish(recording, stitcher.finish(num_frames), config, loaded, bpm_override)


def finish(
    recording: Recording,
    activations: DrumActivations,
    config: InferenceConfig,
    loaded: LoadedDrums,
    bpm_override: float | None,
) -> TranscribedDrums:
    """Return the transcript of a recording's activations; the config and the tempo are checked already."""
    strokes = find_strokes(activations, config, loaded.thresholds, recording.duration_s)
    grid = track_beats(onset_train(strokes), recording.duration_s, bpm_override)
    hits = place_hits(strokes, grid, config)
    notes = (*recording.notes, *loaded.notes, *_notes(recording, hits, grid, config))
    version, duration_s = loaded.model_version, recording.duration_s
    transcript = DrumTranscript(
        hits, grid.bpm, grid.tempo_map, duration_s, version, notes, bpm_alternative=grid.bpm_alternative
    )
    return TranscribedDrums(transcript, activations)


def drum_wav_to_midi(
    wav_path: str | Path,
    model_path: str | Path | None = None,
    output_dir: str | Path = "outputs",
    config: InferenceConfig | None = None,
    bpm_override: float | None = None,
    device: str | torch.device | None = None,
    *,
    plot: bool = False,
) -> DrumFiles:
    """Write a recording's drums as General MIDI and as a text log.

    For `test.wav` the files are `test.mid` and `test.txt` (and `test.png`). Each appears whole or not at all, and
    replaces an earlier one.

    Args:
        wav_path: the recording; WAV, or any other format with sound.
        model_path: a `best_model.pt`; None: the one that comes with serve_app.
        output_dir: created where it is missing.
        config: grids and thresholds.
        bpm_override: the tempo; None: detected.
        device: "auto" or None: a GPU where there is one, else the CPU; "cpu", "cuda", "cuda:N", "mps".
        plot: draw activations and hits, too.

    Raises:
        InvalidRequest: the config or the tempo is wrong.
        ModelLoadingError: the model can't be used, or the device is not there.
        AudioExtractionError: the file has no sound that can be decoded.
        OSError: a file can't be read or written.
    """
    config = config or InferenceConfig()
    config.check()
    bpm_override = checked_bpm(bpm_override)
    where = torch_device(AUTO if device is None else str(device))
    loaded = load_checkpoint(checkpoint_path() if model_path is None else model_path, where)
    drums = transcribe_drums(wav_path, loaded, config, bpm_override)
    folder, stem = Path(output_dir), Path(wav_path).stem
    folder.mkdir(parents=True, exist_ok=True)
    midi, log, picture = render(drums, Path(wav_path).name, config, loaded, with_picture=plot)
    return DrumFiles(
        _write(folder / f"{stem}.mid", midi),
        _write(folder / f"{stem}.txt", log.encode()),
        None if picture is None else _write(folder / f"{stem}.png", picture),
        drums.transcript,
    )


def render(
    drums: TranscribedDrums, filename: str, config: InferenceConfig, loaded: LoadedDrums, *, with_picture: bool
) -> tuple[bytes, str, bytes | None]:
    """Return a transcript as a MIDI file, as a text log that names the recording, and as a PNG or None."""
    picture = None
    if with_picture:
        from serve_app.models.drums.picture import draw_drums  # matplotlib takes a second to load

        thresholds = {str(drum): config.threshold_of(drum, loaded.thresholds) for drum in Drum}
        picture = draw_drums(drums.transcript, drums.activations, thresholds)
    midi = midi_bytes(drums.transcript, quantized=config.quantized_midi)
    return midi, text_log(drums.transcript, filename, config), picture


def _notes(recording: Recording, hits: Sequence[DrumHit], grid: BeatGrid, config: InferenceConfig) -> Iterator[str]:
    if recording.is_silent:
        yield Sentence("The recording is silent")
    elif not hits:
        yield Sentence("No kick, snare or hi-hat was detected")
    if grid.is_assumed:
        yield Sentence("There are no strokes to find a tempo from; {bpm:g} BPM is assumed", bpm=grid.bpm)
    if grid.bpm_alternative is not None:
        yield Sentence(
            "The tempo may also be {alternative:.1f} BPM instead of {bpm:.1f}: the strokes fit both",
            alternative=grid.bpm_alternative,
            bpm=grid.bpm,
        )
    shared = len(hits) - len({(hit.drum, hit.quantized_s) for hit in hits})
    if shared and config.quantized_midi:
        yield Sentence(
            "{num} strokes fall on the same grid line as another of their drum; the MIDI file has the loudest of each "
            "line, a finer grid would separate them",
            num=shared,
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Restrict torch to the calling thread: at each of the GRU's thousands of small steps threads wait for each other.

    Where another process uses a core, too, two threads took 80 to 180 s for a minute of music, and one thread 2 s.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items; another thread makes the next one while the caller works."""
    with ThreadPoolExecutor(1, thread_name_prefix="drum-reader") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _write(path: Path, content: bytes) -> Path:
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
