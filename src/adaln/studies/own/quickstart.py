"""Five schemes, in minutes on two cores: which initialisation, and what does it do to the network?"""

from functools import partial

from adaln.studies.comparison.schemes import compare_schemes
from adaln.studies.plan import Setting, Study

SCHEME_NAMES = ("adaln", "adaln-step1", "adaln-mix", "adaln-zero", "adaln-gaussian")
TITLE = "Five conditioning schemes"

QUICKSTART = Study(
    name="quickstart",
    title=TITLE,
    settings=tuple(Setting(name, name) for name in SCHEME_NAMES),
    reduce=partial(compare_schemes, TITLE),
)
