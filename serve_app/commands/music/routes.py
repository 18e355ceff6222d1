"""`LocalRoute`, which makes pieces in this process, and `ServerRoute`, which uploads pictures."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from serve_app.client import Client, MusicFormat
from serve_app.commands.calls import RetryingCalls
from serve_app.commands.each_file import OnProgress
from serve_app.commands.whole_file import replace_file
from serve_app.errors import ImageTooLarge, ProcessingError
from serve_app.messages import Locale, MusicStage
from serve_app.models.music.plan_words import plan_sentence
from serve_app.results import MasteredMusic, MusicPlan, RenderedMusic
from serve_app.settings import Settings

_PLAN = TypeAdapter(MusicPlan)
_FACTS = (
    "caption",
    "plan",
    "engine_used",
    "engine_version",
    "license",
    "fallback_reason",
    "duration",
    "measurements",
    "notes",
)
_FORMATS: tuple[MusicFormat, ...] = ("mp3", "flac", "mid")


@dataclass(frozen=True, slots=True)
class Order:
    """The options of a run.

    Attributes:
        duration_s: of each piece.
        prompt: what the caller wants to hear.
        seed: None: made from each picture's file.
        locale: of what is printed.
        soundfont: for the composer of this process.
    """

    duration_s: float
    prompt: str
    seed: int | None
    locale: Locale
    soundfont: Path | None = None

    def seed_of(self, picture: Path) -> int:
        """Return the seed of a picture's piece; OSError."""
        if self.seed is not None:
            return self.seed
        with picture.open("rb") as file:
            return int(hashlib.file_digest(file, "sha256").hexdigest()[:8], 16)


@dataclass(frozen=True, slots=True)
class MadePiece:
    """A piece: its files, and its facts as in `results.MusicPiece`."""

    files: tuple[Path, ...]
    facts: dict[str, Any]

    def caption(self, locale: Locale) -> str:
        """Return the caption in one of its languages."""
        return str(self.facts["caption"][f"caption_{locale}"])

    def summary(self, locale: Locale) -> str:
        """Return plan, seed, length and engine, and what was given up or left out, in a line."""
        plan = _PLAN.validate_python(self.facts["plan"])
        caption = self.facts["caption"]
        remarks = [caption["fallback_reason"], self.facts["fallback_reason"]]
        remarks += [note for note in self.facts["notes"] if note not in caption["notes"]]
        return (
            f"{plan_sentence(plan, locale)}; seed {plan.seed}, {self.facts['duration']:.1f} s, by "
            f"{self.facts['engine_version']}"
        ) + "".join(f" ({remark})" for remark in remarks if remark)


@dataclass(frozen=True, slots=True)
class _Composed:
    """A piece that passed its checks, and why the seed before it was given up."""

    plan: MusicPlan
    rendered: RenderedMusic
    mastered: MasteredMusic
    reason: str | None


