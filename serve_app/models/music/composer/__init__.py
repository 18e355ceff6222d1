"""The embedded composer: notes from a plan, and their sound, without any model weights."""
