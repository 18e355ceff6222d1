"""Who spoke when. Importing anything of this package imports torch, and settles how pyannote will be imported.

pyannote.audio 4 reports usage to its makers unless told otherwise before its import; and it imports far more than it
uses (see `lazy_imports`). Both must be settled before the first pyannote import of the process, hence here.
"""

import os
import warnings

from serve_app.models.diarization.lazy_imports import defer_unused_packages

os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
defer_unused_packages()
# torchcodec is only for reading files, which the decoder of `media` does; without ffmpeg it warns at length.
warnings.filterwarnings("ignore", message=r"\s*torchcodec is not installed correctly")
