"""Speaker diarization. Importing any module of this package imports torch and pyannote, with what must come first.

pyannote.audio 4 reports usage to its makers unless a variable forbids it before the import, and it imports far more
than it uses (`lazy_imports`).
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