class LocalRoute:
    """Runs captioner and composer in this process; imports no torch."""

    def __init__(self, order: Order, settings: Settings) -> None:
        self._order = order
        self._settings = settings

    def make(self, picture: Path, out: Path, on_progress: OnProgress) -> MadePiece:
        """Make a picture's piece.

        Args:
            picture: the file.
            out: folder of the piece's files, which are named after the picture.
            on_progress: gets the share that is done.

        Raises:
            OSError: a file can't be read or written.
            ImageUnreadable, ImageTooLarge: it is no picture, or too large.
            ProcessingError: no piece passed the checks.
        """
        from serve_app.models.captions.embedded import describe_picture
        from serve_app.models.captions.picture import prepare_picture
        from serve_app.models.music.encoding import encode
        from serve_app.models.music.plan import make_plan

        prepared = prepare_picture(self._read(picture), max_pixels=self._settings.max_image_pixels)
        caption = describe_picture(prepared.jpeg, prepared.features)
        plan = make_plan(
            caption,
            prepared.features,
            prepared.sha256,
            duration_s=self._order.duration_s,
            seed=self._order.seed_of(picture),
            prompt=self._order.prompt,
        )
        made = self._compose(plan, on_progress)
        on_progress(MusicStage.ENCODING / 100)
        encoded = encode(made.mastered.audio)
        contents = {"mp3": encoded.mp3, "flac": encoded.flac, "mid": made.rendered.midi}
        files = {_file(out, picture, form): content for form, content in contents.items() if content is not None}
        for path, content in files.items():
            replace_file(path, content)
        facts = {
            "caption": asdict(caption),
            "plan": asdict(made.plan),
            "engine_used": made.rendered.engine,
            "engine_version": made.rendered.model_version,
            "license": made.rendered.license,
            "fallback_reason": made.reason,
            "duration": round(made.mastered.duration_s, 3),
            "measurements": made.mastered.measurements,
            "notes": [*prepared.notes, *caption.notes, *made.rendered.notes],
        }
        return MadePiece(tuple(files), facts)

    def _compose(self, plan: MusicPlan, on_progress: OnProgress) -> _Composed:
        """Return the first piece that passes its checks; ProcessingError."""
        from serve_app.models.music.attempts import Attempts
        from serve_app.models.music.composer.engine import render_piece
        from serve_app.models.music.finishing import finish
        from serve_app.models.music.options import EngineName

        def report(share: float) -> None:
            on_progress((MusicStage.COMPOSING + share * (MusicStage.MASTERING - MusicStage.COMPOSING)) / 100)

        soundfont = str(self._order.soundfont) if self._order.soundfont else None
        attempts = Attempts(plan, [EngineName.COMPOSER])
        for attempt in attempts:
            rendered = render_piece(attempt.plan, soundfont, report, lambda: False)
            on_progress(MusicStage.MASTERING / 100)
            mastered = finish(rendered.audio, attempt.plan)
            if not mastered.faults:
                return _Composed(attempt.plan, rendered, mastered, "; ".join(attempts.reasons) or None)
            attempts.rejected(attempt, mastered.faults)
        raise ProcessingError(f"No piece passed its checks; try another --seed: {'; '.join(attempts.reasons)}")

    def _read(self, picture: Path) -> bytes:
        if picture.stat().st_size > self._settings.max_image_bytes:
            raise ImageTooLarge(
                f"The file has more than {self._settings.max_image_bytes} bytes: send a smaller one, or raise "
                "SERVE_APP_MAX_IMAGE_BYTES"
            )
        return picture.read_bytes()


class ServerRoute:
    """Uploads pictures, follows the jobs and downloads their files."""

    def __init__(self, client: Client, order: Order) -> None:
        client.health()  # a wrong address fails at once, not after ten minutes of new tries
        self._client = client
        self._order = order
        self._calls = RetryingCalls()

    def make(self, picture: Path, out: Path, on_progress: OnProgress) -> MadePiece:
        """Make a picture's piece; arguments as of `LocalRoute.make`, errors as of `Client`, and the job's own."""
        order, client, call = self._order, self._client, self._calls.call
        job_id = str(uuid.uuid4())  # one for all tries: a submission whose answer was lost is not made twice
        seed = order.seed_of(picture)
        call(
            lambda: client.generate_music(
                picture,
                prompt=order.prompt,
                duration=order.duration_s,
                seed=seed,
                locale=order.locale,
                job_id=job_id,
            )
        )
        for event in client.events(job_id):
            on_progress(event.payload.get("progress", 0) / 100)
        piece = call(lambda: client.music(job_id))
        if piece["status"] != "completed":
            raise ProcessingError(piece.get("error_message") or f"The job {job_id} was {piece['status']}")
        files = {form: _file(out, picture, form) for form in _FORMATS if form in piece["urls"]["download"]}
        for form, path in files.items():
            call(lambda: client.download_music(job_id, form, path))  # noqa: B023 (called at once)
        return MadePiece(tuple(files.values()), {name: piece[name] for name in _FACTS})


def _file(out: Path, picture: Path, form: str) -> Path:
    return out / f"{picture.stem}.{form}"
