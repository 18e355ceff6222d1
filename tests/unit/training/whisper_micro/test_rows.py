import pytest

from training.whisper_micro.rows import Rows


@pytest.fixture(scope="module")
def rows():
    return Rows()


def test_hold_each_id_once_and_one_for_all_others(rows):
    assert len(set(rows.ids)) == len(rows.ids) == rows.num - 1
    assert rows.num < 2300


def test_spell_every_word(rows):
    assert rows.tokenizer.decode([rows.ids[row] for row in rows.word("breakfast")]) == " breakfast"
    assert rows.tokenizer.decode([rows.ids[row] for row in rows.word("학교에서")]) == " 학교에서"


def test_timestamps_follow_each_other_before_the_last_row(rows):
    assert rows.stamp(30.0) == rows.num - 2
    assert rows.stamp(0.02) == rows.stamp(0.0) + 1
    assert rows.stamp(30.4) == rows.stamp(30.0)
