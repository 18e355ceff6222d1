"""Build data, train, tune, measure and export: `python -m training.speaker_embedding --help`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from serve_app.models.diarization import networks
from serve_app.models.diarization.embedding import WEIGHTS_PATH, save_embedding
from serve_app.models.diarization.local_pipeline import LocalPipeline
from training.speaker_embedding import conversations, data, evaluation, train, tuning, verification
from training.speaker_embedding.speakers import Split, split_speakers

_ROOT = Path(__file__).parents[2]
_STAGES = ("data", "train", "export", "tune", "report")


def main() -> None:
    """Run the stages asked for, in order."""
    parser = argparse.ArgumentParser(prog="python -m training.speaker_embedding", description=__doc__)
    parser.add_argument("stages", nargs="*", default=_STAGES, help=f"any of {', '.join(_STAGES)}; all by default")
    parser.add_argument("--speakers", type=Path, default=_ROOT / "../shared/data/speakers", help="folder of recordings")
    parser.add_argument("--meetings", type=Path, default=_ROOT / "../shared/data/diarization", help="AMI excerpts")
    parser.add_argument("--work", type=Path, default=Path("/tmp/speaker_embedding"), help="features and checkpoints")
    parser.add_argument("--output", type=Path, default=WEIGHTS_PATH, help="where the weights go")
    parser.add_argument("--steps", type=int, default=train.Recipe.steps, help="training steps")
    parser.add_argument("--segmentation", default=networks.SEGMENTATION, help="of tune and report: spec or path")
    parser.add_argument("--embeddings", nargs="+", default=networks.EMBEDDINGS, help="of tune and report: one or two")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".local/state/serve_app/models")
    parser.add_argument("--threads", type=int, default=1, help="threads for torch, processes for data")
    parser.add_argument("--conversations", type=int, default=4, help="for each place and number of speakers")
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - set(_STAGES):
        parser.error(f"unknown stages: {', '.join(sorted(unknown))}")
    torch.set_num_threads(arguments.threads)
    split = split_speakers(arguments.speakers)
    corpus_folder, run_folder = arguments.work / "corpus", arguments.work / "run"
    if "data" in arguments.stages:
        data.build(split.train, corpus_folder, processes=arguments.threads)
    if "train" in arguments.stages:
        prepared = verification.prepare(split.tune)
        train.train(
            data.open_corpus(corpus_folder),
            train.Recipe(steps=arguments.steps),
            run_folder,
            measure=lambda network: _rates(verification.own_embedding(network), prepared),
        )
    if "export" in arguments.stages:
        save_embedding(train.load_state(run_folder), arguments.output)
    if "tune" in arguments.stages:
        made = conversations.make_set(split.tune, arguments.conversations, seed=1)
        for one in tuning.tune(_pipeline(arguments), [evaluation.from_conversation(each) for each in made])[:10]:
            print(f"{one.error_percent:5.1f} % count right {100 * one.count_right:3.0f} % {one.rule}")
    if "report" in arguments.stages:
        _report(_pipeline(arguments), split, arguments.meetings, arguments.conversations)


def _pipeline(arguments: argparse.Namespace) -> LocalPipeline:
    chosen = networks.load_networks(arguments.segmentation, arguments.embeddings, cache_dir=arguments.cache)
    print(chosen.version)
    return LocalPipeline(chosen.segmentation, chosen.embedding, chosen.rule)


def _report(pipeline: LocalPipeline, split: Split, meetings: Path, per_cell: int) -> None:
    print("held-out speakers:", _rates(pipeline._embedding, verification.prepare(split.report)))
    made = conversations.make_set(split.report, per_cell, seed=1)
    sets = {
        "made conversations": [evaluation.from_conversation(one) for one in made],
        "pyannote's sample": [evaluation.sample_call()],
        "meetings": evaluation.meetings(meetings),
    }
    pipeline.training = True
    began_s, audio_s = time.process_time(), 0.0
    for recordings in sets.values():
        evaluation.score(pipeline, recordings, told=False)  # segmentation and embeddings stay in the recordings
        audio_s += sum(recording.scored.duration() for recording in recordings)
    cost = (time.process_time() - began_s) / audio_s
    print(f"CPU seconds for a second of audio: {cost:.3f} ({audio_s:.0f} s, {torch.get_num_threads()} threads)")
    for name, recordings in sets.items():
        for told in (True, False):
            scores = evaluation.score(pipeline, recordings, told)
            print(f"{name}, number of speakers {'told' if told else 'not told'}\n{evaluation.summarize(scores)}")


def _rates(network: verification.Embed, prepared: verification.VerificationSet) -> str:
    rates = verification.equal_error_rates(network, prepared)
    return "EER % " + ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items())


if __name__ == "__main__":
    main()
