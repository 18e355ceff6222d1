import numpy as np
import pytest

from serve_app.models.drums.audio_file import level_gain
from serve_app.models.drums.network import LABELS
from tests.unit.training.drums.made_songs import made_example, random_example
from training.drums import shards
from training.drums.shards import SURE, UNSURE
from training.drums.songs import Hit, Song
from training.drums.soundfonts import MissingSoundsError


def same(left, right):
    arrays = ("bands", "times_s", "kinds", "labels", "articulations", "velocities", "levels_db", "beats_s")
    return left.about == right.about and all(np.array_equal(getattr(left, n), getattr(right, n)) for n in arrays)


@pytest.fixture
def song():
    time_s = np.arange(round(2.5 * 44_100)) / 44_100
    samples = np.zeros(time_s.size, np.float32)
    for start_s in (0.5, 1.5):
        samples += np.where(time_s >= start_s, 0.1 * np.sin(300 * time_s) * np.exp(-20 * (time_s - start_s)), 0)
    kick, grace = Hit(1.5, "kick", "kick", 0.8, -20.0), Hit(1.45, "snare", "snare", 0.2, -40.0, grace=True)
    faint = Hit(0.5, "hihat_open", "hihat", 0.1, -60.0)
    return Song(
        samples.astype(np.float32), (grace, kick), (faint,), np.array([0.5, 1.0]), 120.0, "test", {"genre": "x"}
    )


def test_reads_what_was_written(tmp_path):
    rng = np.random.default_rng(0)
    examples = [random_example(rng, 4.0), made_example([], 2.0), random_example(rng, 6.0)]
    shards.write(tmp_path / "train-v-00000.npz", examples)
    read = list(shards.read(tmp_path / "train-v-00000.npz"))
    assert len(read) == 3
    assert all(same(one, other) for one, other in zip(examples, read, strict=True))


def test_an_example_keeps_what_is_known_of_a_song(song):
    example = shards.to_example(song)
    assert example.bands.shape == (250, 81)
    assert example.bands.dtype == np.float16
    assert example.times_s.tolist() == [0.5, 1.45, 1.5]
    assert [LABELS[label] for label in example.labels] == ["hihat", "snare", "kick"]
    assert example.about == {"bpm": 120.0, "kit": "test", "genre": "x"}


def test_faint_and_grace_strokes_are_unsure(song):
    assert shards.to_example(song).kinds.tolist() == [UNSURE, UNSURE, SURE]


def test_levels_are_those_of_the_levelled_song(song):
    gain_db = 20 * np.log10(level_gain(song.samples))
    assert shards.to_example(song).levels_db == pytest.approx([-60 + gain_db, -40 + gain_db, -20 + gain_db], abs=1e-3)


def test_bands_do_not_depend_on_the_songs_gain(song):
    louder = Song(song.samples * np.float32(4), *(getattr(song, n) for n in list(Song.__dataclass_fields__)[1:]))
    assert np.allclose(shards.to_example(song).bands, shards.to_example(louder).bands, atol=0.06)


@pytest.fixture
def quick(monkeypatch):
    """Songs of 1 s, three in a shard, on real kits."""
    monkeypatch.setattr(shards, "SECONDS", 1.0)
    monkeypatch.setattr(shards, "SONGS_IN_SHARD", 2)
    made = []

    def make_song(rng, split, *, seconds):
        made.append(split)
        noise = rng.standard_normal(round(seconds * 44_100)).astype(np.float32)
        return Song(noise, (), (), np.array([]), 120.0, f"{split}", {"draw": float(rng.random())})

    monkeypatch.setattr(shards, "make_song", make_song)
    return made


def test_building_goes_on_where_it_was(tmp_path, quick):
    shards.build(tmp_path, "train", 2)
    assert len(quick) == 4
    shards.build(tmp_path, "train", 3)
    assert len(quick) == 6
    assert len(shards.shard_paths(tmp_path, "train")) == 3


def test_the_same_seed_makes_the_same_songs_and_another_others(tmp_path, quick):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        shards.build(tmp_path / folder, "train", 2, seed)
    first, again, other = (
        [each for path in shards.shard_paths(tmp_path / folder, "train") for each in shards.read(path)]
        for folder in ("a", "b", "c")
    )
    assert all(same(one, two) for one, two in zip(first, again, strict=True))
    assert len({each.about["draw"] for each in (*first, *other)}) == 8


def test_no_song_is_in_two_parts(tmp_path, quick):
    for part in ("train", "validation", "held_out"):
        shards.build(tmp_path, part, 1)
    parts = [list(shards.read(shards.shard_paths(tmp_path, part)[0])) for part in ("train", "validation", "held_out")]
    assert len({each.about["draw"] for part in parts for each in part}) == 6
    assert quick == ["train"] * 4 + ["held_out"] * 2


def test_a_shard_is_there_as_a_whole_or_not_at_all(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(shards.np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        shards.build(tmp_path, "train", 1)
    assert shards.shard_paths(tmp_path, "train") == []


def test_real_songs_become_examples(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SECONDS", 2.0)
    monkeypatch.setattr(shards, "SONGS_IN_SHARD", 1)
    try:
        shards.build(tmp_path, "held_out", 1)
    except MissingSoundsError as error:
        pytest.skip(str(error))
    (example,) = shards.read(shards.shard_paths(tmp_path, "held_out")[0])
    assert example.bands.shape == (200, 81)
    assert np.isfinite(example.bands).all()
    assert np.all(np.diff(example.times_s) >= 0)
