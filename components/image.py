"""The images that components run in, unless the pipeline that uses them names others.

Components that need torch or Evidently run in the trainer's image, all others in the platform's.

KFP's cache key holds the image's name and the component's source, and the source of a thin
component does not change when the library does. So the name must change with the code: a tag that
is never moved, or a digest. `pipelines.compile` sets it and refuses anything else.
"""

from __future__ import annotations

import os

IMAGE = os.environ.get("ZEROSKEW_IMAGE") or "zeroskew-platform:local-python"
TRAINER_IMAGE = os.environ.get("ZEROSKEW_TRAINER_IMAGE") or "zeroskew-trainer:local-python"
