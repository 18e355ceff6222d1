import ctypes
import dataclasses
import shutil
import subprocess

import numpy as np
import pytest

from training.whisper_micro import espeak, flite_festival
from training.whisper_micro.speech import SAMPLE_RATE_HZ, MissingSynthesizerError, Raw, Span
from training.whisper_micro.synthesis import finish, speak
from training.whisper_micro.voices import Voice

TEXT = "please open the kitchen window"
ESPEAK = Voice("espeak", "en-us+f2", pitch=50, rate_wpm=160)
FLITE = Voice("flite", "rms")
FESTIVAL = Voice("festival", "kal_diphone")


def installed(voice: Voice) -> bool:
    if voice.family == "festival":
        return shutil.which("festival") is not None
    try:
        ctypes.CDLL({"espeak": "libespeak-ng.so.1", "flite": "libflite.so.1"}[voice.family])
    except OSError:
        return False
    return True


@pytest.fixture(params=[ESPEAK, FLITE, FESTIVAL], ids=lambda voice: voice.family)
def voice(request):
    if not installed(request.param):
        pytest.skip(f"{request.param.family} is not installed")
    return request.param


def energy(samples, start_s, end_s):
    return float(np.square(samples[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]).mean())


class TestEverySynthesizer:
    def test_says_each_word_once_and_in_order(self, voice):
        speech = speak(TEXT, "en", voice)
        assert speech.text == TEXT
        times = [time for word in speech.words for time in (word.start_s, word.end_s)]
        assert times == sorted(times)
        assert all(word.end_s - word.start_s > 0.04 for word in speech.words)
        assert times[-1] <= speech.samples.size / SAMPLE_RATE_HZ + 0.01

    def test_times_are_where_the_words_sound(self, voice):
        speech = speak(TEXT, "en", voice)
        first, last = speech.words[0].start_s, speech.words[-1].end_s
        inside = energy(speech.samples, first, last)
        assert energy(speech.samples, 0.0, max(first, 0.005)) < 0.2 * inside
        assert first < 0.1
        assert speech.samples.size / SAMPLE_RATE_HZ - last < 0.1

    def test_sounds_fill_the_words(self, voice):
        speech = speak(TEXT, "en", voice)
        assert speech.phone_set == ("espeak" if voice.family == "espeak" else "cmu")
        for word in speech.words:
            assert any(abs(phone.start_s - word.start_s) < 0.021 for phone in speech.phones), word
        assert all(phone.end_s > phone.start_s for phone in speech.phones)

    def test_speed_shortens_sound_and_times_alike(self, voice):
        slow, fast = (speak(TEXT, "en", dataclasses.replace(voice, speed=speed)) for speed in (1.0, 1.25))
        assert fast.samples.size == pytest.approx(slow.samples.size / 1.25, rel=0.01)
        assert fast.words[-1].start_s == pytest.approx(slow.words[-1].start_s / 1.25, rel=0.02)

    def test_stretch_or_rate_changes_the_length(self, voice):
        slower = dataclasses.replace(voice, stretch=1.3, rate_wpm=120)
        assert speak(TEXT, "en", slower).samples.size > 1.1 * speak(TEXT, "en", voice).samples.size


@pytest.mark.skipif(not installed(ESPEAK), reason="espeak-ng is not installed")
class TestEspeak:
    def test_speaks_korean_with_the_first_word_timed(self):
        speech = speak("저는 학교에서 커피를 마셔요", "ko", Voice("espeak", "ko+m3"))
        assert [word.name for word in speech.words] == ["저는", "학교에서", "커피를", "마셔요"]
        assert speech.words[0].start_s < 0.1

    def test_words_that_are_read_as_one_share_its_time(self):
        speech = speak("a cup of the coffee in the morning", "en", ESPEAK)
        assert speech.text == "a cup of the coffee in the morning"
        assert all(word.end_s > word.start_s for word in speech.words)

    def test_unknown_voice(self):
        with pytest.raises(MissingSynthesizerError, match="apt-get install espeak-ng"):
            speak(TEXT, "en", Voice("espeak", "no-such-language"))


def test_missing_library_says_what_to_install(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(MissingSynthesizerError, match="apt-get install espeak-ng flite festival"):
        espeak._Library()
    with pytest.raises(MissingSynthesizerError, match="flite is missing"):
        flite_festival._Flite()


def test_missing_program_says_what_to_install(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(MissingSynthesizerError, match="festival is missing"):
        flite_festival.speak_festival(TEXT, FESTIVAL)


@pytest.mark.parametrize("text", ['say "no"', "(quit)", "Upper"])
def test_festival_is_given_plain_words_only(text):
    with pytest.raises(ValueError, match="plain"):
        flite_festival.speak_festival(text, FESTIVAL)


class TestFinish:
    RAW = Raw(
        np.concatenate([np.zeros(2205), np.ones(22_050), np.zeros(2205)]).astype(np.float32) * 0.5,
        22_050,
        (Span("one", 0.1, 0.6), Span("two", 0.6, 1.1)),
        (Span("w", 0.1, 0.6), Span("t", 0.6, 1.1)),
    )

    def test_cuts_the_silence_around_and_moves_the_times(self):
        speech = finish(self.RAW, "one two", "en", ESPEAK)
        assert speech.words[0].start_s == pytest.approx(0.03)
        assert speech.words[1].end_s == pytest.approx(1.03)
        assert speech.samples.size / SAMPLE_RATE_HZ == pytest.approx(1.06, abs=0.002)
        assert speech.samples.dtype == np.float32

    def test_refuses_words_that_are_not_the_texts(self):
        with pytest.raises(ValueError, match="1 two"):
            finish(self.RAW, "1 two", "en", ESPEAK)
