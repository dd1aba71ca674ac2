"""The settings of the scratches stage: what is refused, and that they cost nothing to look at."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from repaint.stages.scratches import Scratches


@pytest.mark.parametrize(
    "wrong",
    [
        {"sensitivity": 1.1},
        {"sensitivity": -0.1},
        {"grow_px": -1},
        {"min_area_px": 0},
        {"combine": "sum"},
        {"smallest_px": 8},
        {"thickest": 0},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        Scratches.model_validate(wrong)


def test_settings_need_no_torch():
    code = "import sys, repaint.stages.scratches as s; s.Scratches().threshold(0.5); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
