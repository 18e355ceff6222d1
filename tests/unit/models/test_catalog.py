"""The catalog's data, and what its reader refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve_app.models import catalog as module
from serve_app.models.catalog import CatalogFile, HubRepository, ModelKind, catalog, find_model, parse_catalog
from tests.unit.models.made_models import make_model

SIZES = [
    "tiny",
    "tiny.en",
    "base",
    "base.en",
    "small",
    "small.en",
    "medium",
    "medium.en",
    "large-v2",
    "large-v3",
    "large-v3-turbo",
]
ENTRY: dict[str, Any] = {
    "name": "made",
    "kind": "whisper",
    "aliases": ["m"],
    "licence": "MIT",
    "files": [{"name": "model.bin", "size_bytes": 3, "sha256": "ab" * 32}],
    "hub": {"repository": "org/model", "revision": "a" * 40},
    "wheels": [
        {
            "requirement": "made==1.0",
            "filename": "made-1.0-py3-none-any.whl",
            "size_bytes": 9,
            "sha256": "cd" * 32,
            "members": {"model.bin": "made/model.bin"},
        }
    ],
    "note": "",
}


def test_the_names_of_whisper_sizes_are_aliases() -> None:
    for size in SIZES:
        model = find_model(size)
        assert model is not None
        assert (model.name, model.kind) == (f"whisper-{size}", ModelKind.WHISPER)
        assert find_model(model.name) is model
    assert find_model("turbo") is find_model("large-v3-turbo")
    assert find_model("large") is find_model("large-v3")
    assert find_model("whisper-huge") is None
    assert find_model("") is None


def test_what_is_known_of_the_models_that_the_registry_has() -> None:
    base = find_model("whisper-base")
    assert base is not None
    assert base.files[-1] == CatalogFile(
        "model.bin", 145_217_532, "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
    )
    assert base.hub == HubRepository("Systran/faster-whisper-base", "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66")
    assert [wheel.members["model.bin"].rpartition("/")[2] for wheel in base.wheels] == [
        "model.bin.part1",
        "model.bin.part2",
    ]
    names = {model.name: [file.name for file in model.files] for model in catalog() if model.kind != ModelKind.WHISPER}
    assert names == {
        "pyannote-segmentation-3.0": ["pytorch_model.bin"],
        "campplus-zh-en": ["campplus_cn_en_common.pt"],
    }


def test_a_file_without_a_hash_is_told_and_has_a_hub() -> None:
    for model in catalog():
        if any(file.sha256 is None for file in model.files):
            assert model.hub is not None
            assert "the hub's revision is trusted" in model.note


def test_no_registry_is_named_in_the_data() -> None:
    text = Path(module.__file__).with_name("catalog.json").read_text("utf-8")
    assert "://" not in text
    assert "simple/" not in text


def test_an_entry_is_read_whole() -> None:
    [model] = parse_catalog(json.dumps({"models": [ENTRY]}))
    assert (model.name, model.kind, model.aliases, model.licence) == ("made", ModelKind.WHISPER, ("m",), "MIT")
    assert model.files == (CatalogFile("model.bin", 3, "ab" * 32),)
    assert dict(model.wheels[0].members) == {"model.bin": "made/model.bin"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "../made"}, "input_value='../made'"),
        ({"kind": "poem"}, "input_value='poem'"),
        ({"files": []}, "it needs a file and a source"),
        ({"hub": None, "wheels": []}, "it needs a file and a source"),
        ({"files": [{"name": "../x", "size_bytes": 3, "sha256": "ab" * 32}]}, "input_value='../x'"),
        ({"files": [{"name": "model.bin", "size_bytes": 3, "sha256": "AB"}]}, "input_value='AB'"),
        ({"hub": {"repository": "org/model", "revision": "main"}}, "input_value='main'"),
        (
            {"hub": None, "files": [{"name": "model.bin", "size_bytes": 3, "sha256": None}]},
            "only the hub can be trusted with model.bin",
        ),
        ({"wheels": [ENTRY["wheels"][0] | {"members": {"other.bin": "x"}}]}, "its wheels hold other files"),
        ({"wheels": [ENTRY["wheels"][0] | {"requirement": "made"}]}, "input_value='made'"),
        ({"wheels": [ENTRY["wheels"][0] | {"requirement": "-r made==1"}]}, "input_value='-r made==1'"),
    ],
)
def test_what_can_not_be_right_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_catalog(json.dumps({"models": [ENTRY | change]}))
    assert "the catalog's entry" in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize("other", [{"name": "made", "aliases": []}, {"name": "other", "aliases": ["made"]}])
def test_a_name_means_one_model(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="names twice: made"):
        parse_catalog(json.dumps({"models": [ENTRY, ENTRY | other]}))


def test_the_key_changes_with_the_files() -> None:
    model = make_model(hub=HubRepository("org/model", "a" * 40))
    moved = replace(model, hub=HubRepository("org/model", "b" * 40))
    assert moved.folder_name == model.folder_name  # its files are told by their hashes
    assert make_model({"model.bin": b"other"}).folder_name != model.folder_name
    unpinned = replace(model, files=(CatalogFile("model.bin", None, None),))
    assert replace(unpinned, hub=moved.hub).folder_name != unpinned.folder_name
