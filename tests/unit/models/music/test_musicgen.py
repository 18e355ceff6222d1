"""MusicGen with random weights, through transformers' real code: length, seeds, progress, cancel, refusals."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from serve_app.errors import GpuMemoryError, ModelLoadingError, ProcessingError
from serve_app.models.music.encoding import from_audio
from serve_app.models.music.musicgen import MusicGen
from serve_app.models.music.options import MusicGenOptions
from serve_app.results import RenderedMusic

from .sounds import planned
from .tiny_musicgen import save_musicgen

SHORT = planned(duration_s=1.23)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_musicgen(tmp_path_factory.mktemp("tiny-musicgen"))


def load(folder: Path, **options: object) -> MusicGen:
    return MusicGen(MusicGenOptions(model_id=str(folder), **options), device="cpu", cache_dir=folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> MusicGen:
    return load(folder)


def sound_of(piece: RenderedMusic) -> np.ndarray:
    audio, rate = from_audio(piece.audio)
    assert rate == 32_000
    return audio


def test_a_piece_is_as_long_as_planned(model: MusicGen) -> None:
    piece = model.render(SHORT)
    assert sound_of(piece).shape == (round(1.23 * 32_000), 1)
    assert (piece.engine, piece.midi, piece.notes) == ("musicgen", None, ())
    assert piece.model_version == model.model_version
    assert piece.model_version.endswith(":float32")
    assert sound_of(piece).std() > 0.01


def test_a_stereo_model(tmp_path: Path) -> None:
    stereo = load(save_musicgen(tmp_path, channels=2))
    audio = sound_of(stereo.render(SHORT))
    assert audio.shape == (round(1.23 * 32_000), 2)
    assert (audio[:, 0] != audio[:, 1]).any()


@pytest.mark.slow
def test_a_longer_plan_gives_thirty_seconds_and_a_note(model: MusicGen) -> None:
    piece = model.render(planned(duration_s=75.0))
    assert len(sound_of(piece)) == 30 * 32_000
    assert piece.notes == ("The engine musicgen made 30 s; 75 s were asked for.",)


def test_the_seed_and_the_words_decide_about_the_sound(model: MusicGen) -> None:
    first = model.render(SHORT).audio
    torch.manual_seed(99)
    assert model.render(SHORT).audio == first
    assert model.render(planned(duration_s=1.23, seed=8)).audio != first
    assert model.render(planned(duration_s=1.23, prompt_en="strings vocals")).audio != first
    assert model.render(planned(duration_s=1.23, seed=-(1 << 70))).audio  # any integer is a seed


def test_the_random_state_of_the_process_is_left_alone(model: MusicGen) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model.render(SHORT)
    assert torch.equal(torch.rand(3), expected)


def test_progress_rises_with_each_step(model: MusicGen) -> None:
    shares: list[float] = []
    model.render(SHORT, shares.append)
    assert len(shares) == math.ceil(50 * 1.23) + 3 + 1
    assert shares == sorted(shares)
    assert shares[0] < 0.05
    assert shares[-1] == 1.0


def test_a_stopped_piece_ends_at_once_and_the_model_serves_on(model: MusicGen) -> None:
    expected = model.render(SHORT).audio
    shares: list[float] = []
    with pytest.raises(ProcessingError, match="stopped"):
        model.render(SHORT, shares.append, lambda: len(shares) == 7)
    assert len(shares) == 7
    assert model.render(SHORT).audio == expected


def test_options_reach_the_draw(folder: Path, model: MusicGen) -> None:
    greedy = [load(folder, top_k=1).render(planned(duration_s=1.0, seed=seed)).audio for seed in (1, 2)]
    assert greedy[0] == greedy[1]  # one sound to draw from: the seed has no say
    assert load(folder, guidance_scale=1.0).render(SHORT).audio != model.render(SHORT).audio
    assert load(folder, temperature=0.1).render(SHORT).audio != model.render(SHORT).audio


def test_exhausted_gpu_memory(model: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    attend = torch.nn.functional.scaled_dot_product_attention

    def fail(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fail)
    with pytest.raises(GpuMemoryError, match="making music with MusicGen"):
        model.render(SHORT)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    assert model.render(SHORT).audio


def test_a_failing_model(model: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a shape is wrong")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fail)
    with pytest.raises(ProcessingError, match="a shape is wrong"):
        model.render(SHORT)


@pytest.mark.parametrize(
    ("card", "config", "stated"),
    [
        ("---\ntags: [music]\nlicense: cc-by-nc-4.0\n---\n", None, r"licence cc-by-nc-4.0 \(non-commercial use only\)"),
        ("---\nlicense: 'mit'\n---\n", "cc0-1.0", r"licence mit\.$"),
        (None, "apache-2.0", r"licence apache-2.0\.$"),
        ("Nothing about it.", None, "whose licence is not stated"),
        ("---\nlicense: evil\x1b[31m\x00\n---\n", None, r"licence evil \[31m\.$"),
    ],
)
def test_the_licence_of_the_weights_is_stated(
    tmp_path: Path, card: str | None, config: str | None, stated: str
) -> None:
    save_musicgen(tmp_path)
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    if config is not None:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"license": config}))
    license = load(tmp_path).license
    assert re.search(stated, license), license


def test_metas_weights_are_known_to_be_non_commercial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_musicgen(tmp_path)
    monkeypatch.setattr("serve_app.models.music.musicgen.fetch_weights", lambda *spec: tmp_path)
    model = MusicGen(MusicGenOptions(model_id="facebook/musicgen-small"), device="cpu", cache_dir=tmp_path)
    assert "facebook/musicgen-small, licence CC-BY-NC-4.0 (non-commercial use only)" in model.license
    assert model.model_version == "transformers:facebook/musicgen-small:float32"


def test_folders_that_are_no_musicgen(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadingError, match=r"music\.musicgen\.model_id"):
        MusicGen(MusicGenOptions(), cache_dir=tmp_path)
    pickled = save_musicgen(tmp_path / "pickled", safe=False)
    assert list(pickled.glob("*.bin"))
    with pytest.raises(ModelLoadingError, match="has no safetensors"):
        load(pickled)
    without_words = save_musicgen(tmp_path / "wordless")
    for path in without_words.glob("*token*"):
        path.unlink()
    with pytest.raises(ModelLoadingError, match="no usable tokenizer"):
        load(without_words)
    broken = save_musicgen(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\x08")
    with pytest.raises(ModelLoadingError, match="can't be loaded"):
        load(broken)


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = save_musicgen(tmp_path) / "model.safetensors"
    weights = {name: each for name, each in load_file(path).items() if "lm_heads.0" not in name}
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(ModelLoadingError, match=r"lacks 1 of its weights.*lm_heads\.0"):
        load(tmp_path)
