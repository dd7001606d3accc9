"""Where golden numbers lie: folders named by ADALN_GOLDENS (joined by os.pathsep), else the committed ones.

Each folder has the layout `models/`, `diffusion/`, `metrics/`; further files of the same format run without a change.
"""

import os
from pathlib import Path

COMMITTED = Path(__file__).parent / "goldens"


def golden_folders(room: str) -> list[Path]:
    """The existing `room` folders; a test parametrised over none would silently test nothing, so that is an error."""
    roots = [Path(p) for p in os.environ.get("ADALN_GOLDENS", str(COMMITTED)).split(os.pathsep) if p]
    folders = [root / room for root in roots if (root / room).is_dir()]
    if not folders:
        raise FileNotFoundError(f"no folder '{room}' in ADALN_GOLDENS={os.pathsep.join(map(str, roots))}")
    return folders


def golden_files(room: str, pattern: str) -> list[Path]:
    """All files of `room` that match the glob `pattern`, sorted by name."""
    return sorted(file for folder in golden_folders(room) for file in folder.glob(pattern))
