import os
from pathlib import Path

import numpy as np
import pyannote.audio
import pytest
import soundfile
import torch
import yaml
from pyannote.core import Annotation, Segment
from pyannote.metrics.diarization import DiarizationErrorRate

from serve_app.errors import GpuMemoryError, InvalidRequest, ModelLoadingError, ProcessingError
from serve_app.models.diarization import hub_pipeline
from serve_app.models.diarization.pipeline import SpeakerDiarizer, turns_of
from serve_app.models.speech.options import DiarizerOptions

SAMPLE = Path(pyannote.audio.__file__).parent / "sample"
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def diarizer():
    return SpeakerDiarizer(num_threads=1)


@pytest.fixture(scope="module")
def call():
    """The telephone call that ships with pyannote.audio: 30 s, two speakers."""
    samples, rate = soundfile.read(SAMPLE / "sample.wav", dtype="float32")
    assert rate == RATE_HZ
    return samples


def _error_rate(diarization):
    reference, found = Annotation(), Annotation()
    for number, line in enumerate((SAMPLE / "sample.rttm").read_text().splitlines()):
        start_s, duration_s, speaker = (line.split()[i] for i in (3, 4, 7))
        reference[Segment(float(start_s), float(start_s) + float(duration_s)), number] = speaker
    for number, turn in enumerate(diarization.turns):
        found[Segment(turn.start_s, turn.end_s), number] = turn.speaker_id
    return DiarizationErrorRate(collar=0.0, skip_overlap=False)(reference, found, uem=None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'uem' was approximated")
@pytest.mark.parametrize(("counts", "bound"), [({"num_speakers": 2}, 0.10), ({}, 0.15)])
def test_a_real_telephone_call(diarizer, call, counts, bound):
    result = diarizer.diarize(call, **counts)
    assert _error_rate(result) <= bound
    assert {turn.speaker_id for turn in result.turns} == {"SPEAKER_00", "SPEAKER_01"}
    assert result.turns[0].speaker_id == "SPEAKER_00"
    assert list(result.turns) == sorted(result.turns, key=lambda turn: turn.start_s)
    assert all(0.0 <= turn.start_s < turn.end_s <= 30.0 for turn in result.turns)
    assert result.notes == ()
    assert "serve-app-embedding" in result.model_version


def test_the_waveform_is_left_as_it_was_and_may_be_read_only(diarizer, call):
    frozen = call[: 10 * RATE_HZ].copy()
    frozen.flags.writeable = False
    assert diarizer.diarize(frozen) == diarizer.diarize(call[: 10 * RATE_HZ])


def test_level_does_not_matter(diarizer, call):
    quiet = diarizer.diarize(call[: 15 * RATE_HZ] * 0.01, num_speakers=2)
    loud = diarizer.diarize(call[: 15 * RATE_HZ], num_speakers=2)
    assert len({turn.speaker_id for turn in quiet.turns}) == len({turn.speaker_id for turn in loud.turns})
    heard = [sum(turn.end_s - turn.start_s for turn in one.turns) for one in (quiet, loud)]
    assert heard[0] == pytest.approx(heard[1], rel=0.05)


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros(0, np.float32),
        np.zeros(1, np.float32),
        np.zeros(RATE_HZ // 2, np.float32),
        np.zeros(20 * RATE_HZ, np.float32),
        np.random.default_rng(0).standard_normal(20 * RATE_HZ).astype(np.float32) * 0.003,
    ],
    ids=["empty", "one sample", "half a second", "silence", "noise"],
)
def test_where_nobody_speaks_there_are_no_turns(diarizer, waveform):
    assert diarizer.diarize(waveform, num_speakers=2).turns == ()


def test_half_a_second_of_speech_is_somebodys(diarizer, call):
    turns = diarizer.diarize(call[int(8.5 * RATE_HZ) : 9 * RATE_HZ]).turns
    assert {turn.speaker_id for turn in turns} == {"SPEAKER_00"}
    assert turns[-1].end_s <= 0.5


