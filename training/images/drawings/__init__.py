"""Drawings of drinking vessels in made-up surroundings, with their classes: what the embedded demo weights learn from.

    rng ── vessels, drinks ── painting ── backgrounds, clutter ── camera ── JPEG

They stand in for photographs where there are none, and teach a network to know drawings.
"""
