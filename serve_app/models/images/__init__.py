"""Image classifiers: the class of a photograph, with probabilities.

    bytes ── preprocessing ── (224, 224, 3) uint8 ── engine ── probabilities
    spec ── weights file ── state_dict ── network ── conversion ── engine      (once for each file's content)

A serving process imports `preprocessing`, `engines` and `loading`, which import no torch. `state_dict`, `networks` and
`conversion` read other people's weights and build networks with torch, in a process of their own.
"""
