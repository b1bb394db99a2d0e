"""Make a folder of packages importable by every Python of this prefix, Triton's stub included.

    python3 add_site.py /opt/zeroskew/site

Triton's Python backend runs models in a stub that embeds an isolated interpreter: it ignores
PYTHONPATH and reads the `.pth` files of the prefix, so the folder goes into one of those.
"""

import sys
import sysconfig
from pathlib import Path

if __name__ == "__main__":
    target = Path(sysconfig.get_path("purelib")) / "zeroskew.pth"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"{Path(sys.argv[1]).absolute()}\n", encoding="utf-8")
    print(target)
