"""Photographs put into classes: which class, and how sure.

    bytes ── preprocessing ── (224, 224, 3) uint8 ── engine ── probabilities
    spec ── weights file ── state_dict ── network ── conversion ── engine      (once for each content)

What a serving process needs (`preprocessing`, `engines`, `loading`) imports no torch; what reads other people's weights
and builds networks (`state_dict`, `networks`, `conversion`) does, in a process of its own.
"""
