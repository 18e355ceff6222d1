"""Every Whisper backend, on whisper-micro and on random weights of other true shapes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from serve_app.media.decode import decode_audio
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper.batched_backend import BatchedWhisper
from serve_app.models.speech.whisper.loading import load_whisper
from serve_app.models.speech.whisper.options import WhisperOptions
from tests.contract.speech.whisper_cases import WHISPERS, Utterance

PROJECT = Path(__file__).parents[3]
MICRO = PROJECT / "serve_app/models/speech/whisper_micro"
UTTERANCES = PROJECT / "tests/data/whisper_micro"

Load = Callable[..., BatchedWhisper]


@pytest.fixture(scope="session")
def utterances() -> tuple[Utterance, ...]:
    if not (UTTERANCES / "utterances.json").is_file():
        pytest.skip(f"{UTTERANCES} does not hold whisper-micro's utterances yet")
    described = json.loads((UTTERANCES / "utterances.json").read_text("utf-8"))["utterances"]
    return tuple(
        Utterance(
            about["file"],
            about["language"],
            about["text"],
            tuple((word, start_s, end_s) for word, start_s, end_s in about["words"]),
            decode_audio(str(UTTERANCES / about["file"])).samples,
        )
        for about in described
    )


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def load(cache_dir: Path) -> Load:
    """Return a function that loads a backend once per session: greedy unless told, so that all of them search alike."""
    loaded: dict[tuple[object, ...], BatchedWhisper] = {}

    def load(name: BackendName, model: str | Path, **options: object) -> BatchedWhisper:
        options = {"beam_size": 1, **options}
        key = (name, str(model), *sorted(options.items()))
        if key not in loaded:
            found = load_whisper(name, [str(model)], WhisperOptions(cache_dir=cache_dir, **options))  # type: ignore[arg-type]
            assert found.notes == ()
            assert isinstance(found.backend, BatchedWhisper)
            loaded[key] = found.backend
        return loaded[key]

    return load


@pytest.fixture(scope="session")
def micro(load: Load) -> Mapping[BackendName, BatchedWhisper]:
    """Return whisper-micro in every backend."""
    if not (MICRO / "model.safetensors").is_file():
        pytest.skip(f"{MICRO} does not hold whisper-micro yet")
    return {name: load(name, "embedded:whisper-micro") for name in WHISPERS}


@pytest.fixture(params=WHISPERS, ids=str)
def backend(request: pytest.FixtureRequest, micro: Mapping[BackendName, BatchedWhisper]) -> BatchedWhisper:
    return micro[request.param]


@pytest.fixture(scope="session")
def random_whisper(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a checkpoint of random weights, by default a very small multilingual one.

    `positions` cuts the decoder's, so that random weights, which never come to an end, come to it soon.
    """
    sys.path.insert(0, str(PROJECT))
    from safetensors.torch import load_file, save_file

    from training.whisper_micro.checkpoint import write_random_checkpoint

    folders: dict[str, Path] = {}

    def write(name: str, *, positions: int = 32, **shape: int) -> Path:
        if name not in folders:
            folder = tmp_path_factory.mktemp("random") / name
            small = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "heads": 4}
            write_random_checkpoint(folder, **(small | shape))  # type: ignore[arg-type]
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config | {"max_target_positions": positions}))
            tensors = load_file(folder / "model.safetensors")
            at = "model.decoder.embed_positions.weight"
            tensors[at] = tensors[at][:positions].clone()
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
            folders[name] = folder
        return folders[name]

    yield write
    for folder in folders.values():
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def english_whisper(random_whisper: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint as the published `.en` ones are: GPT-2's own byte pairs, one id fewer, no languages."""
    from unittest.mock import patch

    from safetensors.torch import load_file, save_file

    from serve_app.models.speech.whisper.openai_reader import byte_pairs
    from training.whisper_micro import checkpoint

    folder = tmp_path_factory.mktemp("english") / "random.en"
    shutil.copytree(random_whisper("random-"), folder)
    with patch.object(checkpoint, "byte_pairs", lambda: byte_pairs("gpt2")):
        checkpoint.build_tokenizer(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.decoder.embed_tokens.weight"] = tensors["model.decoder.embed_tokens.weight"][:51_864].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "generation_config.json"):
        content = json.loads((folder / name).read_text())
        for key in ("lang_to_id", "task_to_id", "suppress_tokens"):
            content.pop(key, None)
        content |= dict.fromkeys(("eos_token_id", "bos_token_id", "pad_token_id"), 50_256)
        content |= {"decoder_start_token_id": 50_257, "begin_suppress_tokens": [220, 50_256]}
        if name == "config.json":
            content |= {"vocab_size": 51_864}
        else:
            content |= {"is_multilingual": False, "no_timestamps_token_id": 50_362, "prev_sot_token_id": 50_360}
        (folder / name).write_text(json.dumps(content))
    return folder
