"""The captioner `features`: a description of measured light, colour, texture and composition, without any weights.

It names what it measured and recognises nothing. The words of both languages come from the same steps of the same
measurements. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from serve_app.models.captions.colors import KOREAN_NAMES
from serve_app.models.captions.features import lab_of
from serve_app.models.captions.feelings import feeling_of
from serve_app.models.captions.mood import mood_of_picture
from serve_app.models.image_file import decoded_image
from serve_app.results import Caption, PictureFeatures

NAME = "features"
MODEL_VERSION = "features-1"
_NOTE = "Described from measured light, colour, texture and composition; nothing in the picture was recognised"

_GRID = 3  # rows and columns of the composition
_GRID_PX = 96
_CLEAR = 9.0  # L* by which the lightest third must exceed the rest to be named
_LONG = 1.15  # ratio of the sides from which a picture is not square
_MUCH = 0.12  # share of a second colour that is named as a large one

Words = tuple[str, str]  # English, Korean

# Each: upper ends of the steps, then one pair of words a step.
_LIGHT = (
    (0.2, 0.38, 0.62, 0.82),
    (
        ("very dark", "아주 어두운"),
        ("dark", "어두운"),
        ("moderately light", "중간 밝기의"),
        ("bright", "밝은"),
        ("very bright", "아주 밝은"),
    ),
)
_VIVID = (
    (0.06, 0.16, 0.32, 0.5),
    (
        ("There is almost no colour", "색이 거의 없으며"),
        ("Its colours are muted", "색은 차분하며"),
        ("Its colours are moderately strong", "색은 적당히 진하며"),
        ("Its colours are vivid", "색은 선명하며"),
        ("Its colours are very vivid", "색은 매우 강렬하며"),
    ),
)
_WARM = (
    (-0.35, 0.35),
    (("cool", "차가운 색조"), ("neither warm nor cool", "차갑지도 따뜻하지도 않은 색조"), ("warm", "따뜻한 색조")),
)
_CONTRAST = (
    (0.12, 0.3, 0.55),
    (
        ("almost even", "명암 차이는 거의 없고"),
        ("soft", "명암 차이는 은은하고"),
        ("clear", "명암 차이는 뚜렷하고"),
        ("strong", "명암 차이는 강하고"),
    ),
)
_TEXTURE = (
    (0.015, 0.07, 0.2),
    (
        ("smooth surfaces without edges", "윤곽 없이 매끈한 면으로 되어 있습니다"),
        ("large calm surfaces with few edges", "윤곽이 적은 넓은 면이 많습니다"),
        ("a moderate amount of detail", "세부 요소가 적당히 있습니다"),
        ("dense fine detail", "촘촘한 세부 요소로 가득합니다"),
    ),
)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The composition of a picture."""

    shape: Words
    lightest: Words | None  # the part that is clearly lighter than the rest


def describe_picture(jpeg: bytes, features: PictureFeatures) -> Caption:
    """Return the caption of a prepared picture; ImageUnreadable where its JPEG is broken."""
    layout = _layout(jpeg)
    valence, arousal = mood_of_picture(features)
    feeling = feeling_of(valence, arousal)
    return Caption(
        caption_ko=_korean(features, layout, feeling.korean),
        caption_en=_english(features, layout, feeling.english),
        mood_words=feeling.words,
        valence=round(valence, 4),
        arousal=round(arousal, 4),
        instruments=(),
        captioner=NAME,
        model_version=MODEL_VERSION,
        notes=(_NOTE,),
    )


