"""Classification of stretches of speech by real networks, tiny ones, of which one was taught high from low."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, BertConfig, BertModel

from serve_app.errors import GpuMemoryError, ModelLoadingError, ProcessingError
from serve_app.models.speech.emotion import MAX_REGION_S, MIN_REGION_S, SpeechEmotionRecognizer
from serve_app.results import SpeechRegion
from tests.unit.models.speech.tone_models import (
    SAMPLE_RATE_HZ,
    sing,
    write_align_model,
    write_emotion_model,
    write_trained_emotion_model,
)

LABELS = ("calm", "angry", "sad")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Networks this small are slower with more, very much so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_emotion_model(tmp_path_factory.mktemp("emotion") / "moods", LABELS)


@pytest.fixture(scope="module")
def recognizer(folder):
    return open_model(folder)


def open_model(folder, **options):
    return SpeechEmotionRecognizer(str(folder), device="cpu", cache_dir=folder.parent / "cache", **options)


def noise(duration_s, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, round(duration_s * SAMPLE_RATE_HZ)).astype(np.float32)


def seen_batches(recognizer, monkeypatch):
    """Return a list that each call of the network adds the shape of its input to."""
    shapes: list[tuple[int, ...]] = []
    forward = recognizer._network.forward

    def watched(**inputs):
        shapes.append(tuple(inputs["input_values"].shape))
        return forward(**inputs)

    monkeypatch.setattr(recognizer._network, "forward", watched)
    return shapes


def test_high_and_low_tones_are_told_apart_each_in_its_own_region(tmp_path):
    recognizer = open_model(write_trained_emotion_model(tmp_path / "pitch"))
    rng = np.random.default_rng(7)
    parts, regions, truth = [], [], []
    position_s = 0.0
    for index in range(12):
        letters = "abcd" if index % 3 else "efgh"
        sung = sing(["".join(rng.choice(list(letters), rng.integers(4, 12)))], rng)
        parts.append(sung.samples)
        duration_s = len(sung.samples) / SAMPLE_RATE_HZ
        regions.append(SpeechRegion(position_s, position_s + duration_s))
        truth.append("low" if index % 3 else "high")
        position_s += duration_s
    order = rng.permutation(len(regions))
    found = recognizer.recognize(np.concatenate(parts), [regions[index] for index in order])
    assert [answer.label for answer in found] == [truth[index] for index in order]
    assert min(answer.scores[answer.label] for answer in found) > 0.8


def test_scores_are_probabilities_by_the_names_of_the_configuration(recognizer):
    [found] = recognizer.recognize(noise(1.0), [SpeechRegion(0.0, 1.0)])
    assert recognizer.labels == LABELS
    assert tuple(found.scores) == LABELS
    assert sum(found.scores.values()) == pytest.approx(1.0, abs=1e-5)
    assert found.label == max(found.scores, key=found.scores.__getitem__)
    assert recognizer.model_version == "transformers:moods:float32"


def test_several_labels_at_once_have_probabilities_of_their_own(tmp_path):
    recognizer = open_model(write_emotion_model(tmp_path / "moods", LABELS, problem_type="multi_label_classification"))
    single = open_model(write_emotion_model(tmp_path / "single", LABELS))  # the same weights
    region = [SpeechRegion(0.0, 1.0)]
    [found], [exclusive] = recognizer.recognize(noise(1.0), region), single.recognize(noise(1.0), region)
    assert found.label == exclusive.label
    odds = {label: score / (1 - score) for label, score in found.scores.items()}
    total = sum(odds.values())
    assert {label: value / total for label, value in odds.items()} == pytest.approx(exclusive.scores, abs=1e-4)


@pytest.mark.parametrize("normalisation", ["layer", "group"])
def test_an_answer_does_not_depend_on_its_batch(tmp_path, monkeypatch, normalisation):
    recognizer = open_model(write_emotion_model(tmp_path / "moods", LABELS, normalisation=normalisation))
    samples = np.concatenate([noise(3.0) * 0.1, noise(3.0, seed=1)])
    regions = [SpeechRegion(start_s, start_s + length_s) for start_s, length_s in ((0, 3), (2.5, 0.3), (3, 2), (1, 4))]
    shapes = seen_batches(recognizer, monkeypatch)
    together = recognizer.recognize(samples, regions)
    # group normalisation hears padding, so that such a network gets none
    assert shapes == ([(4, 64000)] if normalisation == "layer" else [(1, n) for n in (64000, 48000, 32000, 4800)])
    for region, answer in zip(regions, together, strict=True):
        [alone] = recognizer.recognize(samples, [region])
        assert alone.scores == pytest.approx(answer.scores, abs=1e-5)
    assert len({tuple(np.round(list(answer.scores.values()), 5)) for answer in together}) == len(regions)


def test_batches_are_of_similar_length_and_bounded(recognizer, monkeypatch):
    shapes = seen_batches(recognizer, monkeypatch)
    lengths_s = [1.0] * 9 + [29.0] * 3 + [0.5]
    recognizer.recognize(noise(30.0), [SpeechRegion(0.0, length_s) for length_s in lengths_s])
    assert [(rows, length / SAMPLE_RATE_HZ) for rows, length in shapes] == [(2, 29.0), (2, 29.0), (8, 1.0), (1, 0.5)]


def test_regions_too_short_or_outside_the_file_have_no_answer(recognizer):
    samples = noise(2.0)
    short = SpeechRegion(0.5, 0.5 + MIN_REGION_S - 0.01)
    outside, backwards, half_outside = SpeechRegion(5.0, 6.0), SpeechRegion(1.0, 0.5), SpeechRegion(1.9, 3.0)
    enough = SpeechRegion(1.5, 1.5 + MIN_REGION_S)
    found = recognizer.recognize(samples, [short, outside, enough, backwards, half_outside])
    assert [answer is None for answer in found] == [True, True, False, True, True]
    assert recognizer.recognize(samples, []) == []


def test_of_a_long_region_the_first_30_seconds_are_looked_at(recognizer, monkeypatch):
    samples = noise(40.0)
    shapes = seen_batches(recognizer, monkeypatch)
    [long] = recognizer.recognize(samples, [SpeechRegion(1.0, 40.0)])
    [first] = recognizer.recognize(samples, [SpeechRegion(1.0, 1.0 + MAX_REGION_S)])
    assert long == first
    assert shapes == [(1, 480_000)] * 2


def test_a_model_of_spectrograms_takes_regions_as_they_are(tmp_path):
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_length=128,
        num_mel_bins=32,
        id2label=dict(enumerate(LABELS)),
    )
    ASTForAudioClassification(config).save_pretrained(tmp_path / "ast")
    ASTFeatureExtractor(max_length=128, num_mel_bins=32).save_pretrained(tmp_path / "ast")
    found = open_model(tmp_path / "ast").recognize(noise(3.0), [SpeechRegion(0, 1), SpeechRegion(0, 3)])
    assert [set(answer.scores) for answer in found] == [set(LABELS)] * 2


def test_a_batch_that_does_not_fit_is_halved_until_it_does(recognizer, monkeypatch):
    forward, sizes = recognizer._network.forward, []

    def small(**inputs):
        sizes.append(len(inputs["input_values"]))
        if sizes[-1] > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(**inputs)

    regions = [SpeechRegion(index / 10, 1 + index / 10) for index in range(7)]
    expected = recognizer.recognize(noise(2.0), regions)
    monkeypatch.setattr(recognizer._network, "forward", small)
    found = recognizer.recognize(noise(2.0), regions)
    assert sizes == [7, 3, 1, 2, 4, 2, 2]
    for answer, before in zip(found, expected, strict=True):
        assert answer.scores == pytest.approx(before.scores, abs=1e-5)


def test_out_of_gpu_memory_with_one_region_is_told(recognizer, monkeypatch):
    def full(**inputs):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(recognizer._network, "forward", full)
    with pytest.raises(GpuMemoryError, match="recognizing emotion"):
        recognizer.recognize(noise(1.0), [SpeechRegion(0, 1), SpeechRegion(0, 0.5)])


def test_damaged_weights_are_told(folder):
    recognizer = open_model(folder)
    torch.nn.init.constant_(recognizer._network.classifier.weight, float("nan"))
    with pytest.raises(ProcessingError, match="damaged"):
        recognizer.recognize(noise(1.0), [SpeechRegion(0, 1)])


def test_the_caller_can_end_it_between_batches(recognizer):
    asked = iter([False, True])
    with pytest.raises(ProcessingError, match="stopped"):
        recognizer.recognize(noise(1.0), [SpeechRegion(0, 1)] * 20, should_stop=lambda: next(asked))


def test_a_checkpoint_without_its_head_is_refused(tmp_path):
    """transformers would fill it with random numbers."""
    folder = write_align_model(tmp_path / "letters")
    with pytest.raises(ModelLoadingError, match=r"lacks 4 of its weights, such as 'classifier\.bias'"):
        open_model(folder)


def test_a_model_of_something_else_is_refused(tmp_path):
    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    ).save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelLoadingError, match="BertConfig"):
        open_model(tmp_path / "bert")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"problem_type": "regression"}, "degrees, not classes"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "8000 Hz"),
        ("preprocessor_config.json", None, "preprocessor_config"),
        ("model.safetensors", None, "can't be loaded"),
    ],
)
def test_what_does_not_fit_is_refused_when_loading(tmp_path, file, change, message):
    folder = write_emotion_model(tmp_path / "moods", LABELS)
    path = folder / file
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelLoadingError, match=message):
        open_model(folder)


def test_a_device_that_is_not_there_is_refused(folder):
    with pytest.raises(ModelLoadingError, match="no device"):
        SpeechEmotionRecognizer(str(folder), device="abacus", cache_dir=folder.parent)
    if not torch.cuda.is_available():
        with pytest.raises(ModelLoadingError, match="torch finds 0 GPUs here"):
            SpeechEmotionRecognizer(str(folder), device="cuda", cache_dir=folder.parent)
