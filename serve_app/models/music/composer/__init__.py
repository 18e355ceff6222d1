"""The embedded composer: notes from a plan, and their sound, without any model weights."""

from serve_app.models.music.composer.render import render_plan

__all__ = ["render_plan"]
