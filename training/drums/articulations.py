"""The ways a drum kit is struck, and which of the network's labels each one is."""

from __future__ import annotations

from types import MappingProxyType

# as MDB Drums files them, what is struck on a snare without its snare sound (side stick) is percussion
LABEL_OF = MappingProxyType(
    {
        "kick": "kick",
        "snare": "snare",
        "snare_rim": "snare",
        "snare_brush": "snare",
        "side_stick": "percussion",
        "hihat_closed": "hihat",
        "hihat_half": "hihat",
        "hihat_open": "hihat",
        "hihat_pedal": "hihat",
        "ride": "cymbal",
        "ride_bell": "cymbal",
        "crash": "cymbal",
        "splash": "cymbal",
        "china": "cymbal",
        "tom_high": "tom",
        "tom_mid": "tom",
        "tom_low": "tom",
        "clap": "percussion",
        "tambourine": "percussion",
        "cowbell": "percussion",
        "shaker": "percussion",
        "woodblock": "percussion",
        "conga": "percussion",
        "other": "percussion",
    }
)
ARTICULATIONS = tuple(LABEL_OF)
HIHATS = tuple(name for name, label in LABEL_OF.items() if label == "hihat")
TOMS = tuple(name for name, label in LABEL_OF.items() if label == "tom")
CYMBALS = tuple(name for name, label in LABEL_OF.items() if label == "cymbal")
PERCUSSION = tuple(name for name, label in LABEL_OF.items() if label == "percussion")
