"""Environments as the images have them, once for the session."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
