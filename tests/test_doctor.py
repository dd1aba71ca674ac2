"""`repaint doctor`: what it says of packages and of stages."""

from importlib.metadata import PackageNotFoundError

from repaint import doctor
from repaint.jobs.settings import Stage


def words(topic):
    return {found.name: found.words for found in doctor.findings(device="cpu") if found.topic == topic}


def test_stages_are_those_of_restore_and_what_it_leaves_out():
    stages = words("stages")
    assert list(stages) == list(Stage.model_fields)
    for name in ("base-128 (sha256 ", "mender (sha256 "):
        assert name in stages["inpaint"]
    assert "upscale-x2 (sha256 " in stages["upscale"]


def test_packages_that_are_missing_are_named_with_what_installs_them(monkeypatch):
    def version(name):
        if name in ("realesrgan", "timm", "spandrel"):
            raise PackageNotFoundError
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "_stage", lambda name, *_: doctor.Finding("stages", name, ""))
    said = words("versions")
    assert said["torch"] == "1.0"
    assert said["spandrel"] == "is missing: pip install spandrel"
    assert said["timm"] == "not installed; optional: pip install '.[train]'"
    assert said["realesrgan"].endswith(
        "pip install --no-build-isolation 'basicsr>=1.4.2' && pip install '.[realesrgan]'"
    )
