"""`records_of`: where the records of an archive of torch.save lie; every reader must see the same ones."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from serve_app.models.pickled.machine import Refused
from serve_app.sentences import Sentence

_LOCAL_HEADER = struct.Struct("<4s5HLLLHH")  # APPNOTE.TXT of PKWARE, 4.3.7
_MAX_RECORDS = 100_000


@dataclass(frozen=True, slots=True)
class Record:
    """Bytes `start` to `start + length` of the file."""

    start: int
    length: int


def records_of(file: BinaryIO) -> Mapping[str, Record]:
    """Return the records by name.

    Raises:
        Refused: a record is compressed, encrypted or named twice, or two lie at one place.
        Exception: of several kinds, where the file is no archive.
    """
    with zipfile.ZipFile(file) as archive:
        entries, end, comment = archive.infolist(), archive.start_dir, archive.comment
    if any(entry.orig_filename.endswith("/constants.pkl") for entry in entries):
        raise Refused(
            Sentence("it is a TorchScript archive (torch.jit.save): save model.state_dict() as safetensors instead")
        )
    if len(entries) > _MAX_RECORDS:
        raise Refused(
            Sentence(
                "its archive has {num} records, more than {max_records}", num=len(entries), max_records=_MAX_RECORDS
            )
        )
    if len({entry.orig_filename.casefold() for entry in entries}) < len(entries):
        raise Refused(Sentence("its archive has two records of one name"))  # torch ignores case
    if comment or min((entry.header_offset for entry in entries), default=1):
        raise Refused(Sentence("its archive has bytes before its first record or behind its last"))
    records: dict[str, Record] = {}
    free_from = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name = entry.orig_filename
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            raise Refused(
                Sentence(
                    "its record {name} is compressed or encrypted, which torch.save never does", name=repr(name[:80])
                )
            )
        file.seek(entry.header_offset)
        signature, *_, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        start = entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        if signature != b"PK\x03\x04" or file.read(name_length) != name.encode("utf-8"):
            raise Refused(Sentence("its archive is damaged at the record {name}", name=repr(name[:80])))
        if entry.header_offset < free_from or start + entry.file_size > end:
            raise Refused(
                Sentence("its record {name} lies over another one, or outside of the archive", name=repr(name[:80]))
            )
        free_from = start + entry.file_size
        records[name] = Record(start, entry.file_size)
    return records
