"""From a Label Studio export to a folder for each class: `python -m training.images.labelstudio --help`.

Both of its JSON forms are read: "JSON" (`annotations[].result[].value.choices`) and "JSON-MIN" (one row an annotation).
Each annotation that was not skipped is a vote, of all rows about a picture together; those marked as ground truth
outvote all others. Where no class has the most votes, the picture is left out. Predictions are not looked at. Nothing
is fetched: pictures are looked for in the given folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve_app.models.images.tasks import TASKS
from training.images.folders import SUFFIXES, plain
from training.images.references import Library, Unresolved

# of JSON-MIN's rows: what is neither the picture nor its label
_ABOUT = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}
_SHOWN = 20


class ExportUnfit(ValueError):
    """Raised when an export can't be used at all; says why."""


@dataclass(slots=True)
class Votes:
    """What annotators said of one picture: labels by class, and what did not count."""

    counts: Counter[str] = field(default_factory=Counter)
    certain: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def verdict(self) -> tuple[str | None, str]:
        """Return the class, or None and why there is none."""
        counted = self.certain or self.counts
        if not counted:
            return None, self.problems[0] if self.problems else "not annotated (predictions are not used)"
        ranked = counted.most_common()
        said = ", ".join(f"{name} {num}" for name, num in sorted(counted.items()))
        if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
            return None, f"annotators disagree: {said}"
        return ranked[0][0], f"majority of {said}" if len(ranked) > 1 else ""


@dataclass(frozen=True, slots=True)
class Sorted:
    """Pictures by class, what was left out, and what was settled by majority.

    Attributes:
        files: class of each file.
        left_out: reference as it stands in the export, and why.
        settled: file that annotators disagreed about, and how.
    """

    files: dict[Path, str]
    left_out: dict[str, str]
    settled: dict[Path, str]


def main(argv: list[str] | None = None) -> None:
    """Sort the pictures of an export, and say what became of each."""
    parser = argparse.ArgumentParser(prog="python -m training.images.labelstudio", description=__doc__)
    parser.add_argument("export", type=Path, help="JSON or JSON-MIN")
    parser.add_argument("--task", choices=sorted(TASKS), help="whose classes")
    parser.add_argument("--classes", help="a,b,c: classes of a task of one's own")
    parser.add_argument("--images", type=Path, required=True, help="folder where the pictures are, at any depth")
    parser.add_argument("--out", type=Path, required=True, help="folder for CLASS/NAME; must be empty or new")
    parser.add_argument("--map", action="append", default=[], metavar="LABEL=CLASS", help="what else a class is called")
    parser.add_argument("--from-name", help="of the choices to read, where the labelling has several")
    parser.add_argument("--copy", action="store_true", help="copy files; default: hard links where possible")
    arguments = parser.parse_args(argv)
    if (arguments.task is None) == (arguments.classes is None):
        parser.error("give either --task or --classes")
    classes = TASKS[arguments.task].classes if arguments.task else tuple(arguments.classes.split(","))
    try:
        names = class_names(classes, arguments.map)
        if arguments.out.exists() and any(arguments.out.iterdir()):
            raise ExportUnfit(f"{arguments.out} is not empty: nothing in it is overwritten, give a new folder")
        if not arguments.images.is_dir():
            raise ExportUnfit(f"{arguments.images} is no folder")
        found = sort(read(arguments.export), names, Library(arguments.images), from_name=arguments.from_name)
        if not found.files:
            raise ExportUnfit(f"No picture can be used\n{summary(found, classes)}")
        place(found, arguments.images, arguments.out, copy=arguments.copy)
    except ExportUnfit as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    (arguments.out / "left_out.json").write_text(json.dumps(found.left_out, indent=1, ensure_ascii=False) + "\n")
    print(summary(found, classes))
    print(f"in {arguments.out}; all that was left out, and why: {arguments.out / 'left_out.json'}")


def class_names(classes: Sequence[str], maps: Sequence[str]) -> dict[str, str]:
    """Return the class that each label means, by the label's plain name.

    Raises:
        ExportUnfit: a map is not of the form LABEL=CLASS, or names no class.
    """
    names = {plain(name): name for name in classes}
    for each in maps:
        label, equals, name = each.rpartition("=")
        if not equals or plain(name) not in {plain(known) for known in classes}:
            raise ExportUnfit(f"--map {each!r} must be LABEL=CLASS with one of {', '.join(classes)}")
        names[plain(label)] = next(known for known in classes if plain(known) == plain(name))
    return names


