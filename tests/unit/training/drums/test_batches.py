import numpy as np
import pytest

from serve_app.models.drums.activations import LEAD_FRAMES
from serve_app.models.drums.bands import log_bands
from serve_app.models.drums.network import LABELS
from tests.unit.training.drums.made_songs import made_example, random_example
from training.drums import shards
from training.drums.batches import UNKNOWN, Pool, draw, from_magnitudes, record_anew, targets_of, to_magnitudes

KICK, SNARE, HIHAT = 0, 1, 2


class TestTargets:
    def test_are_a_bell_around_each_stroke(self):
        targets, levels_db = targets_of(made_example([(0.5, "kick", -6.0)]), 0, 100)
        assert targets[50, KICK] == 1.0
        assert targets[49, KICK] == targets[51, KICK] == pytest.approx(0.458, abs=0.001)
        assert targets[53:, KICK].max() == targets[:48, KICK].max() == 0.0
        assert targets[:, 1:].max() == 0.0
        assert levels_db[50, KICK] == -6.0
        assert np.isnan(np.delete(levels_db.ravel(), 50 * len(LABELS))).all()

    def test_tell_times_between_frames(self):
        targets, _ = targets_of(made_example([(0.503, "kick", -6.0)]), 0, 100)
        assert targets[50, KICK] > targets[51, KICK] > targets[49, KICK] > 0

    def test_count_from_the_crop(self):
        targets, levels_db = targets_of(made_example([(0.5, "snare", -6.0)]), 45, 20)
        assert targets.argmax(axis=0)[SNARE] == 5
        assert levels_db[5, SNARE] == -6.0

    def test_of_a_stroke_beyond_the_end_only_its_skirt_is_seen(self):
        targets, levels_db = targets_of(made_example([(0.5, "snare", -6.0)]), 30, 20)
        assert 0.4 < targets[19, SNARE] < 0.5
        assert np.isnan(levels_db).all()

    def test_keep_two_strokes_apart(self):
        targets, _ = targets_of(made_example([(0.5, "kick", 0.0), (0.54, "kick", 0.0)]), 0, 100)
        assert targets[50, KICK] == targets[54, KICK] == 1.0
        assert targets[52, KICK] < 0.1

    def test_of_strokes_at_once_the_loudest_has_the_level(self):
        _, levels_db = targets_of(made_example([(0.5, "kick", -20.0), (0.501, "kick", -3.0)]), 0, 100)
        assert levels_db[50, KICK] == -3.0

    def test_what_was_struck_in_silence_is_not_heard(self):
        example = made_example([(0.48, "snare", -6.0), (0.5, "kick", -6.0), (0.6, "kick", -6.0)])
        targets, levels_db = targets_of(example, 45, 50, silent_frames=5)
        assert targets[:, SNARE].max() == 0.0
        assert np.isnan(levels_db[:, SNARE]).all()
        assert targets[5, KICK] == targets[15, KICK] == 1.0
        assert 0.4 < targets[4, KICK] < 0.5

    @pytest.mark.parametrize("order", [1, -1])
    def test_know_nothing_around_an_unsure_stroke_but_what_is_sure(self, order):
        sure_s, unsure_s = 0.5, 0.5 + order * 0.03
        example = made_example([(sure_s, "snare", -6.0)], unsure=[(unsure_s, "snare", -30.0)])
        targets, levels_db = targets_of(example, 0, 100)
        unsure = round(unsure_s * 100)
        assert targets[50, SNARE] == 1.0
        assert targets[unsure, SNARE] == UNKNOWN
        assert np.isnan(levels_db[unsure, SNARE])
        assert np.all(targets[:, KICK] == 0.0)


class TestRecordAnew:
    def test_the_logarithm_is_undone(self):
        samples = np.random.default_rng(0).standard_normal(8820).astype(np.float32) * 0.1
        bands = log_bands(samples)
        louder = from_magnitudes(to_magnitudes(bands) * 2)
        assert np.allclose(louder, log_bands(samples * 2), atol=1e-4)

    def test_every_draw_differs_and_all_are_spectrograms(self):
        bands = random_example(np.random.default_rng(0)).bands[:200].astype(np.float32)
        drawn = [record_anew(np.random.default_rng(seed), bands.copy()) for seed in range(60)]
        assert len({crop.tobytes() for crop, *_ in drawn}) == 60
        for crop, range_, gain_db in drawn:
            assert crop.shape == bands.shape
            assert crop.dtype == np.float32
            assert np.isfinite(crop).all()
            assert crop.min() >= -1e-6
            assert abs(gain_db) <= 8.0
            assert 0.8 <= range_ <= 1.2

    def test_the_original_stays(self):
        bands = random_example(np.random.default_rng(0)).bands[:200].astype(np.float32)
        before = bands.copy()
        for seed in range(20):
            record_anew(np.random.default_rng(seed), bands)
        assert np.array_equal(before, bands)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    shards.write(tmp_path / "train-v1-00000.npz", [random_example(rng) for _ in range(3)])
    return tmp_path


class TestPool:
    def test_takes_in_shards_that_come_and_forgets_those_that_go(self, folder):
        pool = Pool(folder)
        assert len(pool.examples) == 3
        assert pool.hours == pytest.approx(30 / 3600)
        shards.write(folder / "train-v2-00000.npz", [made_example([], 5.0)])
        shards.write(folder / "validation-v2-00000.npz", [made_example([], 5.0)])
        pool.refresh()
        assert len(pool.examples) == 4
        (folder / "train-v1-00000.npz").unlink()
        pool.refresh()
        assert len(pool.examples) == 1


class TestDraw:
    def test_gives_crops_with_their_targets(self, folder):
        batch = draw(Pool(folder), np.random.default_rng(1), 5, 120)
        assert batch.bands.shape == (5, 120, 81)
        assert batch.targets.shape == batch.levels_db.shape == (5, 120, len(LABELS))
        assert (batch.targets.amax(dim=(1, 2)) > 0.9).all()
        assert batch.targets[~batch.levels_db.isnan()].min() > 0.8

    def test_pads_songs_that_are_too_short(self, folder):
        batch = draw(Pool(folder), np.random.default_rng(1), 2, 1500)
        assert batch.targets[:, 1015:].max() == 0.0

    def test_some_crops_begin_like_files(self, folder):
        batch = draw(Pool(folder), np.random.default_rng(1), 60, 120)
        silent = batch.bands[:, :LEAD_FRAMES].abs().amax(dim=(1, 2)) == 0
        begins = batch.targets[:, LEAD_FRAMES].amax(dim=1) > 0.8
        assert 3 <= int((silent & begins).sum()) <= 15

    def test_is_decided_by_the_generator(self, folder):
        first, again = (draw(Pool(folder), np.random.default_rng(1), 4, 100) for _ in range(2))
        assert (first.bands == again.bands).all()
        assert (first.targets == again.targets).all()
