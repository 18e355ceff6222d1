"""The first of the configured models that can be had, and what is said of those before it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from serve_app.errors import GpuMemoryError, ModelLoadingError
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper import loading as whisper_loading
from serve_app.models.speech.whisper.backend import WHISPER_MICRO, SpeechPiece
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint, open_checkpoint
from serve_app.models.speech.whisper.checkpoint_files import Form
from serve_app.models.speech.whisper.conversion import to_ctranslate2, to_openai
from serve_app.models.speech.whisper.loading import LoadedWhisper, load_whisper
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.results import Transcript

Copy = Callable[..., Path]
REAL = [BackendName.FASTER_WHISPER, BackendName.TRANSFORMERS, BackendName.OPENAI_WHISPER]


@pytest.fixture
def options(tmp_path: Path) -> WhisperOptions:
    return WhisperOptions(cache_dir=tmp_path / "cache", device="cpu")


class StandIn:
    """A backend that fits in the memory there is, or doesn't."""

    name = BackendName.TRANSFORMERS
    memory_layers = 2
    alive: ClassVar[weakref.WeakSet[StandIn]] = weakref.WeakSet()

    def __init__(self, checkpoint: WhisperCheckpoint) -> None:
        self.alive.add(self)
        self.model_version = f"transformers:{checkpoint.name}:float32"
        if checkpoint.config["decoder_layers"] > self.memory_layers:
            raise GpuMemoryError("The GPU ran out of memory while loading")

    def check_language(self, language: str) -> None: ...

    def transcribe(self, pieces: Sequence[SpeechPiece], **options: object) -> list[Transcript]:
        return []


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    monkeypatch.setattr(whisper_loading, "_make_backend", lambda name, checkpoint, options: StandIn(checkpoint))
    return StandIn


@pytest.mark.parametrize(("told", "kept"), [(None, 1), (5, 5)])
def test_whisper_micro_is_greedy_unless_told(
    options: WhisperOptions, monkeypatch: pytest.MonkeyPatch, told: int | None, kept: int
) -> None:
    asked: list[WhisperOptions] = []

    def load(name: BackendName, checkpoint: WhisperCheckpoint, options: WhisperOptions) -> StandIn:
        asked.append(options)
        return StandIn(checkpoint)

    monkeypatch.setattr(whisper_loading, "_make_backend", load)
    load_whisper(BackendName.FASTER_WHISPER, [WHISPER_MICRO], replace(options, beam_size=told))
    assert [each.beam_size for each in asked] == [kept]


def converted_in(options: WhisperOptions) -> list[tuple[str, int]]:
    """Name of each converted folder, and when it was made."""
    made = (options.cache_dir / "converted").iterdir()
    return [(path.name, (path / ".manifest.json").stat().st_mtime_ns) for path in made if path.is_dir()]


@pytest.mark.parametrize("backend", REAL)
def test_each_backend_loads_one_checkpoint(mini_whisper: Path, options: WhisperOptions, backend: BackendName) -> None:
    loaded = load_whisper(backend.value, [str(mini_whisper)], options)
    assert loaded.backend.name == backend
    assert loaded.backend.model_version == f"{backend}:mini-whisper:float32"
    assert (loaded.spec, loaded.notes) == (str(mini_whisper), ())
    if backend is BackendName.TRANSFORMERS:
        assert not (options.cache_dir / "converted").exists()
    else:
        [made] = converted_in(options)
        load_whisper(backend, [str(mini_whisper)], options)
        assert converted_in(options) == [made]
    silence = SpeechPiece(np.zeros(16_000, np.float32))
    assert len(loaded.backend.transcribe([silence])) == 1


SENTENCE = "please bring seven fresh apples from our kitchen"


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[Form, Path]:
    """One checkpoint in all forms, which says one sentence whatever it is given."""
    from loadtests.scripted_whisper import write_scripted_checkpoint
    from training.whisper_micro.checkpoint import Shape

    cache = tmp_path_factory.mktemp("forms")
    shape = Shape(d_model=64, encoder_layers=1, decoder_layers=2, heads=2)
    write_scripted_checkpoint(cache / "scripted", shape, SENTENCE)
    checkpoint = open_checkpoint(cache / "scripted", cache_dir=cache)
    return {
        Form.HUGGING_FACE: checkpoint.folder,
        Form.CTRANSLATE2: to_ctranslate2(checkpoint, cache),
        Form.OPENAI: to_openai(checkpoint, cache),
    }


