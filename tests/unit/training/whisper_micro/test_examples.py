import numpy as np
import pytest

from tests.unit.training.whisper_micro.made_speech import WORD_S, made_speech
from training.whisper_micro import examples
from training.whisper_micro.examples import IGNORED, ExampleMaker
from training.whisper_micro.rows import FRAME_S, Rows
from training.whisper_micro.speech import SAMPLE_RATE_HZ
from training.whisper_micro.windows import Layout, Window, lay

LAYOUT = Layout(lead_s=(0.2, 0.2), gap_s=(0.4, 0.4), trail_s=(0.2, 0.2))
PHONES = {"espeak": {"a": 1, "b": 2}, "cmu": {"a": 1, "b": 2}}


@pytest.fixture(scope="module")
def rows():
    return Rows()


@pytest.fixture
def maker(rows):
    return ExampleMaker(rows, PHONES)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=["timed", "untimed"])
def form(request, monkeypatch):
    monkeypatch.setattr(examples, "_SHARE_TIMED", 1.0 if request.param == "timed" else 0.0)
    return request.param


@pytest.fixture
def timed(monkeypatch):
    monkeypatch.setattr(examples, "_SHARE_TIMED", 1.0)


@pytest.fixture
def untimed(monkeypatch):
    monkeypatch.setattr(examples, "_SHARE_TIMED", 0.0)


@pytest.fixture
def window(rng):
    return lay(rng, [made_speech("hello daniel"), made_speech("good morning")], LAYOUT)


def written(rows, numbers):
    return rows.tokenizer.decode_with_timestamps([rows.ids[row] for row in numbers if row != IGNORED])


class TestTokens:
    def test_with_timestamps(self, maker, rows, rng, window, timed):
        example = maker.make(rng, window)
        assert written(rows, example.inputs) == (
            "<|startoftranscript|><|en|><|transcribe|><|0.20|> hello daniel<|0.80|><|1.20|> good morning<|1.80|>"
        )
        assert written(rows, example.targets) == (
            "<|en|><|transcribe|><|0.20|> hello daniel<|0.80|><|1.20|> good morning<|1.80|><|endoftext|>"
        )

    def test_without_timestamps_saying_so_is_not_learnt(self, maker, rows, rng, window, untimed):
        example = maker.make(rng, window)
        assert written(rows, example.inputs) == (
            "<|startoftranscript|><|en|><|transcribe|><|notimestamps|> hello daniel good morning"
        )
        assert written(rows, example.targets) == "<|en|><|transcribe|> hello daniel good morning<|endoftext|>"
        assert example.targets[2] == IGNORED

    def test_a_prompt_is_given_and_not_learnt(self, maker, rows, rng, window, form):
        prompted, plain = maker.make(rng, window, ("red", "cups")), maker.make(rng, window)
        assert written(rows, prompted.inputs).startswith("<|startofprev|> red cups<|startoftranscript|>")
        assert written(rows, prompted.targets) == written(rows, plain.targets)
        added = prompted.inputs.size - plain.inputs.size
        assert (prompted.targets[:added] == IGNORED).all()
        assert (prompted.looks[added:] == plain.looks).all()

    def test_silence_has_no_text(self, maker, rows, rng, form):
        example = maker.make(rng, Window(np.zeros(SAMPLE_RATE_HZ, np.float32), ()))
        learnt = written(rows, example.targets)
        assert learnt.startswith("<|nospeech|><|transcribe|>")
        assert learnt.endswith("<|endoftext|>")
        assert not (example.targets[:-1] < rows.num_texts)[example.targets[:-1] != IGNORED].any()

    def test_what_is_cut_off_is_left_to_the_next_window(self, maker, rows, rng, untimed):
        full = lay(rng, [made_speech("hello daniel good morning")] * 60, LAYOUT, cut_off=True)
        assert full.cut_off
        example = maker.make(rng, full)
        start_s = full.utterances[-1].words[0].start_s
        assert example.targets[-1] == rows.special("eot")
        assert example.targets[-2] == rows.stamp(start_s)  # its start, with timestamps although untimed ones are drawn
        assert example.targets[-3] == rows.stamp(full.utterances[-2].words[-1].end_s)

    def test_a_late_beginning_moves_timestamps_but_not_what_is_looked_at(self, maker, rng, window, timed, monkeypatch):
        monkeypatch.setattr(examples, "_SHARE_LATE", 1.0)
        late, plain = maker.make(rng, window, may_begin_late=True), maker.make(rng, window)
        assert late.offset > 0
        assert late.offset + late.mels.shape[1] // 2 <= 1500
        assert (late.looks == plain.looks).all()
        moved = late.targets - plain.targets
        assert set(moved) == {0, late.offset}

    def test_each_token_is_heard_in_its_word(self, maker, rows, rng, window, untimed):
        example = maker.make(rng, window)
        for word in window.words:
            places = [at for at, row in enumerate(example.targets) if row in rows.word(word.name)]
            assert places
            for first, after in example.looks[places]:
                assert first * FRAME_S <= word.start_s <= (first + 3) * FRAME_S
                assert (after - 5) * FRAME_S <= word.end_s <= after * FRAME_S


class TestSounds:
    def test_are_labelled_frame_by_frame(self, maker, rng):
        example = maker.make(rng, lay(rng, [made_speech("hello")], LAYOUT))
        labels = example.phones[0]
        assert labels.size == example.mels.shape[1] // 2
        half = round(WORD_S / 2 / FRAME_S)
        begin = round(0.2 / FRAME_S)
        assert (labels[:begin] == 0).all()
        assert (np.flatnonzero(labels == 1)[[0, -1]] == [begin, begin + half - 1]).all()
        assert (labels == 2).sum() == pytest.approx(half, abs=1)

    def test_of_the_other_set_are_unknown_while_somebody_speaks(self, maker, rng):
        example = maker.make(rng, lay(rng, [made_speech("hello"), made_speech("good", family="flite")], LAYOUT))
        espeak, cmu = example.phones
        assert (espeak[cmu > 0] == IGNORED).all()
        assert (cmu[espeak > 0] == IGNORED).all()
        assert (espeak > 0).sum() == pytest.approx((cmu > 0).sum(), abs=2)
        assert (cmu > 0).any()

    def test_that_were_never_numbered_teach_nothing(self, rows, rng):
        example = ExampleMaker(rows, {"espeak": {"a": 1}, "cmu": {}}).make(
            rng, lay(rng, [made_speech("hello")], LAYOUT)
        )
        assert set(example.phones[0]) == {0, 1, IGNORED}
