"""Damages files of weights, and reads them with the real readers.

    python -m loadtests.fuzz_weights --cases 2000 --seed 1

Each case is one file, damaged in one way, and one reader, in a child process whose memory is limited. A reader answers
with a model or ModelLoadingError; another exception, a dead child, or a case that takes too long ends with status 1.
"""

from __future__ import annotations

import argparse
import collections
import io
import itertools
import json
import os
import pickletools
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.drums.checkpoint import checkpoint_path, load_checkpoint
from serve_app.models.images.weights_file import Unfit, read_weights, unfit_error
from serve_app.models.pickled import Refused, check_folder

EXTRA_BYTES = 1024**3  # of address space, above what a child has once it has read each file as it is
CASE_S = 60
_EXTREMES = (-1, 1, 2**31 - 1, -(2**31), 10**6, 4096)


def read_image_weights(path: Path) -> None:
    """Read weights of an image classifier, as `models.images.conversion` does."""
    try:
        read_weights(path.read_bytes())
    except Unfit as problem:
        raise unfit_error(path.name, problem, "classifier") from problem


def read_folder(path: Path) -> None:
    """Check a folder in Hugging Face form, as `models.pretrained` does."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        os.link(path, Path(folder, "pytorch_model.bin"))
        try:
            check_folder(Path(folder))
        except Refused as error:
            raise ModelLoadingError(str(error)) from error


def make_files(folder: Path, light: bool) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """Return whole files by name, each with its reader; `light`: without those whose import takes seconds."""
    torch.manual_seed(1)
    state = {f"layer{number}.weight": torch.rand(8, 8) for number in range(6)}
    made = {
        "archive": folder / "archive.pth",
        "legacy": folder / "legacy.pth",
        "whisper": folder / "whisper.pt",
        "folder": folder / "folder.bin",
    }
    torch.save({"epoch": 3, "state_dict": state, "classes": ["a", "b"]}, made["archive"])
    torch.save({"state_dict": state}, made["legacy"], _use_new_zipfile_serialization=False)
    torch.save({"dims": {"n_mels": 80, "n_audio_layer": 2}, "model_state_dict": state}, made["whisper"])
    torch.save(state, made["folder"])
    files: dict[str, tuple[Path, Callable[[Path], object]]] = {
        "archive": (made["archive"], read_image_weights),
        "legacy": (made["legacy"], read_image_weights),
        "folder": (made["folder"], read_folder),
        "drums": (checkpoint_path(), load_checkpoint),
    }
    if not light:
        from serve_app.models.diarization.campplus import load_campplus
        from serve_app.models.diarization.networks import find_checkpoint, load_segmentation
        from serve_app.models.speech.whisper.openai_reader import load_openai

        files["whisper"] = made["whisper"], load_openai
        files["cam++"] = made["folder"], load_campplus
        files["segmentation"] = find_checkpoint(), load_segmentation
    return files


def damaged(stored: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Return the kind of damage, and the damaged file."""
    kinds = [_flipped, _truncated, _moved]
    if stored.startswith(b"PK"):
        kinds += [_with_opcodes, _with_opcodes, _with_opcodes, _with_records, _with_sizes]
    kind = chance.choice(kinds)
    return kind.__name__.strip("_"), kind(stored, chance)


def _flipped(stored: bytes, chance: random.Random) -> bytes:
    content = bytearray(stored)
    near = chance.choice((len(content), min(len(content), 4000)))  # the pickle comes first
    for _ in range(chance.randint(1, 16)):
        content[chance.randrange(near)] ^= 1 << chance.randrange(8)
    return bytes(content)


def _truncated(stored: bytes, chance: random.Random) -> bytes:
    return stored[: chance.randrange(len(stored))]


def _moved(stored: bytes, chance: random.Random) -> bytes:
    first, second = sorted(chance.randrange(len(stored)) for _ in range(2))
    piece = stored[first : min(second, first + 64)]
    at = chance.randrange(min(len(stored), 8000))
    return stored[:at] + piece + stored[at + chance.choice((0, len(piece))) :]


def _with_opcodes(stored: bytes, chance: random.Random) -> bytes:
    """Replace, repeat, leave out or swap opcodes, or give them extreme numbers."""
    records = _records(stored)
    name = next(name for name in records if name.endswith("data.pkl"))
    steps = [position for _, _, position in pickletools.genops(records[name])] + [len(records[name])]
    parts = [records[name][start:end] for start, end in itertools.pairwise(steps)]
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(parts))
        match chance.randrange(5):
            case 0:
                parts[at] = chance.choice(parts)
            case 1:
                parts.insert(at, chance.choice(parts))
            case 2:
                parts[at] = b""
            case 3:
                parts[at] = b"J" + struct.pack("<i", chance.choice(_EXTREMES))
            case _:
                parts[at] = chance.choice(pickletools.opcodes).code.encode("latin-1") + parts[at][1:]
    return _zipped({**records, name: b"".join(parts)})