def test_more_speakers_than_there_can_be_is_noted(diarizer, call):
    result = diarizer.diarize(call[7 * RATE_HZ : 10 * RATE_HZ], num_speakers=9)
    found = len({turn.speaker_id for turn in result.turns})
    assert 1 <= found < 9
    assert result.notes == (f"9 speakers were asked for, but only {found} could be told apart.",)


@pytest.mark.parametrize(
    "counts",
    [
        {"min_speakers": 3, "max_speakers": 2},
        {"num_speakers": 0},
        {"max_speakers": -1},
        {"num_speakers": 5, "max_speakers": 4},
    ],
)
def test_contradictory_counts_are_refused_before_any_work(diarizer, counts):
    with pytest.raises(InvalidRequest, match="speakers"):
        diarizer.diarize(np.zeros(RATE_HZ, np.float32), **counts)


@pytest.mark.parametrize(
    "waveform",
    [np.zeros((2, RATE_HZ), np.float32), np.zeros(RATE_HZ, np.int16), np.full(RATE_HZ, np.nan, np.float32)],
)
def test_what_is_no_waveform_is_refused(diarizer, waveform):
    with pytest.raises(InvalidRequest):
        diarizer.diarize(waveform)


def test_progress_rises_to_one(diarizer, call):
    seen = []
    diarizer.diarize(call, on_progress=lambda step, share: seen.append((step, share)))
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert {"segmentation", "embeddings"} <= {step for step, _ in seen}
    assert len(seen) > 8


class Cancelled(BaseException):
    pass


@pytest.mark.parametrize("kind", [Cancelled, ValueError, MemoryError])
@pytest.mark.parametrize("at", [0.0, 0.5])
def test_what_the_progress_callback_raises_ends_the_work(diarizer, call, kind, at):
    calls = []

    def interrupt(step, share):
        calls.append(share)
        if share >= at:
            raise kind("stop")

    with pytest.raises(kind, match="stop"):
        diarizer.diarize(call[: 10 * RATE_HZ], on_progress=interrupt)
    assert [share for share in calls if share >= at] == calls[-1:]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), GpuMemoryError),
        (MemoryError("batch_size"), GpuMemoryError),
        (RuntimeError("shape mismatch"), ProcessingError),
    ],
)
def test_failures_inside_become_errors_of_ours(diarizer, call, monkeypatch, raised, expected):
    def fail(*args, **kwargs):
        raise raised

    monkeypatch.setattr(diarizer._pipeline, "get_segmentations", fail)
    with pytest.raises(expected, match=str(raised)):
        diarizer.diarize(call)


class _HubPipeline:
    """Answers as a pipeline from the hub does: pyannote 4 wraps the annotation, older ones do not."""

    def __init__(self, wrapped):
        self.wrapped = wrapped
        self.device = None
        self.asked = {}

    def to(self, device):
        self.device = device

    def __call__(self, file, hook=None, **counts):
        self.asked = counts
        annotation = Annotation()
        annotation[Segment(3.0, 99.0), "b"] = "X"
        annotation[Segment(-0.5, 2.0), "a"] = "Y"
        if not self.wrapped:
            return annotation
        return type("Output", (), {"speaker_diarization": annotation})()


PINNED = "pyannote/speaker-diarization-community-1@" + "0123456789abcdef" * 2 + "01234567"
CONFIG = {
    "pipeline": {
        "name": "pyannote.audio.pipelines.SpeakerDiarization",
        "params": {"segmentation": "$model/segmentation", "clustering": "VBxClustering"},
    }
}


