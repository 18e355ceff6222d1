"""What `serve-app transcribe` writes to standard output, and says of the files that it did not send."""

from __future__ import annotations

import json
import sys

from rich.console import Console

from serve_app.commands.terminal import echo
from serve_app.commands.transcribe.batch import Failure, Outcome, readable_name, result_of
from serve_app.commands.transcribe.search import Found
from serve_app.sentences import Sentence


def nothing_found(found: Found, pattern: str | None, recursive: bool) -> Sentence:
    """Return what to say where there is nothing to transcribe."""
    name = str(found.folder)
    if pattern:
        return Sentence("{name} holds no file that matches {pattern}", name=name, pattern=pattern)
    if recursive:
        return Sentence("{name} holds no recording", name=name)
    return Sentence("{name} holds no recording; --recursive searches its folders too", name=name)


def print_outcome(outcome: Outcome, *, as_text: bool) -> None:
    """Write an outcome to standard output, as one line of JSON; a single file's as its text."""
    end = outcome.end
    if not as_text:
        line = json.dumps(result_of(outcome), ensure_ascii=False)
    elif isinstance(end, Failure):
        return  # standard error has it
    elif end.segments is None:
        line = end.text
    else:
        line = "\n".join(f"{segment['speaker']}: {segment['text']}" for segment in end.segments)
    sys.stdout.buffer.write(f"{line}\n".encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def tell_passed_over(console: Console, found: Found) -> None:
    """List what was not sent, and why."""
    if found.passed_over:
        echo(console, f"Passed over, as they hold no sound that could be transcribed: {len(found.passed_over)}")
        for name, why in sorted(found.passed_over.items()):
            echo(console, f"  {readable_name(name)}: {why}")
    if found.num_hidden:
        echo(console, f"Hidden files and folders, left out: {found.num_hidden}")
    if found.num_unsearched:
        echo(console, f"Folders that were not searched: {found.num_unsearched}; --recursive searches them")
