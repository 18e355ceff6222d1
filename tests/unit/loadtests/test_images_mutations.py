"""Broken picture files: the same every time, broken the way that their names say."""

from __future__ import annotations

import random
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from loadtests.images.crafted import CRAFTED
from loadtests.images.mutations import MUTATIONS, cases, corrupt_chunk, png_chunks, splice, truncate, with_size
from loadtests.images.photographs import photograph
from loadtests.images.seeds import interlaced_png, seed_pictures

SEEDS = seed_pictures()


def test_the_same_seed_gives_the_same_files() -> None:
    few, many = list(cases(SEEDS, 60, 7)), list(cases(SEEDS, 90, 7))
    assert few == many[:60]
    assert [each.data for each in cases(SEEDS, 60, 8)] != [each.data for each in few]
    assert {each.kind for each in few} == set(MUTATIONS)
    assert len({each.name for each in many}) == 90


def test_all_kinds_of_files_get_their_turn() -> None:
    names = {each.name.split("-", 2)[2] for each in cases(SEEDS, len(SEEDS) * len(MUTATIONS), 0)}
    assert names == set(SEEDS)


@pytest.mark.parametrize("kind", sorted(MUTATIONS))
def test_a_mutation_changes_nearly_every_file(kind: str) -> None:
    other = SEEDS["gif"]
    changed = sum(
        MUTATIONS[kind](random.Random(f"{kind}{number}"), data, other) != data
        for number, data in enumerate(SEEDS.values())
    )
    assert changed >= 0.9 * len(SEEDS)


def test_a_splice_has_one_files_start_and_the_others_end() -> None:
    mixed = splice(random.Random(1), b"a" * 100, b"b" * 100)
    assert mixed == b"a" * mixed.count(b"a") + b"b" * mixed.count(b"b")
    assert len(truncate(random.Random(2), b"a" * 100, b"")) < 100


@pytest.mark.parametrize("name", [each for each in sorted(SEEDS) if not each.startswith("heic")])
def test_a_header_can_claim_another_size(name: str) -> None:
    changed = with_size(SEEDS[name], 1_000, 700)
    assert changed is not None
    if name.startswith("avif"):  # libavif compares the header with the picture within
        assert changed != SEEDS[name]
    elif name == "webp-lossy":
        assert changed[26:30] == b"\xe8\x03\xbc\x02"
    else:
        try:
            with Image.open(BytesIO(changed)) as image:
                assert image.size == (1_000, 700)
        except OSError:  # libwebp opens only whole pictures
            assert name.startswith("webp")


def test_what_has_no_header_keeps_its_size() -> None:
    assert with_size(b"no picture", 1, 1) is None
    assert with_size(b"\xff\xd8\xff\xd9", 1, 1) is None


def test_a_corrupt_chunk_has_the_right_checksum() -> None:
    import zlib

    data = SEEDS["png-palette"]
    broken = [corrupt_chunk(random.Random(number), data, b"") for number in range(8)]
    assert all(png_chunks(each) != png_chunks(data) for each in broken if each != data)
    for each in broken:
        at = 8
        while at < len(each):
            length = int.from_bytes(each[at : at + 4])
            assert zlib.crc32(each[at + 4 : at + 8 + length]) == int.from_bytes(
                each[at + 8 + length : at + 12 + length]
            )
            at += 12 + length


def test_an_interlaced_png_holds_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (13, 21, 3), dtype=np.uint8)
    data = interlaced_png(pixels)
    assert data[28] == 1
    with Image.open(BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_crafted_files_claim_what_they_are_named_for() -> None:
    with pytest.raises(Image.DecompressionBombError):
        Image.open(BytesIO(CRAFTED["png-claims-60000"]()))
    assert CRAFTED["jpeg-5000-scans"]().count(b"\xff\xda") > 5_000
    with Image.open(BytesIO(CRAFTED["png-strip-high"]())) as image:
        assert image.size == (1, 49_000_000)
    assert len(CRAFTED["png-ztxt-bomb"]()) < 100_000


def test_made_up_photographs_have_a_cameras_size() -> None:
    data = photograph(3)
    assert data == photograph(3) != photograph(4)
    assert 100_000 <= len(data) <= 140_000
    with Image.open(BytesIO(data)) as image:
        assert (image.size, image.format) == ((640, 480), "JPEG")
