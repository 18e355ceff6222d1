"""A few hundred broken files through the caged readers."""

from __future__ import annotations

import pytest

from loadtests.fuzz_files import fuzz, read_picture, read_sound, seed_sounds
from loadtests.images.seeds import seed_pictures
from serve_app.media.caged_audio import sound_cage
from serve_app.models.caged_pictures import picture_cage


@pytest.mark.slow
def test_broken_files_are_decoded_or_refused() -> None:
    for seeds, read, cage in (
        (seed_sounds(None), read_sound, sound_cage()),
        (seed_pictures(), read_picture, picture_cage()),
    ):
        report = fuzz(seeds, 200, 7, read, cage)
        assert report.faults == []
        assert report.outcomes["decoded"] > 20
        assert report.outcomes.total() == 200