def read(export: Path) -> list[dict[str, Any]]:
    """Return an export's rows.

    Raises:
        ExportUnfit: it is no JSON list of objects.
    """
    try:
        rows = json.loads(export.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ExportUnfit(f"{export} can't be read as JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ExportUnfit(f"{export} must be a list of tasks: export as JSON or JSON-MIN")
    return rows


def sort(
    rows: Sequence[dict[str, Any]], names: Mapping[str, str], library: Library, *, from_name: str | None = None
) -> Sorted:
    """Return the class of each picture that has one.

    Args:
        rows: of `read`.
        names: of `class_names`.
        library: of the pictures.
        from_name: of the choices to read; None: all.
    """
    votes: dict[Path, Votes] = defaultdict(Votes)
    references: dict[Path, str] = {}
    left_out: dict[str, str] = {}
    for number, row in enumerate(rows):
        reference = _reference(row)
        if reference is None:
            left_out[f"row {number} (id {row.get('id', '?')})"] = "names no picture"
            continue
        try:
            path = library.find(reference)
        except Unresolved as error:
            left_out[reference] = str(error)
            continue
        references.setdefault(path, reference)
        _count(row, reference, names, from_name, votes[path])
    files: dict[Path, str] = {}
    settled: dict[Path, str] = {}
    for path, each in votes.items():
        verdict, why = each.verdict()
        if verdict is None:
            left_out[references[path]] = why
            continue
        files[path] = verdict
        if why:
            settled[path] = why
    return Sorted(files, left_out, settled)


def place(found: Sorted, images: Path, out: Path, *, copy: bool = False) -> None:
    """Put the pictures into a folder for each class; where a name is taken, folders' names are put before it."""
    taken: set[tuple[str, str]] = set()
    for path, name in sorted(found.files.items()):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        target = path.name
        if (name, target.casefold()) in taken:
            target = "__".join(path.relative_to(images.resolve()).parts)
        stem, suffix = os.path.splitext(target)
        number = 2
        while (name, target.casefold()) in taken:
            target, number = f"{stem}-{number}{suffix}", number + 1
        taken.add((name, target.casefold()))
        if not copy:
            try:
                os.link(path, folder / target)
                continue
            except OSError:  # another file system, or one without links
                pass
        shutil.copy2(path, folder / target)


def summary(found: Sorted, classes: Sequence[str]) -> str:
    """Return counts of classes, of what was settled, and of what was left out by reason, with names."""
    counts = Counter(found.files.values())
    lines = [f"{name}: {counts[name]}" for name in classes]
    if found.settled:
        lines.append(f"settled by majority: {len(found.settled)}")
        lines += _some([f"{path.name}: {found.files[path]}, {why}" for path, why in sorted(found.settled.items())])
    reasons: dict[str, list[str]] = defaultdict(list)
    for reference, why in found.left_out.items():
        reasons[why.partition(":")[0]].append(f"{reference}: {why}" if ":" in why else reference)
    lines.append(f"left out: {len(found.left_out)}")
    for reason, left in sorted(reasons.items()):
        lines += [f"- {reason}: {len(left)}", *_some(left)]
    return "\n".join(lines)


def _some(lines: Sequence[str]) -> list[str]:
    more = [f"    and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [f"    {line}" for line in lines[:_SHOWN]] + more


def _reference(row: Mapping[str, Any]) -> str | None:
    data = row["data"] if isinstance(row.get("data"), dict) else row
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    for key, value in texts.items():
        if key.lower() in {"image", "img", "picture", "photo"}:
            return value
    return next((value for value in texts.values() if _looks_like_a_picture(value)), None)


def _looks_like_a_picture(value: str) -> bool:
    return Path(value.split("?")[0]).suffix.lower() in SUFFIXES or value.startswith(("/data/", "data:image"))


def _count(
    row: Mapping[str, Any], reference: str, names: Mapping[str, str], from_name: str | None, votes: Votes
) -> None:
    if not isinstance(row.get("data"), dict):  # JSON-MIN
        keys = [from_name] if from_name else [key for key in row if key not in _ABOUT and row[key] != reference]
        _vote([label for key in keys for label in _labels(row.get(key))], names, votes, certain=False)
        return
    for annotation in row.get("annotations") or row.get("completions") or []:
        if annotation.get("was_cancelled") or annotation.get("skipped"):
            votes.problems.append("skipped by the annotator")
            continue
        results = [
            each
            for each in annotation.get("result") or []
            if isinstance(each.get("value"), dict) and (from_name is None or each.get("from_name") == from_name)
        ]
        labels = [label for each in results for label in _labels(each["value"].get("choices"))]
        _vote(labels, names, votes, certain=bool(annotation.get("ground_truth")))


def _labels(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = value.get("choices")
    if isinstance(value, str):
        return [value]
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _vote(labels: Sequence[str], names: Mapping[str, str], votes: Votes, *, certain: bool) -> None:
    meant = {names[plain(label)] for label in labels if plain(label) in names}
    if len(meant) == 1:
        name = meant.pop()
        votes.counts[name] += 1
        if certain:
            votes.certain[name] += 1
    elif meant:
        votes.problems.append(f"several classes in one annotation: {', '.join(sorted(meant))}")
    elif labels:
        votes.problems.append(f"unknown label (see --map): {', '.join(sorted(set(labels)))}")
    else:
        votes.problems.append("annotated without a label")


if __name__ == "__main__":
    main()
