"""Valence and arousal of a picture, from -1 to 1: of its measurements, of words about it, and of both.

Pictures, by standardised measurements (z):

* Valdez & Mehrabian (1994), J. Exp. Psychol. General 123:394: pleasure = .69 brightness + .22 saturation;
  arousal = -.31 brightness + .60 saturation.
* Wilms & Oberfeld (2018), Psychol. Research 82:896: colours both saturated and bright arouse more; red arouses more
  than blue and green. The first study has brightness calm, so that it gets a small weight in arousal here.
* Palmer et al. (2013), PNAS 110:8836: people choose fast music in major for saturated, light and yellow colours, and
  slow music in minor for dark, blue and desaturated ones; emotion mediates it. So warmth adds to both values.
* Machajdik & Hanbury (2010), ACM Multimedia: texture and contrast tell emotions of photographs apart. So edges,
  contrast, entropy and colourfulness add to arousal.

The weights beyond those of the first study, and the means and deviations that standardise the measurements, are our own
choice; no experiment set them.
"""

from __future__ import annotations

import math

from serve_app.models.captions.lexicon import found_words
from serve_app.results import PictureFeatures

_PICTURE_SHARE = 0.6  # of a mood of picture and words; the words have the rest

# mean and standard deviation
_BRIGHTNESS = (0.5, 0.2)
_SATURATION = (0.2, 0.13)
_CONTRAST = (0.4, 0.15)
_COLORFULNESS = (0.35, 0.2)
_EDGES = (0.12, 0.1)
_ENTROPY = (0.75, 0.15)
_STEEPNESS = 0.75  # of tanh: one standard deviation of a sum gives about 0.6
_PROMPT_SHARE = 0.8  # of a caller's words where they are plain; they are a wish, not a description


def mood_of_picture(features: PictureFeatures) -> tuple[float, float]:
    """Return the valence and the arousal of a picture's measurements."""
    brightness = _standardized(features.brightness, _BRIGHTNESS)
    saturation = _standardized(features.saturation, _SATURATION)
    texture = (
        0.25 * _standardized(features.contrast, _CONTRAST)
        + 0.25 * _standardized(features.colorfulness, _COLORFULNESS)
        + 0.30 * _standardized(features.edge_density, _EDGES)
        + 0.10 * _standardized(features.entropy, _ENTROPY)
    )
    valence = 0.69 * brightness + 0.22 * saturation + 0.45 * features.warmth
    arousal = -0.05 * brightness + 0.60 * saturation + 0.30 * features.warmth + texture
    return math.tanh(_STEEPNESS * valence), math.tanh(_STEEPNESS * arousal)


def mood_of_words(text: str) -> tuple[float, float, float]:
    """Return the valence and arousal that words of mood in a text tell, and their weight.

    The weight is 0 without such words, 0.5 with one, 0.75 with two, and less than 1. Words that a negation precedes do
    not count. English and Korean; long texts are cut.
    """
    found = found_words(text)
    if not found:
        return 0.0, 0.0, 0.0
    valence = sum(value for value, _ in found) / len(found)
    arousal = sum(value for _, value in found) / len(found)
    return valence, arousal, 1.0 - 0.5 ** len(found)


def blended_mood(features: PictureFeatures, words: str) -> tuple[float, float]:
    """Return the mood of a picture and of words about it: 0.6 and 0.4 where the words are many, else less of them."""
    valence, arousal = mood_of_picture(features)
    return _moved(valence, arousal, words, 1.0 - _PICTURE_SHARE)


def shifted_by_words(valence: float, arousal: float, text: str) -> tuple[float, float]:
    """Return a mood, moved towards that of a caller's words; unchanged where they tell none."""
    return _moved(valence, arousal, text, _PROMPT_SHARE)


def _moved(valence: float, arousal: float, text: str, most: float) -> tuple[float, float]:
    valence_of_words, arousal_of_words, weight = mood_of_words(text)
    share = most * weight
    return (
        _clamped(valence + share * (valence_of_words - valence)),
        _clamped(arousal + share * (arousal_of_words - arousal)),
    )


def _clamped(value: float) -> float:
    return max(-1.0, min(1.0, value))


def _standardized(value: float, mean_and_deviation: tuple[float, float]) -> float:
    mean, deviation = mean_and_deviation
    return (value - mean) / deviation
