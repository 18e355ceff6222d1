"""What torch.save writes is read as it is; a file that would make torch read or write elsewhere is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from serve_app.models.images.weights_file import Unfit, read_weights
from serve_app.models.pickled import PlainObject, Refused, check_folder, read_checkpoint


def saved(content: Any, *, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def zipped(pickled: bytes, records: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
        for name, content in records.items():
            archive.writestr(f"archive/data/{name}", content)
    return file.getvalue()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def tensor(
    elements: int = 4, size: int = 4, *, offset: int = 0, stride: int = 1, key: str = "0", kind: str = "FloatStorage"
) -> bytes:
    """Return the opcodes of a tensor: its storage claims `elements`, its shape is (size,)."""
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(elements) + b"tQ"
    shape = number(offset) + number(size) + b"\x85" + number(stride) + b"\x85"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + shape + b"\x89ccollections\nOrderedDict\n)RtR"


def table(first: bytes) -> bytes:
    """Return a state_dict of four tensors that begins with given opcodes."""
    return b"\x80\x02}(" + first + b"".join(text(f"w{at}") + tensor() for at in range(4)) + b"u."


RECORD = {"0": bytes(16)}


def test_the_crafted_file_is_read_where_nothing_is_wrong() -> None:
    assert len(read_weights(zipped(table(b""), RECORD)).tensors) == 4


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (text("a") + tensor(4096, 4096), "needs 16384 bytes, its record has 16"),
        (text("a") + tensor(2, 2), "needs 8 bytes, its record has 16"),
        (
            text("a") + tensor(2, 2, kind="DoubleStorage") + text("b") + tensor(4, 4, kind="DoubleStorage"),
            "two lengths",
        ),
        (text("a") + tensor(4, 5), "reaches outside"),
        (text("a") + tensor(4, 4, offset=1), "reaches outside"),
        (text("a") + tensor(4, 3, stride=2), "reaches outside"),
        (text("a") + tensor(4, 4, offset=-1), "no count"),
        (text("a") + tensor(4, -4), "no count"),
        (text("a") + tensor(4, 2, stride=-1), "no count"),
        (text("a") + tensor(4, 2**30, stride=0), "reaches outside"),
        (text("a") + tensor(-4, 4), "no count"),
        (text("a") + tensor(4, 4, key="../0"), "its record has -1"),
        (text("a") + tensor() + number(1) + number(7) + b"s" + text("b") + number(1), "sets items of a Tensor"),
        (text("a") + tensor() + b"(" + number(1) + number(7) + b"u", "sets items of a Tensor"),
        (text("a") + tensor() + number(7) + b"a", "appends to a Tensor"),
        (text("a") + tensor() + b"(" + number(7) + b"e", "appends to a Tensor"),
        (text("a") + tensor() + b"}b", "sets the state of a Tensor"),
        (text("a") + b"}}b", "sets the state of a dict"),
        (text("a") + b")" + number(7) + b"a", "appends to a tuple"),
        (text("a") + b"cos\nsystem\n" + text("true") + b"\x85R", "Python objects"),
        (text("a") + b"ctorch.storage\n_load_from_bytes\n" + text("x") + b"\x85R", "Python objects"),
        (text("a") + b"ctorch\nload\n" + text("x") + b"\x85R", "Python objects"),
        (text("a") + b"cbuiltins\ngetattr\n" + text("x") + b"\x85R", "Python objects"),
        (text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n)\x81", "unusual way"),
        (text("a") + b"ios\nsystem\n", "opcode INST"),
        (text("a") + b"\x8c\x02os\x8c\x06system\x93", "opcode SHORT_BINUNICODE"),
        (b"ccollections\nOrderedDict\n)R" + number(1), "as the key"),
        (b"(" + number(1) + number(2) + b"t" + number(1), "as the key"),
        (text("a") + b"]" * 40 + b"a" * 39, "nested deeper"),
        (text("a") + b"]q\x01h\x01a", "hold themselves"),
        (text("a") + b"]q\x01(h\x01h\x01e", "hold themselves"),
    ],
)
def test_a_pickle_that_reaches_elsewhere_is_refused(first: bytes, says: str) -> None:
    with pytest.raises(Unfit, match=says):
        read_weights(zipped(table(first), RECORD))


def test_a_part_that_repeats_too_often_is_refused() -> None:
    lists = b"]" + text("x" * 100) + b"aq\x01" + b"](h\x01h\x01eq\x01" * 28  # each holds the one before twice
    with pytest.raises(Refused, match="repeat too often"):
        read_checkpoint(zipped(b"\x80\x02(" + lists + b"t.", {}))


def test_tensors_that_share_a_storage_too_often_are_refused() -> None:
    many = b"".join(text(f"v{at}") + tensor(4096, 4096, key="1") for at in range(40))
    with pytest.raises(Unfit, match="8 times the file"):
        read_weights(zipped(table(many), {**RECORD, "1": bytes(16384)}))


def test_records_are_plain_and_apart() -> None:
    pickled = table(b"")
    with pytest.raises(Refused, match="compressed"):
        read_checkpoint(zipped(pickled, RECORD, zipfile.ZIP_DEFLATED))
    with pytest.raises(Refused, match="before its first record or behind"):
        read_checkpoint(b"PK" + zipped(pickled, RECORD))
    with pytest.raises(Refused, match="two records of one name"):
        read_checkpoint(zipped(pickled, {"a": b"1", "A": b"2", **RECORD}))


def test_records_that_lie_over_each_other_are_refused() -> None:
    stored = bytearray(zipped(table(b""), {**RECORD, "1": bytes(16)}))
    entry = stored.rfind(b"PK\x01\x02")
    before = stored.rfind(b"PK\x01\x02", 0, entry)
    stored[entry + 42 : entry + 46] = stored[before + 42 : before + 46]  # the offset of its local header
    with pytest.raises(Refused, match=r"damaged at the record|lies over another"):
        read_checkpoint(bytes(stored))


def test_a_storage_that_claims_more_in_the_old_form_is_refused() -> None:
    stored = saved({f"w{at}": torch.rand(4) for at in range(4)}, legacy=True)
    claimed = stored.replace(b"K\x04", b"K\x7f")  # sizes and elements of one byte
    assert claimed != stored
    with pytest.raises(Refused):
        read_checkpoint(claimed)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("as_path", [False, True])
def test_what_torch_saves_is_read(tmp_path: Path, legacy: bool, as_path: bool) -> None:
    base = torch.rand(6, 7)
    tensors = {
        "plain": base,
        "tied": base,
        "transposed": base.T,
        "part": base[2:4, 1:3],
        "scalar": torch.tensor(3),
        "empty": torch.empty(0, 3),
        "parameter": nn.Parameter(torch.rand(3)),
        **{str(kind): torch.ones(3).to(kind) for kind in (torch.float16, torch.bfloat16, torch.uint8, torch.bool)},
        **{str(kind): torch.ones(3).to(kind) for kind in (torch.complex64, torch.uint16, torch.float8_e4m3fn)},
    }
    beside = {"epoch": 3, "rate": 1e-3, "name": "x", "shape": (1, 2), "list": [None, True, -(2**70)], "bytes": b"\xff"}
    stored = saved({**beside, "state": OrderedDict(tensors), "dtype": torch.float16}, legacy=legacy)
    (tmp_path / "a.pt").write_bytes(stored)
    content = read_checkpoint(tmp_path / "a.pt" if as_path else stored)
    assert {key: content[key] for key in beside} == beside
    assert content["dtype"] is torch.float16
    found = content["state"]
    assert list(found) == list(tensors)
    for name, expected in tensors.items():
        assert (found[name].dtype, found[name].shape) == (expected.dtype, expected.shape)
        assert found[name].tolist() == expected.tolist() if expected.dtype != torch.float8_e4m3fn else True
    assert found["plain"].data_ptr() == found["tied"].data_ptr()


def test_a_state_dict_keeps_the_versions_of_its_modules() -> None:
    state = nn.Sequential(nn.BatchNorm1d(3)).state_dict()
    assert read_checkpoint(saved(state))._metadata == state._metadata


def test_an_allowed_class_is_described_and_not_made(tmp_path: Path) -> None:
    class_name = f"{_Trace.__module__}.{_Trace.__qualname__}"
    stored = saved({"object": _Trace(tmp_path / "made")})
    with pytest.raises(Refused, match="Python objects"):
        read_checkpoint(stored)
    found = read_checkpoint(stored, [class_name, "posix.mkdir", "pathlib.PosixPath"])["object"]
    assert isinstance(found, PlainObject)
    assert found.name == "posix.mkdir"
    assert not (tmp_path / "made").exists()


class _Trace:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_folder_with_a_bad_pickle_is_refused(tmp_path: Path) -> None:
    assert check_folder(tmp_path) is None
    (tmp_path / "pytorch_model.bin").write_bytes(zipped(table(text("a") + tensor(4096, 4096)), RECORD))
    with pytest.raises(Refused, match=r"pytorch_model\.bin that is not read"):
        check_folder(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(saved({"w": torch.rand(2)}))
    check_folder(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"w": "../elsewhere.bin"}}')
    with pytest.raises(Refused, match="outside of it"):
        check_folder(tmp_path)
    index.write_text('{"weight_map": {"w": "hidden.weights"}}')
    (tmp_path / "hidden.weights").write_bytes(pickle.dumps(_Trace(tmp_path / "made"), protocol=2))
    with pytest.raises(Refused, match=r"hidden\.weights"):
        check_folder(tmp_path)
    index.write_text("[]")
    with pytest.raises(Refused, match="damaged"):
        check_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("config.json", {"transformers_weights": "sub/x.safetensors.index.json"}),
        ("config.json", {"transformers_weights": "/srv/x.safetensors.index.json"}),
        ("config.json", {"configuration_files": ["sub/config.4.0.0.json"]}),
        ("config.4.0.0.json", {"transformers_weights": "../x.safetensors"}),
    ],
)
def test_a_config_leads_to_no_index_that_is_not_checked(tmp_path: Path, name: str, config: Mapping[str, Any]) -> None:
    """transformers takes the parts that such an index names from the folder itself, and unpickles them."""
    (tmp_path / name).write_text(json.dumps(config))
    with pytest.raises(Refused, match="outside of it"):
        check_folder(tmp_path)
    (tmp_path / name).write_text(json.dumps({"transformers_weights": "model.safetensors.index.json"}))
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model.safetensors"}}')
    check_folder(tmp_path)


def test_a_pickle_that_torch_reads_beyond_its_record_is_torchs_own_fault() -> None:
    """The reason for a reader of our own; it goes once torch refuses such files itself."""
    stored = zipped(table(text("a") + tensor(4096, 4096, key="1")), {**RECORD, "1": bytes(16)})
    assert torch.load(io.BytesIO(stored), weights_only=True)["a"].untyped_storage().nbytes() == 16384


@pytest.mark.parametrize("legacy", [False, True])
def test_numbers_that_are_stored_as_others_are_not_taken_as_they_are(legacy: bool) -> None:
    """torch.save keeps lazy conjugates and negatives as marks; without these they would be silently wrong."""
    lazy = torch.ones(3, dtype=torch.complex64).conj()
    for value in (lazy, lazy.imag):
        with pytest.raises(Refused, match="not stored as they are"):
            read_checkpoint(saved({"w": value}, legacy=legacy))
    assert read_checkpoint(saved({"w": lazy.resolve_conj()}, legacy=legacy))["w"].tolist() == [1, 1, 1]