def _english(features: PictureFeatures, layout: _Layout, feeling: str) -> str:
    names = [name for name, _ in features.colors]
    colors = f"mostly {names[0]}"
    if features.colors[0][1] > 0.97:
        colors = f"{names[0]} all over"
    elif len(names) > 1:
        colors += f", with {'much' if features.colors[1][1] >= _MUCH else 'a little'} {' and '.join(names[1:3])}"
    tone = "" if _is_colorless(features) else f" and {_step(features.warmth, _WARM)[0]}"
    light = _step(features.brightness, _LIGHT)[0]
    sentences = [
        f"A {light} {layout.shape[0]} picture, {colors}",
        f"{_step(features.saturation, _VIVID)[0]}{tone}; "
        f"the contrast is {_step(features.contrast, _CONTRAST)[0]}, "
        f"and the picture shows {_step(features.edge_density, _TEXTURE)[0]}",
    ]
    if layout.lightest:
        sentences.append(f"The light lies {layout.lightest[0]}")
    return ". ".join([*sentences, f"It feels {feeling}"]) + "."


def _korean(features: PictureFeatures, layout: _Layout, feeling: str) -> str:
    # every name ends in 색: its particles are 이, 과 and 으로
    names = [KOREAN_NAMES[name] for name, _ in features.colors]
    if features.colors[0][1] > 0.97:
        colors = f"전체가 {names[0]}인"
    elif len(names) == 1:
        colors = f"대부분 {names[0]}인"
    else:
        much = "" if features.colors[1][1] >= _MUCH else "조금 "
        colors = f"{names[0]}이 가장 많고 {'과 '.join(names[1:3])}이 {much}섞인"
    tone = "" if _is_colorless(features) else f"{_step(features.warmth, _WARM)[1]}입니다. "
    vivid = _step(features.saturation, _VIVID)[1]
    sentences = (
        f"{colors}, {layout.shape[1]} {_step(features.brightness, _LIGHT)[1]} 이미지입니다. ",
        f"{vivid} {tone}",
        f"{_step(features.contrast, _CONTRAST)[1]} {_step(features.edge_density, _TEXTURE)[1]}. ",
        f"{layout.lightest[1]} 밝습니다. " if layout.lightest else "",
        f"{feeling} 느낌을 줍니다.",
    )
    return "".join(sentences)


def _is_colorless(features: PictureFeatures) -> bool:
    return features.saturation < _VIVID[0][0]


def _step(value: float, steps: tuple[tuple[float, ...], tuple[Words, ...]]) -> Words:
    ends, words = steps
    return words[sum(value >= end for end in ends)]


def _layout(jpeg: bytes) -> _Layout:
    with decoded_image(jpeg, at_least_px=_GRID_PX) as image:
        width, height = image.size
        # three bands each way, by the mean of their pixels
        pixels = np.asarray(image.resize((_GRID * 32, _GRID * 32), Image.Resampling.BOX), dtype=np.float64)
    if max(width, height) < _LONG * min(width, height):
        shape = ("square", "정사각형의")
    else:
        shape = ("landscape-format", "가로로 긴") if width > height else ("portrait-format", "세로로 긴")
    lightness = lab_of(pixels)[..., 0]
    cells = lightness.reshape(_GRID, 32, _GRID, 32).mean(axis=(1, 3))
    parts: dict[Words, float] = {
        ("in the upper part", "위쪽이 가장"): _excess(cells, np.s_[0, :]),
        ("in the lower part", "아래쪽이 가장"): _excess(cells, np.s_[2, :]),
        ("on the left", "왼쪽이 가장"): _excess(cells, np.s_[:, 0]),
        ("on the right", "오른쪽이 가장"): _excess(cells, np.s_[:, 2]),
        ("in the centre", "가운데가 가장"): _excess(cells, np.s_[1, 1]),
    }
    lightest = max(parts, key=lambda words: parts[words])
    return _Layout(shape, lightest if parts[lightest] >= _CLEAR else None)


def _excess(cells: np.ndarray, part: tuple) -> float:
    """Return by how much a part is lighter than the mean of the rest."""
    rest = np.ones(cells.shape, dtype=bool)
    rest[part] = False
    return float(cells[part].mean() - cells[rest].mean())
