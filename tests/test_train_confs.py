"""The training configs of the repository: valid, and each opens with what it costs."""

import re
from pathlib import Path

import pytest

from repaint.config import Document
from repaint.train.enhancer_settings import TrainEnhancer
from repaint.train.finder_settings import TrainFinder
from repaint.train.mender_settings import TrainMender
from repaint.train.prior_settings import TrainPrior
from repaint.train.scratches_settings import TrainScratches

CONFS = sorted(Path(__file__).parents[1].joinpath("confs", "train").glob("*.yml"))
KINDS = {
    "upscale": TrainEnhancer,
    "face": TrainEnhancer,
    "prior": TrainPrior,
    "scratches": TrainScratches,
    "finder": TrainFinder,
    "mender": TrainMender,
}
"""What the first word of a config's name says it trains."""


@pytest.mark.parametrize("file", CONFS, ids=lambda f: f.stem)
def test_config_is_valid_and_says_what_it_costs(file):
    assert Document.read(file).check(KINDS[file.stem.partition("_")[0]]).steps > 0
    opening = file.read_text().partition("\noutput:")[0]
    assert opening.startswith("# ")
    assert re.search(r"minute|hour|step", opening), opening
