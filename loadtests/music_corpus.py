"""The composer on many different pictures: spread of plans, figures of scores, sound, speed; printed as Markdown.

    OMP_NUM_THREADS=1 python -m loadtests.music_corpus [--pictures 200] [--pieces 40] [--seconds 30]

Pictures are `loadtests/music_pictures.py`'s, captioned by the embedded captioner. Every plan is composed; of `--pieces`
of them, spread over the corpus, the sound is made, mastered and put through the gate. librosa is the independent
reader of key and tempo: Krumhansl's profiles on the mean chroma of the harmonic part, and its beat tracker.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import hashlib
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtests import music_measures as measures
from loadtests.music_pictures import flat, pictures
from serve_app.models.captions.embedded import describe_picture
from serve_app.models.captions.picture import prepare_picture
from serve_app.models.music.composer.arrangement import compose
from serve_app.models.music.composer.render import render_plan
from serve_app.models.music.composer.score import Score
from serve_app.models.music.composer.wavetable import RATE
from serve_app.models.music.gate import faults_of, measure
from serve_app.models.music.mastering import master
from serve_app.models.music.plan import make_plan
from serve_app.models.music.plan_rules import BEATS_PER_BAR, make_form
from serve_app.models.music.scales import MODES, PITCH_NAMES
from serve_app.results import MAX_MUSIC_S, MusicPlan

_MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
_MAJOR_MODES = ("lydian", "ionian", "mixolydian")
_TEMPO_TOLERANCE = 0.05


@dataclass(frozen=True)
class Heard:
    """What librosa hears in a piece: does it fit the plan?"""

    key: bool  # tonic and major or minor third
    scale: bool  # the seven strongest pitch classes are the mode's
    tempo: bool  # within 5 %, half and double tempo too


def plan_of(picture: bytes, seconds: float, seed: int = 1, prompt: str = "") -> MusicPlan:
    """Return the plan of a picture's file."""
    prepared = prepare_picture(picture, max_pixels=10_000_000)
    caption = describe_picture(prepared.jpeg, prepared.features)
    return make_plan(caption, prepared.features, prepared.sha256, duration_s=seconds, seed=seed, prompt=prompt)