def _folder(path, config=CONFIG):
    path.mkdir(exist_ok=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_pinned_model_id_takes_that_pipeline_from_the_hub(monkeypatch, tmp_path, wrapped):
    hub, asked = _HubPipeline(wrapped), []
    config = _folder(tmp_path / "hub") / "config.yaml"
    monkeypatch.setattr(hub_pipeline.huggingface_hub, "hf_hub_download", lambda *args, **kwargs: str(config))
    monkeypatch.setattr(
        hub_pipeline.Pipeline,
        "from_pretrained",
        lambda name, revision=None, token=None: asked.append((f"{name}@{revision}", token)) or hub,
    )
    diarizer = SpeakerDiarizer(model_id=PINNED, allow_code=True, hf_token="hf_x")
    result = diarizer.diarize(np.ones(5 * RATE_HZ, np.float32), min_speakers=2)
    assert asked == [(PINNED, "hf_x")]
    assert hub.device == torch.device("cpu")
    assert hub.asked == {"min_speakers": 2, "max_speakers": None}
    assert "community-1" in result.model_version
    assert [(t.start_s, t.end_s, t.speaker_id) for t in result.turns] == [
        (0.0, 2.0, "SPEAKER_00"),
        (3.0, 5.0, "SPEAKER_01"),
    ]


@pytest.mark.parametrize("answer", [None, OSError("401 Client Error")])
def test_a_pipeline_that_may_not_be_had_says_what_to_do(monkeypatch, tmp_path, answer):
    def load(name, revision=None, token=None):
        if answer is not None:
            raise answer

    monkeypatch.setattr(hub_pipeline.Pipeline, "from_pretrained", load)
    with pytest.raises(ModelLoadingError, match="HF_TOKEN"):
        SpeakerDiarizer(model_id=str(_folder(tmp_path / "gated")), allow_code=True)


class _Code:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_code_in_a_pipelines_checkpoint_runs_only_where_it_is_allowed(tmp_path):
    folder, trace = _folder(tmp_path / "pipeline"), tmp_path / "it_ran"
    (folder / "segmentation").mkdir()
    torch.save({"state_dict": _Code(trace)}, folder / "segmentation" / "pytorch_model.bin")
    with pytest.raises(ModelLoadingError, match="allow_code"):
        SpeakerDiarizer(model_id=str(folder))
    assert not trace.exists()
    with pytest.raises(ModelLoadingError):  # it is no model, but pyannote has unpickled it
        SpeakerDiarizer(model_id=str(folder), allow_code=True)
    assert trace.exists()


@pytest.mark.parametrize(
    "model_id", ["pyannote/speaker-diarization-3.1", "pyannote/a@main", "pyannote/a@" + "0" * 39, "../pipeline"]
)
def test_a_pipeline_without_a_commit_is_refused(model_id):
    with pytest.raises(ModelLoadingError, match="pinned"):
        SpeakerDiarizer(model_id=model_id, allow_code=True)
    with pytest.raises(ValueError, match="pinned"):
        DiarizerOptions(model_id=model_id, allow_code=True)
    with pytest.raises(ValueError, match="allow_code"):
        DiarizerOptions(model_id=model_id)


def _with_parameters(**parameters):
    return {"pipeline": CONFIG["pipeline"] | {"params": parameters}}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"pipeline": {"name": "subprocess.Popen", "params": {"args": ["true"]}}}, "names the class"),
        ({**CONFIG, "preprocessors": {"audio": {"name": "os.system"}}}, "preprocessors"),
        (
            {"pipeline": CONFIG["pipeline"] | {"params": {"segmentation": "pyannote/segmentation-3.0"}}},
            "without a commit",
        ),
        ({"pipeline": CONFIG["pipeline"] | {"params": {"hook": "x"}}}, "hook"),
        ([], "no pipeline"),
    ],
)
def test_a_config_that_imports_other_code_is_refused_even_so(tmp_path, changed, says):
    with pytest.raises(ModelLoadingError, match=says):
        SpeakerDiarizer(model_id=str(_folder(tmp_path / "pipeline", changed)), allow_code=True)


def test_a_device_that_is_not_there_is_a_loading_error():
    with pytest.raises(ModelLoadingError, match="nowhere"):
        SpeakerDiarizer(device="nowhere")


def test_turns_are_clipped_named_by_first_appearance_and_empty_ones_dropped():
    annotation = Annotation()
    annotation[Segment(4.0, 6.0), 0] = 0
    annotation[Segment(1.0, 2.0), 1] = 7
    annotation[Segment(1.5, 4.5), 2] = 0
    annotation[Segment(9.0, 9.5), 3] = 3
    turns = turns_of(annotation, 5.0)
    assert [(t.start_s, t.end_s, t.speaker_id) for t in turns] == [
        (1.0, 2.0, "SPEAKER_00"),
        (1.5, 4.5, "SPEAKER_01"),
        (4.0, 5.0, "SPEAKER_01"),
    ]
