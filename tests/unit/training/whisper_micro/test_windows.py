import itertools

import numpy as np
import pytest

from tests.unit.training.whisper_micro.made_speech import made_speech
from training.whisper_micro.speech import SAMPLE_RATE_HZ
from training.whisper_micro.windows import WINDOW_S, Layout, lay

LAYOUT = Layout(lead_s=(0.5, 0.5), gap_s=(0.4, 0.4), trail_s=(0.25, 0.25))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_pauses_are_where_the_layout_says(rng):
    window = lay(rng, [made_speech("one two"), made_speech("three")], LAYOUT)
    starts = {word.name: word.start_s for word in window.words}
    assert starts == pytest.approx({"one": 0.5, "two": 0.8, "three": 1.5})
    assert window.samples.size / SAMPLE_RATE_HZ == pytest.approx(0.5 + 0.6 + 0.4 + 0.3 + 0.25)
    assert window.text == "one two three"


def test_sound_is_where_the_words_are(rng):
    window = lay(rng, [made_speech("one two"), made_speech("three")], LAYOUT)
    inside = np.zeros(window.samples.size, bool)
    for word in window.words:
        inside[round(word.start_s * SAMPLE_RATE_HZ) : round(word.end_s * SAMPLE_RATE_HZ)] = True
    assert not window.samples[~inside].any()
    assert np.abs(window.samples[inside]).mean() > 0.03


def test_sounds_move_with_the_words(rng):
    window = lay(rng, [made_speech("one"), made_speech("two")], LAYOUT)
    assert [speech.phones[0].start_s for speech in window.utterances] == [
        word.start_s for speech in window.utterances for word in speech.words[:1]
    ]


def test_takes_what_fits_and_cuts_nothing(rng):
    endless = (made_speech("one two three four five") for _ in itertools.count())
    window = lay(rng, endless, LAYOUT)
    assert len(window.utterances) == 15  # 0.5 + 15 x 1.5 + 14 x 0.4 = 28.6 s; another would end at 30.5 s
    assert window.words[-1].end_s <= WINDOW_S
    assert window.samples.size <= WINDOW_S * SAMPLE_RATE_HZ
    assert not window.cut_off


def test_cut_off_fills_the_window_to_its_end(rng):
    endless = (made_speech("one two three four five") for _ in itertools.count())
    window = lay(rng, endless, LAYOUT, cut_off=True)
    assert window.cut_off
    assert window.samples.size == WINDOW_S * SAMPLE_RATE_HZ
    assert window.words[-1].end_s > WINDOW_S > window.utterances[-1].words[0].start_s
    assert window.samples[-100:].any()


def test_cut_off_is_not_said_of_what_is_whole(rng):
    assert not lay(rng, [made_speech("one")], LAYOUT, cut_off=True).cut_off


def test_a_shorter_limit(rng):
    window = lay(rng, [made_speech("one two")] * 9, Layout(LAYOUT.lead_s, LAYOUT.gap_s, LAYOUT.trail_s, max_s=3.0))
    assert len(window.utterances) == 2
    assert window.samples.size <= 3 * SAMPLE_RATE_HZ


def test_the_first_utterance_is_taken_even_if_it_is_too_long(rng):
    window = lay(rng, [made_speech("one " * 120)], LAYOUT)
    assert len(window.utterances) == 1
    assert window.samples.size == WINDOW_S * SAMPLE_RATE_HZ
