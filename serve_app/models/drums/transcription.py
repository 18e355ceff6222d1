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

from serve_app.models.drums.activations import DrumActivations, Piece, Stitcher, cut_pieces, run_network
from serve_app.models.drums.audio_file import Recording, read_recording
from serve_app.models.drums.beats import BeatGrid, track_beats
from serve_app.models.drums.checkpoint import LoadedDrums, load_checkpoint
from serve_app.models.drums.config import InferenceConfig, checked_bpm
from serve_app.models.drums.files import midi_bytes, text_log
from serve_app.models.drums.hits import find_strokes, onset_train, place_hits
from serve_app.models.drums.loading import checkpoint_path
from serve_app.results import Drum, DrumHit, DrumTranscript

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HeardDrums:
    """What was played, and what it was read from."""

    transcript: DrumTranscript
    activations: DrumActivations


@dataclass(frozen=True, slots=True)
class DrumFiles:
    """What `drum_wav_to_midi` wrote.

    Attributes:
        midi: path of the General MIDI file.
        log: path of the text log.
        picture: path of the PNG; None where none was asked for.
        transcript: what they say.
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
) -> HeardDrums:
    """Write a recording down. Memory does not grow with its length, but for 24 bytes a frame of activations.

    Decoding and the spectrogram run in a thread of their own, beside the network, which runs in this one alone.

    Args:
        source: path, fsspec URL, or seekable binary file.
        on_progress: called with the share that is done, 0 to 1, at least every some seconds; may raise to give up.

    Raises:
        InvalidRequest: the config or the tempo is wrong.
        AudioExtractionError: the file has no sound that can be decoded.
        OSError: it can't be read.
    """
    config = config or InferenceConfig()
    config.check()
    bpm_override = checked_bpm(bpm_override)
    recording = read_recording(source, on_block=lambda read_s: on_progress(0.0))
    stitcher = Stitcher(loaded.hyper_parameters.labels)
    for piece in _ahead(recording_pieces(recording, loaded)):
        with _one_thread():
            [output] = run_network(loaded.network, [piece.bands])  # several at once are no faster on a CPU
        stitcher.add(piece, output)
        on_progress(min(1.0, (piece.first_frame + piece.keep.stop) / recording.num_frames))
    activations = stitcher.finish(recording.num_frames)
    return HeardDrums(finish(recording, activations, config, loaded, bpm_override), activations)


def recording_pieces(recording: Recording, loaded: LoadedDrums) -> Iterator[Piece]:
    """Cut a recording as its network needs it; a silent one has no pieces, and so no strokes."""
    return cut_pieces(recording.blocks, gain=recording.gain)


def finish(
    recording: Recording,
    activations: DrumActivations,
    config: InferenceConfig,
    loaded: LoadedDrums,
    bpm_override: float | None = None,
) -> DrumTranscript:
    """Return the transcript: everything after the network.

    Raises:
        InvalidRequest: the config or the tempo is wrong.
    """
    strokes = find_strokes(activations, config, loaded.thresholds, recording.duration_s)
    grid = track_beats(onset_train(strokes), recording.duration_s, checked_bpm(bpm_override))
    hits = place_hits(strokes, grid, config)
    notes = (*recording.notes, *_notes(recording, hits, grid, config))
    return DrumTranscript(hits, grid.bpm, grid.tempo_map, recording.duration_s, loaded.model_version, notes)


def drum_wav_to_midi(
    wav_path: str | Path,
    model_path: str | Path | None = None,
    output_dir: str | Path = "outputs",
    config: InferenceConfig | None = None,
    bpm_override: float | None = None,
    *,
    plot: bool = False,
) -> DrumFiles:
    """Write a recording's drums as General MIDI and as a text log.

    They are named after the recording: of `test.wav`, `test.mid` and `test.txt` (and `test.png`). Each appears whole
    or not at all, in place of an earlier one.

    Args:
        wav_path: the recording; WAV, or any other format with sound.
        model_path: a `best_model.pt`; None: the one that comes with serve_app.
        output_dir: made where it is missing.
        config: grids and thresholds.
        bpm_override: the tempo; None: detected.
        plot: whether to draw activations and hits too.

    Raises:
        InvalidRequest: the config or the tempo is wrong.
        ModelLoadingError: the model can't be used.
        AudioExtractionError: the file has no sound that can be decoded.
        OSError: a file can't be read or written.
    """
    config = config or InferenceConfig()
    config.check()
    bpm_override = checked_bpm(bpm_override)
    loaded = load_checkpoint(checkpoint_path() if model_path is None else model_path)
    heard = transcribe_drums(wav_path, loaded, config, bpm_override)
    folder, stem = Path(output_dir), Path(wav_path).stem
    folder.mkdir(parents=True, exist_ok=True)
    midi, log, picture = render(heard, Path(wav_path).name, config, loaded, with_picture=plot)
    return DrumFiles(
        _write(folder / f"{stem}.mid", midi),
        _write(folder / f"{stem}.txt", log.encode()),
        None if picture is None else _write(folder / f"{stem}.png", picture),
        heard.transcript,
    )


def render(
    heard: HeardDrums, filename: str, config: InferenceConfig, loaded: LoadedDrums, *, with_picture: bool
) -> tuple[bytes, str, bytes | None]:
    """Return a transcript as a MIDI file, as a text log, and as a PNG where one is wanted.

    Args:
        heard: the transcript, and the activations that the picture shows.
        filename: of the recording; the log names it.
        config: grids and thresholds.
        loaded: for its thresholds.
        with_picture: whether to draw.
    """
    picture = None
    if with_picture:
        from serve_app.models.drums.picture import draw_drums  # matplotlib takes a second to load

        thresholds = {str(drum): config.threshold_of(drum, loaded.thresholds) for drum in Drum}
        picture = draw_drums(heard.transcript, heard.activations, thresholds)
    midi = midi_bytes(heard.transcript, quantized=config.quantized_midi)
    return midi, text_log(heard.transcript, filename, config), picture


def _notes(recording: Recording, hits: Sequence[DrumHit], grid: BeatGrid, config: InferenceConfig) -> Iterator[str]:
    if recording.is_silent:
        yield "The recording is silent"
    elif not hits:
        yield "No kick, snare or hi-hat was heard"
    if grid.is_assumed:
        yield f"There are no strokes to find a tempo from; {grid.bpm:g} BPM is assumed"
    shared = len(hits) - len({(hit.drum, hit.quantized_s) for hit in hits})
    if shared and config.quantized_midi:
        yield (
            f"{shared} strokes fall on the same grid line as another of their drum; the MIDI file has the loudest of "
            "each line, a finer grid would part them"
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to the calling thread.

    The recurrent layer has thousands of small steps, at each of which threads would wait for each other: where another
    process wants a core too, a minute of music took two threads 80 to 180 s, and one thread 2 s.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items, of which the next is made in another thread while the caller works on one."""
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
