"""Who spoke when. Importing anything of this package imports torch and pyannote, in the one order that is right.

pyannote.audio 4 reports usage to its makers unless told otherwise before its import; and it imports far more than it
uses (see `lazy_imports`). Both are settled here, before any module of this package is run.
"""

import os
import warnings

from serve_app.models.diarization.lazy_imports import unused_packages_deferred

os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
# torchcodec is only for reading files, which `media` does; without ffmpeg it warns at length.
warnings.filterwarnings("ignore", message=r"\s*torchcodec is not installed correctly")

with unused_packages_deferred():
    import pyannote.audio.models.segmentation.PyanNet
    import pyannote.audio.pipelines.speaker_diarization  # noqa: F401
