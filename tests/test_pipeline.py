"""Stages one after the other: each sees what the one before made, and what is told of them adds up."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from pydantic import ValidationError

from repaint import Photo
from repaint.jobs import RunConfig
from repaint.stages.pipeline import Pipeline, Step
from repaint.stages.progress import Progress


@dataclass
class Adding:
    """A stage that adds to every photo, in so many calls."""

    amount: float
    calls: int
    remarks: tuple[str, ...] = ()
    weights: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __call__(self, photos, seeds):
        made = [replace(photo, rgb=photo.rgb + self.amount) for photo in photos]
        for done in range(1, self.calls + 1):
            each = tuple(done for _ in photos)
            yield Progress(done, self.calls, each, lambda: made, self.notes)


PHOTOS = [Photo(torch.zeros(3, 2, 2)), Photo(torch.ones(3, 4, 3))]


def test_each_stage_sees_what_the_one_before_made():
    *_, last = Pipeline({"a": Adding(0.25, 2), "b": Adding(0.5, 1)})(PHOTOS, [0, 1])
    assert list(last.results) == ["a", "b"]
    assert [photo.rgb.unique().item() for photo in last.results["a"]] == [0.25, 1.25]
    assert [photo.rgb.unique().item() for photo in last.photos] == [0.75, 1.75]


def test_shares_rise_to_one_and_calls_add_up():
    steps = list(Pipeline({"a": Adding(0, 2), "b": Adding(0, 3)})(PHOTOS, [0, 1]))
    assert [step.share for step in steps] == sorted(step.share for step in steps)
    assert (steps[0].share, steps[-1].share) == (0.25, 1.0)
    assert (steps[0].calls, steps[-1].calls) == ((1, 1), (5, 5))
    assert [step.stage for step in steps] == ["a", "a", "a", "b", "b", "b", "b"]


def test_before_the_first_stage_is_through_the_photos_are_those_given():
    assert Step("inpaint", 0.1, (0,), PHOTOS).photos == PHOTOS


def test_remarks_weights_and_notes_are_those_of_all_stages():
    a = Adding(0, 1, ("slow",), {"x": "1"}, ("noted",))
    pipeline = Pipeline({"a": a, "b": Adding(0, 1, ("slow", "old"), {"y": "2"})})
    assert pipeline.remarks == ("slow", "old")
    assert pipeline.weights == {"x": "1", "y": "2"}
    *_, last = pipeline(PHOTOS, [0, 1])
    assert last.notes == ("noted",)


def test_a_stage_that_answers_nothing_is_a_failure():
    with pytest.raises(RuntimeError, match="the a stage answered nothing"):
        list(Pipeline({"a": Adding(0, 0)})(PHOTOS, [0, 1]))


@pytest.mark.parametrize("stages", [["color"], [{"color": None}], [{"color": {}}], [{"color": {"strength": 0.8}}]])
def test_a_stage_is_said_by_its_name_alone_or_with_settings(stages):
    config = RunConfig.model_validate({"images": "a", "output": "b", "stages": stages})
    assert config.stages[0].name == "color"
    assert config.model_dump(mode="json")["stages"] == [
        {"color": {"strength": 0.8, "local_contrast": 0.0, "tone": "auto"}}
    ]


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"color": {}, "faces": {}}], "found color, faces; a stage is one of scratches, inpaint, faces, upscale, col"),
        ([{}], "found none; a stage is one of scratches"),
        (["color", "color"], "found color more than once"),
        (["inpaint"], "needs masks; say masks: FOLDER or FILE, or put the scratches stage before it"),
        (["inpaint", "scratches"], "needs masks"),
        ([{"inpaint": {"sampler": "best"}}], "found 'best'; a preset is one of fast, balanced, quality, paper"),
    ],
)
def test_stages_that_make_no_run_are_refused(stages, said):
    with pytest.raises(ValidationError, match=said):
        RunConfig.model_validate({"images": "a", "output": "b", "stages": stages})


def test_damage_that_is_found_needs_no_masks():
    config = RunConfig.model_validate({"images": "a", "output": "b", "stages": ["scratches", "inpaint"]})
    assert [stage.name for stage in config.stages] == ["scratches", "inpaint"]
