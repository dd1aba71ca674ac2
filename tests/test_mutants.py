"""The table of deliberate mistakes keeps up with the code; `python tests/mutants.py` makes them."""

import pytest

from .mutants import MUTANTS, ROOT


@pytest.mark.parametrize(("file", "test", "what", "old", "new"), MUTANTS)
def test_every_mistake_can_still_be_made(file, test, what, old, new):
    assert (ROOT / "repaint" / file).read_text().count(old) == 1
    assert (ROOT / "tests" / test).is_file()
    assert new != old
