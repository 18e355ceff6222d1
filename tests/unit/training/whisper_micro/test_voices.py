import numpy as np
import pytest

from training.whisper_micro import voices
from training.whisper_micro.voices import FLITE, draw_voice, espeak_variants

pytestmark = pytest.mark.skipif(not voices._VARIANTS.is_dir(), reason="espeak-ng's voices are not installed")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_held_out_variants_are_never_trained():
    groups = [set(espeak_variants(split)) for split in ("train", "dev", "unseen")]
    assert len(groups[2]) >= 14
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_unseen_voices_have_their_own_ways_of_speaking(rng):
    drawn = {
        split: [draw_voice(rng, "en", split, "espeak") for _ in range(300)] for split in ("train", "dev", "unseen")
    }
    for name in ("pitch", "rate_wpm"):
        values = [{getattr(voice, name) for voice in each} for each in drawn.values()]
        assert sum(map(len, values)) == len(set.union(*values)), name


def test_training_hears_all_families_and_the_test_one(rng):
    families = {split: {draw_voice(rng, "en", split).family for _ in range(200)} for split in ("train", "unseen")}
    assert families == {"train": {"espeak", "flite", "festival"}, "unseen": {"espeak"}}
    assert {draw_voice(rng, "ko", "train").family for _ in range(100)} == {"espeak"}


def test_the_held_out_voice_of_flite(rng):
    assert draw_voice(rng, "en", "unseen", "flite").name == "rms"
    assert not set(FLITE["train"]) & set(FLITE["unseen"])


@pytest.mark.parametrize(
    ("language", "split", "family"), [("ko", "train", "flite"), ("en", "unseen", "festival"), ("en", "dev", "flite")]
)
def test_says_that_a_family_has_no_such_voice(rng, language, split, family):
    with pytest.raises(ValueError, match=family):
        draw_voice(rng, language, split, family)