def hear(audio: np.ndarray, plan: MusicPlan) -> Heard:
    """Return what librosa hears in (n, 2) samples."""
    import librosa

    mono = audio.mean(axis=1)
    chroma = librosa.feature.chroma_cqt(y=librosa.effects.harmonic(mono), sr=RATE).mean(axis=1)
    fits = {
        (tonic, is_major): float(np.corrcoef(np.roll(_MAJOR if is_major else _MINOR, tonic), chroma)[0, 1])
        for tonic in range(12)
        for is_major in (True, False)
    }
    tonic = PITCH_NAMES.index(plan.key)
    scale = {(tonic + step) % 12 for step in MODES[plan.mode]}
    found, _ = librosa.beat.beat_track(y=mono, sr=RATE, hop_length=256)
    bpm = float(np.atleast_1d(found)[0])
    return Heard(
        key=max(fits, key=lambda key: fits[key]) == (tonic, plan.mode in _MAJOR_MODES),
        scale=set(np.argsort(chroma)[-7:].tolist()) == scale,
        tempo=min(abs(bpm * factor / plan.tempo_bpm - 1) for factor in (0.5, 1, 2)) < _TEMPO_TOLERANCE,
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--pictures", type=int, default=200)
    arguments.add_argument("--pieces", type=int, default=40)
    arguments.add_argument("--heard", type=int, default=40, help="pieces that librosa analyses, some seconds each")
    arguments.add_argument("--seconds", type=float, default=30.0)
    options = arguments.parse_args()
    plans = [plan_of(picture, options.seconds) for _, picture in pictures(options.pictures)]
    _print_spread(plans)
    began = time.process_time()
    scores = [compose(plan) for plan in plans]
    print(f"\nComposing takes {1000 * (time.process_time() - began) / len(scores):.1f} ms of CPU.\n")
    _print_figures(scores)
    _print_sound(plans[:: max(1, len(plans) // options.pieces)][: options.pieces], options.heard)
    _print_direction(options.seconds)


def _print_spread(plans: Sequence[MusicPlan]) -> None:
    print(
        f"{len(plans)} pictures, {len({(p.key, p.mode, p.tempo_bpm, p.instruments) for p in plans})} different plans\n"
    )
    print("| | |\n| --- | --- |")
    for name, values in (
        ("valence", [plan.valence for plan in plans]),
        ("arousal", [plan.arousal for plan in plans]),
        ("density", [plan.density for plan in plans]),
        ("tempo, beats a minute", [plan.tempo_bpm for plan in plans]),
    ):
        low, lower, middle, upper, high = np.percentile(values, [0, 10, 50, 90, 100])
        print(
            f"| {name}: least, 10 %, median, 90 %, most | {low:g}, {lower:.3g}, {middle:.3g}, {upper:.3g}, {high:g} |"
        )
    print("| modes |", _counts([plan.mode for plan in plans], MODES), "|")
    print("| keys |", _counts([plan.key for plan in plans], PITCH_NAMES), "|")
    print("| metres |", _counts([plan.metre for plan in plans]), "|")
    print("| leading instruments |", _counts([plan.instruments[0] for plan in plans]), "|")
    print("| other instruments |", _counts([name for plan in plans for name in plan.instruments[1:]]), "|")


def _print_figures(scores: Sequence[Score]) -> None:
    pairs = [
        (same, other)
        for score in scores
        if (same := measures.section_similarity(score, "A", "A'")) is not None
        and (other := measures.section_similarity(score, "A", "B")) is not None
    ]
    print("| figure of the notes | mean | worst |\n| --- | --- | --- |")
    for name, values, worst in (
        ("notes in the scale", [measures.scale_share(score) for score in scores], min),
        ("strong beats: chord tones", [measures.strong_chord_share(score) for score in scores], min),
        ("uses of the motif", [measures.motif_uses(score) for score in scores], min),
        ("widest jump of melody and bass, semitones", [measures.largest_jump(score) for score in scores], max),
        ("range of the melody, semitones", [measures.widest_range(score) for score in scores], max),
        ("ends on the tonic", [float(measures.ends_on_tonic(score)) for score in scores], min),
        (f"A alike A' more than B ({len(pairs)} forms)", [float(same > other) for same, other in pairs], min),
    ):
        print(f"| {name} | {np.mean(values):.3g} | {worst(values):.3g} |")
    print(f"| likeness of A and A', of A and B | {np.mean(pairs, axis=0)[0]:.2f}, {np.mean(pairs, axis=0)[1]:.2f} | |")


def _print_sound(plans: Sequence[MusicPlan], num_heard: int) -> None:
    began = time.process_time()
    render_plan(dataclasses.replace(plans[0], duration_s=MAX_MUSIC_S, form=make_form(_bars_of(plans[0], MAX_MUSIC_S))))
    long_s = time.process_time() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, digests, faults = [], set(), collections.Counter()
    loudness = []
    heard: list[tuple[MusicPlan, Heard]] = []
    for number, plan in enumerate(plans):
        began = time.process_time()
        audio, _ = render_plan(plan)
        seconds.append(time.process_time() - began)
        digests.add(hashlib.sha256(audio.tobytes()).hexdigest())
        mastered = master(audio, RATE, plan.duration_s)
        figures = measure(mastered, RATE, plan)
        loudness.append(figures["loudness_lufs"])
        faults.update(faults_of(figures, plan))
        if number % max(1, len(plans) // max(1, num_heard)) == 0 and len(heard) < num_heard:
            heard.append((plan, hear(mastered, plan)))
    plain = [each for plan, each in heard if plan.mode in ("ionian", "aeolian")]
    length = plans[0].duration_s
    print(f"\n| sound of {len(plans)} pieces of {length:g} s | |\n| --- | --- |")
    print(f"| different recordings | {len(digests)} |")
    print(f"| CPU seconds: median, most | {np.median(seconds):.2f}, {max(seconds):.2f} |")
    print(f"| times faster than real time, median | {length / np.median(seconds):.0f} |")
    print(f"| loudness after mastering, LUFS | {min(loudness):.1f} to {max(loudness):.1f} |")
    print(f"| faults of the gate | {dict(faults) or 'none'} |")
    print(f"| librosa: tempo | {sum(each.tempo for _, each in heard)} of {len(heard)} |")
    in_scale = sum(each.scale for _, each in heard)
    print(f"| librosa: the scale's seven notes are the strongest | {in_scale} of {len(heard)} |")
    print(f"| librosa: key | {sum(each.key for _, each in heard)} of {len(heard)} |")
    print(f"| librosa: key, major and minor alone | {sum(each.key for each in plain)} of {len(plain)} |")
    print(f"| CPU seconds of a piece of {MAX_MUSIC_S:g} s | {long_s:.1f} |")
    print(f"| the process's peak memory then, MiB | {memory:.0f} |")


def _print_direction(seconds: float) -> None:
    print("\n| picture, over 50 seeds | valence | arousal | mean mode (0 Lydian, 5 Phrygian) | mean tempo |")
    print("| --- | --- | --- | --- | --- |")
    for name, color in (("bright yellow", (250, 215, 40)), ("dark blue", (15, 20, 60)), ("dark grey", (45, 45, 45))):
        plans = [plan_of(flat(color, 4), seconds, seed) for seed in range(50)]
        mode = np.mean([list(MODES).index(plan.mode) for plan in plans])
        tempo = np.mean([plan.tempo_bpm * (1 if plan.metre != "6/8" else 1.5) for plan in plans])
        print(f"| {name} | {plans[0].valence:.2f} | {plans[0].arousal:.2f} | {mode:.1f} | {tempo:.0f} |")


def _bars_of(plan: MusicPlan, seconds: float) -> int:
    return int(seconds * plan.tempo_bpm / 60 / BEATS_PER_BAR[plan.metre])


def _counts(values: Sequence[str], order: Sequence[str] | dict[str, tuple[int, ...]] | None = None) -> str:
    counts = collections.Counter(values)
    names = list(order) if order else [name for name, _ in counts.most_common()]
    return ", ".join(f"{name} {counts[name]}" for name in names)


if __name__ == "__main__":
    main()
