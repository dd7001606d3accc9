"""What the paper's reviewers asked, one study each."""

from adaln.studies.reviewers.catch_up import CATCH_UP
from adaln.studies.reviewers.equal_std import EQUAL_STD
from adaln.studies.reviewers.factorial import FACTORIAL
from adaln.studies.reviewers.lr_std import LR_STD
from adaln.studies.reviewers.other_backbones import OTHER_BACKBONES
from adaln.studies.reviewers.permuted import PERMUTED
from adaln.studies.reviewers.std_sweep import STD_SWEEP
from adaln.studies.reviewers.width_transfer import WIDTH_TRANSFER

_STUDIES = (EQUAL_STD, FACTORIAL, STD_SWEEP, PERMUTED, WIDTH_TRANSFER, CATCH_UP, LR_STD, OTHER_BACKBONES)
REVIEWERS = {study.name: study for study in _STUDIES}
