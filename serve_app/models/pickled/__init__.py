"""Files of torch.save, read without torch's unpickler: no code in them runs, and no byte outside of them is read.

torch 2.8 reads beyond a record whose storage claims more than it holds, and writes through SETITEM on a tensor, also
with `weights_only=True` (CVE-2026-24747). `read_checkpoint` is the one place of this project that reads such a
file. Where a library unpickles one by itself, `read_checkpoint` or `check_folder` has read it before.
"""

from serve_app.models.pickled.folder import check_folder
from serve_app.models.pickled.machine import PlainObject, Refused
from serve_app.models.pickled.reader import PLAIN_NUMBERS, read_checkpoint

__all__ = ["PLAIN_NUMBERS", "PlainObject", "Refused", "check_folder", "read_checkpoint"]