READS = {
    BackendName.FASTER_WHISPER: Form.CTRANSLATE2,
    BackendName.TRANSFORMERS: Form.HUGGING_FACE,
    BackendName.OPENAI_WHISPER: Form.OPENAI,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", [Form.HUGGING_FACE, Form.CTRANSLATE2, Form.OPENAI])
@pytest.mark.parametrize("backend", REAL)
def test_each_backend_loads_each_form(
    forms: dict[Form, Path], options: WhisperOptions, backend: BackendName, form: Form
) -> None:
    """The form does not matter to what a backend writes; what it reads by itself is not converted."""
    loaded = load_whisper(backend, [str(forms[form])], options)
    assert loaded.backend.model_version == f"{backend}:{forms[form].name}:float32"
    if READS[backend] is form:
        assert not (options.cache_dir / "converted").exists()
    else:
        assert [f"-{READS[backend]}-" in name for name, _ in converted_in(options)].count(True) == 1
    assert said_by(loaded) == [SENTENCE]


def said_by(loaded: LoadedWhisper) -> list[str]:
    """What a backend makes of noise."""
    noise = np.random.default_rng(0).standard_normal(128_000).astype(np.float32) * 0.05
    (transcript,) = loaded.backend.transcribe([SpeechPiece(noise, 0.0, "en")])
    assert transcript.notes == ()  # a doubtful answer would be noted
    return [segment.text for segment in transcript.segments]


def test_ctranslate2_converts_between_number_formats_while_it_loads(
    forms: dict[Form, Path], options: WhisperOptions
) -> None:
    spec = str(forms[Form.CTRANSLATE2])
    loaded = load_whisper("faster-whisper", [spec], replace(options, compute_type="int8"))
    assert ":int8" in loaded.backend.model_version
    assert not (options.cache_dir / "converted").exists()
    assert said_by(loaded) == [SENTENCE]


def test_faster_whisper_needs_no_torch_for_a_ctranslate2_folder(forms: dict[Form, Path], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from serve_app.models.speech.whisper.loading import load_whisper\n"
        "from serve_app.models.speech.whisper.options import WhisperOptions\n"
        "load_whisper('faster-whisper', [sys.argv[1]], WhisperOptions(cache_dir=Path(sys.argv[2]), device='cpu'))\n"
        "assert not {'torch', 'transformers', 'whisper'} & set(sys.modules)\n"
    )
    arguments = [sys.executable, "-c", code, str(forms[Form.CTRANSLATE2]), str(tmp_path)]
    subprocess.run(arguments, cwd=Path(__file__).parents[5], check=True, timeout=120)


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size // 2)


def of_a_bert(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))


def without_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (truncated, "are cut off or broken"),
        (of_a_bert, "describes a 'bert' model (BertModel), not a Whisper"),
        (without_a_tokenizer, "has no tokenizer"),
    ],
)
def test_a_broken_model_gives_way_to_the_next(
    mini_whisper: Path, copy_of: Copy, options: WhisperOptions, break_it: Callable[[Path], None], reason: str
) -> None:
    large = copy_of(mini_whisper, "whisper-large")
    break_it(large)
    loaded = load_whisper("transformers", [str(large), str(mini_whisper)], options)
    assert loaded.spec == str(mini_whisper)
    assert loaded.backend.model_version == "transformers:mini-whisper:float32"
    (note,) = loaded.notes
    assert note.startswith("whisper-large could not be loaded (")
    assert reason in note
    assert note.endswith("): mini-whisper is used instead")
    assert "\n" not in note


def test_models_that_cannot_be_found_give_way(
    mini_whisper: Path, options: WhisperOptions, stand_in: type[StandIn]
) -> None:
    loaded = load_whisper("transformers", ["/nowhere/large", "embedded:huge", str(mini_whisper)], options)
    first, second = loaded.notes
    assert first.startswith("large could not be loaded (There is no file or folder '/nowhere/large'")
    assert second.startswith("huge could not be loaded (No model 'huge' is embedded")


def test_what_the_device_has_no_memory_for_gives_way_and_is_let_go(
    mini_whisper: Path, copy_of: Copy, options: WhisperOptions, stand_in: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    monkeypatch.setattr(stand_in, "memory_layers", 1)
    small = copy_of(mini_whisper, "whisper-small")
    shrink(small)
    release = whisper_loading._release_memory
    monkeypatch.setattr(whisper_loading, "_release_memory", lambda: (release(), left.append(len(stand_in.alive))))
    loaded = load_whisper("transformers", [str(mini_whisper), str(small)], options)
    assert loaded.backend.model_version == "transformers:whisper-small:float32"
    assert loaded.notes == (
        "mini-whisper could not be loaded (The GPU ran out of memory while loading): whisper-small is used instead",
    )
    assert left == [0]  # before the next one was tried


def shrink(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"decoder_layers": 1}))


def test_an_error_of_a_library_is_a_reason_too(
    mini_whisper: Path, options: WhisperOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: BackendName, checkpoint: WhisperCheckpoint, options: WhisperOptions) -> None:
        raise RuntimeError("unsupported\n  model revision 9")

    monkeypatch.setattr(whisper_loading, "_make_backend", fail)
    with pytest.raises(
        ModelLoadingError, match=r"mini-whisper could not be loaded \(RuntimeError: unsupported model revision 9\)$"
    ):
        load_whisper("transformers", [str(mini_whisper)], options)


def test_where_none_can_be_loaded_each_reason_is_told(options: WhisperOptions, stand_in: type[StandIn]) -> None:
    with pytest.raises(ModelLoadingError) as raised:
        load_whisper("transformers", ["embedded:one", "/nowhere/two"], options)
    detail = raised.value.detail
    assert detail.startswith("transformers has no model that works: one could not be loaded (No model 'one'")
    assert "; two could not be loaded (There is no file or folder '/nowhere/two'" in detail


def test_a_backend_without_models_is_said(options: WhisperOptions) -> None:
    with pytest.raises(ModelLoadingError, match="No model is configured for openai-whisper; name one"):
        load_whisper("openai-whisper", [], options)
