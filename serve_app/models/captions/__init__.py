"""Captions of pictures: what one shows, and how it feels.

    bytes ── picture ── JPEG, features ─┬─ embedded: a description of what was measured
                                        ├─ chat: any OpenAI-compatible endpoint ──┐
                                        └─ local: a model through transformers ───┴─ reply ── caption

`picture`, `mood`, `embedded`, `reply` and `chat` import no torch.
"""
