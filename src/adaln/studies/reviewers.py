"""What the paper's reviewers asked, one study each."""

from adaln.studies.catch_up import CATCH_UP
from adaln.studies.equal_std import EQUAL_STD
from adaln.studies.factorial import FACTORIAL
from adaln.studies.lr_std import LR_STD
from adaln.studies.other_backbones import OTHER_BACKBONES
from adaln.studies.permuted import PERMUTED
from adaln.studies.std_sweep import STD_SWEEP
from adaln.studies.width_transfer import WIDTH_TRANSFER

_STUDIES = (EQUAL_STD, FACTORIAL, STD_SWEEP, PERMUTED, WIDTH_TRANSFER, CATCH_UP, LR_STD, OTHER_BACKBONES)
REVIEWERS = {study.name: study for study in _STUDIES}
