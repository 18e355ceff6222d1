"""`Timeline`: turns decoded frames into one growing mono signal on the file's own clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from serve_app.errors import AudioExtractionError
from serve_app.media.downmix import channel_weights, downmix, to_float
from serve_app.media.samples import BLOCK_VALUES, SampleBuffer, SampleQueue
from serve_app.results import SAMPLE_RATE_HZ
from serve_app.sentences import Sentence

_GAP_S = 0.1  # Matroska rounds times to 1 ms and FLV drifts by more: a smaller difference is jitter
_MAX_CHANNELS = 64
# PyAV 18 counts planes by reading pointers until a null one. FFmpeg's own array holds eight and no null: with eight or
# more, PyAV reads other memory, and `to_ndarray` of a planar 7.1 frame crashes the process.
_SAFE_PLANES = 7
_RATES_HZ = (1_000, 768_000)
# What time stamps alone may add in silence. A damaged stamp can claim hours; a recorder that leaves silence out writes
# some 100 bytes for each second of it, or has the bytes of a picture.
_FREE_SILENCE_S = 60.0
_BYTES_PER_SILENT_S = 100.0
_NOTED_START_S = 1.0
_EXPECTED_S = 60.0  # of a file that declares no duration


class Timeline:
    """Turns decoded frames of any format, which may change between frames, into mono of one rate in file time.

    Frames carry time stamps. A late start and gaps become silence, so that times stay those of the file, and are noted.
    An impossible jump is ignored and noted: back, beyond the end, or with the others longer than the file's bytes
    allow.

    Args:
        max_duration_s: longest result; beyond it `add` raises AudioExtractionError.
        num_bytes: of the file; None where its size says nothing.
        sample_rate_hz: of the result.
        weigh: returns the channels' weights by their names.
        streamed: the result is taken in blocks, by `take`; it is not limited to ±1.
    """

    def __init__(
        self,
        max_duration_s: float,
        *,
        num_bytes: int | None = None,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        weigh: Callable[[Sequence[str]], np.ndarray] = channel_weights,
        streamed: bool = False,
    ) -> None:
        limit = int(max_duration_s * sample_rate_hz)
        self._buffer: SampleBuffer | SampleQueue = (
            SampleQueue(limit, sample_rate_hz) if streamed else SampleBuffer(limit, sample_rate_hz)
        )
        self._max_duration_s = max_duration_s
        self._rate_hz = sample_rate_hz
        self._weigh = weigh
        self._latest_s = max_duration_s
        self._origin_s: float | None = None
        self._shape: tuple[str, str, int] | None = None
        self._weights = np.ones(1, dtype=np.float32)
        self._packer: AudioResampler | None = None
        self._resampler: AudioResampler | None = None
        self._resampled_from = self._resampled = 0  # where the resampler began, and the samples that it was given
        self._block: list[np.ndarray] = []
        self._block_values = 0
        self._run_start_s = 0.0
        self._run_samples = 0
        self._skip = 0
        self._silence_left_s = (
            max_duration_s if num_bytes is None else _FREE_SILENCE_S + num_bytes / _BYTES_PER_SILENT_S
        )
        self._gaps: list[float] = []  # their seconds
        self._first_gap_s = 0.0
        self._notes: dict[Sentence, None] = {}
        self._section_start = 0

    def start_section(self, origin_s: float | None, expected_s: float | None) -> None:
        """Go on with another file, behind what there is.

        Args:
            origin_s: time stamp of its start; None: that of its first frame.
            expected_s: its declared duration; None where it declares none.
        """
        start_s = self.duration_s
        self._origin_s = None if origin_s is None else origin_s - start_s
        self._latest_s = min(self._max_duration_s, start_s + expected_s + 1.0 if expected_s else self._max_duration_s)
        self._section_start = self._buffer.num_samples
        self._run_start_s, self._run_samples, self._skip, self._shape = start_s, 0, 0, None
        if isinstance(self._buffer, SampleBuffer):
            self._buffer.expect(int(((expected_s or _EXPECTED_S) + 1.0) * self._rate_hz))

    def end_section(self) -> None:
        """Complete what the frames so far give; it is part of `duration_s` from here on."""
        self._end_run()

    def add(self, frame: AudioFrame) -> None:
        if frame.samples == 0:
            return
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            self._start_shape(frame, shape)
        self._keep_time(frame)
        self._run_samples += frame.samples
        for readable in [frame] if self._packer is None else self._packer.resample(frame):
            self._hold(readable)
        if self._block_values >= BLOCK_VALUES:
            self._mix_block()

    @property
    def num_samples(self) -> int:
        return self._buffer.num_samples

    @property
    def duration_s(self) -> float:
        """Of what can be taken so far."""
        return self._buffer.num_samples / self._rate_hz

    def take(self) -> list[np.ndarray]:
        """Return the blocks that are ready and not taken yet."""
        assert isinstance(self._buffer, SampleQueue)
        return self._buffer.take()

    def finish(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return (n,) float32 within ±1, and the repairs."""
        notes = self.end()
        assert isinstance(self._buffer, SampleBuffer)
        return self._buffer.take(), notes

    def end(self) -> tuple[str, ...]:
        """Complete a streamed result, so that its last blocks can be taken; return the repairs."""
        self._end_run()
        if self._gaps:
            facts = {"seconds": sum(self._gaps), "first": self._first_gap_s}
            self._note(
                Sentence("{seconds:.1f} s of sound are missing at {first:.1f} s", **facts)
                if len(self._gaps) == 1
                else Sentence(
                    "{seconds:.1f} s of sound are missing in {num} places, the first at {first:.1f} s",
                    num=len(self._gaps),
                    **facts,
                )
            )
        return tuple(self._notes)

    def _start_shape(self, frame: AudioFrame, shape: tuple[str, str, int]) -> None:
        names = [channel.name for channel in frame.layout.channels]
        rate_hz = frame.sample_rate
        if not 1 <= len(names) <= _MAX_CHANNELS or not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:
            raise AudioExtractionError(
                Sentence(
                    "The audio has {num} channels at {rate} Hz, which is not accepted", num=len(names), rate=rate_hz
                )
            )
        if self._shape is not None:
            self._end_run()
            self._run_start_s, self._run_samples = self._buffer.num_samples / self._rate_hz, 0
        self._shape = shape
        self._weights = self._weigh(names)
        packed = frame.format.packed.name
        needs_packing = frame.format.is_planar and len(names) > _SAFE_PLANES
        if packed == "s64":  # which NumPy gets from PyAV in no way
            needs_packing, packed = True, "dbl"
        self._packer = AudioResampler(format=packed) if needs_packing else None

    def _hold(self, frame: AudioFrame) -> None:
        samples = frame.to_ndarray()  # planar: (channels, n), packed: (1, n × channels)
        if not frame.format.is_planar:
            samples = samples.reshape(-1, len(self._weights)).T
        if self._skip:
            dropped = min(self._skip, samples.shape[1])
            self._skip -= dropped
            samples = samples[:, dropped:]
        self._block.append(samples)
        self._block_values += samples.size

    def _keep_time(self, frame: AudioFrame) -> None:
        if frame.pts is None or frame.time_base is None:
            return
        stamp_s = float(frame.pts * frame.time_base)
        expected_s = self._run_start_s + self._run_samples / frame.sample_rate
        if self._origin_s is None:
            self._origin_s = stamp_s - expected_s
        time_s = stamp_s - self._origin_s
        is_first = self._run_samples == 0 and self._buffer.num_samples == self._section_start
        if is_first and -1.0 < time_s - expected_s < 0:
            self._skip = round((expected_s - time_s) * frame.sample_rate)  # the encoder's delay, not part of the sound
            self._run_start_s = time_s
            return
        if abs(time_s - expected_s) <= (_GAP_S if self._run_samples else 0.5 / self._rate_hz):
            return
        missing_s = time_s - expected_s
        if 0 < missing_s <= self._silence_left_s and time_s <= self._latest_s:
            self._silence_left_s -= missing_s
            if is_first:
                if missing_s >= _NOTED_START_S:
                    self._note(
                        Sentence("The sound starts {seconds:.1f} s after the start of the file", seconds=missing_s)
                    )
            elif self._run_samples:
                self._end_run()
                self._first_gap_s = self._first_gap_s if self._gaps else expected_s
                self._gaps.append(missing_s)
            self._buffer.append_silence(max(0, round(time_s * self._rate_hz) - self._buffer.num_samples))
            self._run_start_s, self._run_samples = time_s, 0
        else:
            self._origin_s = stamp_s - expected_s
            self._note(Sentence("The file's time stamps jump; they were taken as continuous"))

    def _note(self, note: Sentence) -> None:
        self._notes[note] = None

    def _mix_block(self) -> None:
        if not self._block or self._shape is None:
            return
        samples = to_float(self._block[0] if len(self._block) == 1 else np.concatenate(self._block, axis=1))
        self._block, self._block_values = [], 0
        if not np.isfinite(samples).all():
            samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
            self._note(Sentence("Samples that are not numbers were replaced by silence"))
        mono, inverted = downmix(np.require(samples, requirements=("C", "W")), self._weights)
        if inverted:
            self._note(Sentence("Left and right have opposite polarity; one was turned over"))
        self._resample(mono)

    def _end_run(self) -> None:
        self._mix_block()
        if self._resampler is not None:
            assert self._shape is not None
            self._append(self._resampler.resample(None))
            self._resampler = None
            # of fewer samples than its filter has, some 30, the resampler returns nothing
            end = self._resampled_from + max(1, round(self._resampled * self._rate_hz / self._shape[2]))
            self._buffer.append_silence(max(0, end - self._buffer.num_samples))

    def _resample(self, mono: np.ndarray) -> None:
        assert self._shape is not None
        if self._shape[2] == self._rate_hz:
            self._store(mono)
            return
        if self._resampler is None:
            self._resampler = AudioResampler(format="flt", layout="mono", rate=self._rate_hz)
            self._resampled_from, self._resampled = self._buffer.num_samples, 0
        self._resampled += len(mono)
        frame = av.AudioFrame.from_ndarray(mono[np.newaxis], format="flt", layout="mono")
        frame.sample_rate = self._shape[2]
        self._append(self._resampler.resample(frame))

    def _append(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            self._store(frame.to_ndarray()[0])

    def _store(self, samples: np.ndarray) -> None:
        # beyond full scale: float files recorded too hot, and the resampler's overshoot at clipped peaks
        is_streamed = isinstance(self._buffer, SampleQueue)
        self._buffer.append(samples if is_streamed else np.clip(samples, -1.0, 1.0))
