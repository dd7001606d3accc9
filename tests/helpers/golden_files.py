"""Where golden numbers lie: folders named by ADALN_GOLDENS (joined by os.pathsep), else the committed ones.

Each folder has the layout `models/`, `diffusion/`, `metrics/`; further files of the same format run without a change.
"""

import os
from pathlib import Path

COMMITTED = Path(__file__).parents[1] / "goldens"


def golden_folders(room: str) -> list[Path]:
    """The existing `room` folders. None in the committed ones is an error, since tests over none would test nothing;
    folders that a user names may lack a room, whose tests are then skipped."""
    named = os.environ.get("ADALN_GOLDENS")
    roots = [Path(p) for p in named.split(os.pathsep) if p] if named else [COMMITTED]
    missing = [root for root in roots if not root.is_dir()]
    folders = [root / room for root in roots if (root / room).is_dir()]
    if missing or not (folders or named):
        raise FileNotFoundError(f"no folder {str(missing[0] if missing else COMMITTED / room)!r} of golden files")
    return folders


def golden_files(room: str, pattern: str) -> list[Path]:
    """All files of `room` that match the glob `pattern`, sorted by name."""
    return sorted(file for folder in golden_folders(room) for file in folder.glob(pattern))