def _with_records(stored: bytes, chance: random.Random) -> bytes:
    """Cut or lengthen a record, exchange two, or leave one out."""
    records = _records(stored)
    name, other = chance.choice(list(records)), chance.choice(list(records))
    match chance.randrange(4):
        case 0:
            records[name] = records[name][: len(records[name]) // 2]
        case 1:
            records[name] += bytes(chance.randint(1, 64))
        case 2:
            records[name], records[other] = records[other], records[name]
        case _:
            del records[name]
    return _zipped(records, chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _with_sizes(stored: bytes, chance: random.Random) -> bytes:
    """Change numbers of the archive's directory."""
    content = bytearray(stored)
    start = stored.rfind(b"PK\x01\x02")
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(max(0, start - 200), len(content))
        content[at : at + 4] = struct.pack("<I", chance.choice((0, 1, 2**31, 2**32 - 1, 64, 1000)))[: len(content) - at]
    return bytes(content)


def _records(stored: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(stored)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return file.getvalue()


def peak_bytes() -> int:
    """Return the most memory that this process has had; `ru_maxrss` would be its parent's where that has more."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def run_cases(seed: int, first: int, cases: int, light: bool) -> None:
    """Run cases `first` to `cases`, in this process, and print a line for each."""
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(Path(folder), light)
        whole = {name: path.read_bytes() for name, (path, _) in files.items()}
        for path, reader in files.values():
            _answer(reader, path)  # imports and allocates what every case needs
        with Path("/proc/self/statm").open() as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_BYTES, used + EXTRA_BYTES))
        names = sorted(files)
        for number in range(first, cases):
            chance = random.Random(f"{seed}/{number}")
            name = names[number % len(names)]
            kind, content = damaged(whole[name], chance)
            path = Path(folder, "case")
            path.write_bytes(content)
            print(json.dumps({"begins": number}), flush=True)
            signal.alarm(CASE_S)
            started_s = time.monotonic()
            answer = _answer(files[name][1], path)
            signal.alarm(0)
            took_s = time.monotonic() - started_s
            peak = peak_bytes()
            row = {"case": number, "file": name, "kind": kind, "answer": answer, "s": took_s, "peak": peak}
            print(json.dumps(row), flush=True)


def _answer(reader: Callable[[Path], object], path: Path) -> str:
    try:
        reader(path)
    except ModelLoadingError:
        return "refused"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "read"


def fuzz(cases: int, seed: int, light: bool = False) -> list[dict[str, Any]]:
    """Return a row for each case; a child that dies is replaced, and its case has the answer "died"."""
    rows: list[dict[str, Any]] = []
    first = 0
    while first < cases:
        command = [sys.executable, "-W", "ignore", "-m", "loadtests.fuzz_weights", "--child", str(first)]
        command += ["--cases", str(cases), "--seed", str(seed), *(["--light"] if light else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        rows += [line for line in lines if "case" in line]
        begun = [line["begins"] for line in lines if "begins" in line]
        if done.returncode == 0:
            break
        if not begun:
            raise RuntimeError(f"the child ended before its first case:\n{done.stderr[-2000:]}")
        rows.append({"case": begun[-1], "answer": f"died ({done.returncode}): {done.stderr[-300:]}", "peak": 0, "s": 0})
        first = begun[-1] + 1
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--light", action="store_true", help="leave out readers whose import takes seconds")
    parser.add_argument("--child", type=int, help="run the cases from this one on in this process")
    arguments = parser.parse_args()
    if arguments.child is not None:
        run_cases(arguments.seed, arguments.child, arguments.cases, arguments.light)
        return 0
    rows = fuzz(arguments.cases, arguments.seed, arguments.light)
    wrong = [row for row in rows if row["answer"] not in ("read", "refused")]
    print(f"{len(rows)} cases, seed {arguments.seed}")
    for (name, answer), count in sorted(collections.Counter((row.get("file"), row["answer"]) for row in rows).items()):
        print(f"  {name}: {answer} {count}")
    print(
        f"  longest {max(row['s'] for row in rows):.2f} s, largest memory {max(row['peak'] for row in rows) >> 20} MiB"
    )
    for row in wrong:
        print(f"WRONG {row}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
