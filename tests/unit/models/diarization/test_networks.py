import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.diarization import networks
from serve_app.models.diarization.campplus import CamPlusPlus
from serve_app.models.diarization.clustering import ClusteringRule
from serve_app.models.diarization.embedding import SpeakerEmbedding
from serve_app.models.diarization.networks import CAMPPLUS, OWN_EMBEDDING, RULES, embedded_networks, load_networks
from serve_app.models.diarization.pipeline import SpeakerDiarizer
from serve_app.models.diarization.voices import CamEmbedding, FusedEmbedding

WHEEL = networks.EMBEDDED_SEGMENTATION


@pytest.fixture(scope="module")
def campplus(tmp_path_factory):
    """A folder with a checkpoint of the published sizes and random values."""
    folder = tmp_path_factory.mktemp("models") / "campplus"
    folder.mkdir()
    torch.manual_seed(0)
    torch.save(CamPlusPlus().state_dict(), folder / "campplus_cn_en_common.pt")
    return folder


@pytest.fixture(scope="module")
def powerset(tmp_path_factory):
    """A folder with a checkpoint of segmentation-3.0's form and random values, for chunks of 10 s."""
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.segmentation.PyanNet import PyanNet

    folder = tmp_path_factory.mktemp("models") / "segmentation"
    folder.mkdir()
    torch.manual_seed(0)
    model = PyanNet(sincnet={"stride": 10}, lstm={"hidden_size": 8, "num_layers": 1}, linear={"num_layers": 0})
    model.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=10.0,
        classes=["speaker#1", "speaker#2", "speaker#3"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    model.build()
    content = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pyannote.audio": {"specifications": model.specifications},
    }
    torch.save(content, folder / "pytorch_model.bin")
    return folder


def test_what_comes_with_the_project_needs_nothing_else():
    chosen = embedded_networks()
    assert isinstance(chosen.embedding, SpeakerEmbedding)
    assert not chosen.segmentation.specifications.powerset
    assert chosen.rule == RULES[False, ("own",)]
    assert chosen.version.startswith("whisperx-")
    assert "serve-app-embedding-" in chosen.version


def test_catalog_names_are_the_defaults():
    from serve_app.models.speech.options import DiarizerOptions

    assert DiarizerOptions().segmentation == networks.SEGMENTATION == "pyannote-segmentation-3.0"
    assert DiarizerOptions().embeddings == networks.EMBEDDINGS


@pytest.mark.parametrize("as_folder", [True, False])
def test_two_embeddings_are_used_together(campplus, tmp_path, as_folder):
    spec = str(campplus if as_folder else campplus / "campplus_cn_en_common.pt")
    chosen = load_networks(WHEEL, (spec, OWN_EMBEDDING), cache_dir=tmp_path)
    assert isinstance(chosen.embedding, FusedEmbedding)
    assert chosen.embedding.dimension == 192 + 128
    assert [type(part) for part in chosen.embedding.parts] == [CamEmbedding, SpeakerEmbedding]
    assert chosen.rule == RULES[False, ("campplus", "own")]
    assert "serve-app-embedding-" in chosen.version
    assert "campplus" in chosen.version


def test_the_order_of_two_does_not_matter_and_one_twice_is_one(campplus, tmp_path):
    swapped = load_networks(WHEEL, (OWN_EMBEDDING, str(campplus)), cache_dir=tmp_path)
    assert [type(part) for part in swapped.embedding.parts] == [CamEmbedding, SpeakerEmbedding]
    alone = load_networks(WHEEL, (str(campplus), str(campplus)), cache_dir=tmp_path)
    assert isinstance(alone.embedding, CamEmbedding)
    assert alone.rule == RULES[False, ("campplus",)]


def test_a_powerset_network_diarizes(powerset, campplus, tmp_path):
    chosen = load_networks(str(powerset), (str(campplus),), cache_dir=tmp_path)
    assert chosen.segmentation.specifications.powerset
    assert chosen.rule == RULES[True, ("campplus",)]
    diarizer = SpeakerDiarizer(networks=chosen)
    assert "segmentation-" in diarizer.model_version
    samples = np.random.default_rng(0).standard_normal(16 * 16_000).astype(np.float32) * 0.1
    for turn in diarizer.diarize(samples).turns:
        assert 0.0 <= turn.start_s < turn.end_s <= 16.0


def test_every_choice_has_a_rule():
    assert set(RULES) == {
        (powerset, kinds) for powerset in (False, True) for kinds in (("own",), ("campplus",), ("campplus", "own"))
    }
    assert all(isinstance(rule, ClusteringRule) for rule in RULES.values())


@pytest.mark.parametrize("embeddings", [(CAMPPLUS + "-absent", OWN_EMBEDDING), (CAMPPLUS + "-absent",)])
def test_what_cannot_be_had_is_told_in_the_log_and_another_serves(tmp_path, caplog, embeddings):
    with caplog.at_level(logging.WARNING):
        chosen = load_networks("no-segmentation-of-this-name", embeddings, cache_dir=tmp_path)
    assert isinstance(chosen.embedding, SpeakerEmbedding)
    assert chosen.version == embedded_networks().version
    told = [record.getMessage() for record in caplog.records if record.name == networks.__name__]
    assert len(told) == 2
    assert "no-segmentation-of-this-name" in told[0]
    assert "campplus-zh-en-absent" in told[1]


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _another_network(path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, path)


class _Bomb:
    def __reduce__(self):
        return os.mkdir, ("it_ran",)


def _bomb(path: Path) -> None:
    torch.save({"state_dict": _Bomb(), "hyper_parameters": _Bomb()}, path)


@pytest.mark.parametrize("spoil", [_cut_off, _empty, _another_network, _bomb])
def test_files_that_cannot_be_loaded_do_not_take_the_replica_down(campplus, powerset, tmp_path, caplog, spoil):
    spoilt = []
    for folder, name in ((campplus, "campplus_cn_en_common.pt"), (powerset, "pytorch_model.bin")):
        copy = tmp_path / name
        copy.write_bytes((folder / name).read_bytes())
        spoil(copy)
        spoilt.append(str(copy))
    with caplog.at_level(logging.WARNING):
        chosen = load_networks(spoilt[1], (spoilt[0],), cache_dir=tmp_path)
    assert chosen.version == embedded_networks().version
    assert "can't be loaded" in caplog.text
    assert not Path("it_ran").exists()


def test_a_folder_without_the_file_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        load_networks(str(tmp_path), (str(tmp_path),), cache_dir=tmp_path)
    assert "no pytorch_model.bin" in caplog.text
    assert "no campplus_cn_en_common.pt" in caplog.text


def test_without_any_segmentation_there_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(networks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelLoadingError, match="whisperx"):
        load_networks("absent", (OWN_EMBEDDING,), cache_dir=tmp_path)
