"""Configs: what is wrong is said in one line each, with file, line and key; what is right means one thing."""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from repaint import Inpaint
from repaint.config import Document, dumped, resolved
from repaint.errors import ConfigError
from repaint.jobs import RunConfig
from repaint.stages.scratches import Scratches

GOOD = """\
# a comment
images: photos
masks: marks
output: out
stages:
  - inpaint:
      prior: base-64
      sampler:
        repaint:
          t_T: 20
          jump_length: 5
"""


def checked(text: str, *overrides: str) -> RunConfig:
    return Document(text, "c.yml").override(overrides).check(RunConfig)


def said_of(text: str, *overrides: str) -> list[str]:
    """The lines of the error."""
    with pytest.raises(ConfigError) as caught:
        checked(text, *overrides)
    return str(caught.value).splitlines()


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_good_config_is_what_it_says_and_the_rest_is_default():
    config = checked(GOOD)
    assert (config.images, config.masks, config.output) == ("photos", "marks", "out")
    repaint = config.stages[0].inpaint.sampler.repaint
    assert (repaint.t_T, repaint.jump_length, repaint.jump_n_sample) == (20, 5, 10)
    assert (config.seed, config.pair, config.hole) == (0, "stem", "black")


REPAINT = "stages[0].inpaint.sampler.repaint"
ONE_LINE = {
    "unknown key": (GOOD + "sed: 1\n", "c.yml:12: sed: unknown key; did you mean 'seed'?"),
    "key of another place": (
        GOOD + "t_T: 1\n",
        "c.yml:12: t_T: unknown key; it belongs to stages.0.inpaint.sampler.repaint.t_T",
    ),
    "key of another place, in a list": (
        changed("  - inpaint", "  - scratches: {}\n  - inpaint") + "grow_px: 1\n",
        "c.yml:13: grow_px: unknown key; it belongs to stages.0.scratches.grow_px or stages.1.inpaint.grow_px",
    ),
    "unknown key like no other": (GOOD + "xyz: 1\n", "c.yml:12: xyz: unknown key; known are images, masks, *"),
    "unknown key deep inside": (
        changed("jump_length", "jump_lenght"),
        f"c.yml:11: {REPAINT}.jump_lenght: unknown key; did you mean 'jump_length'?",
    ),
    "unknown sampler": (
        changed("repaint:", "repant:"),
        "c.yml:9: stages[0].inpaint.sampler.repant: unknown key; did you mean 'repaint'?",
    ),
    "unknown stage": (
        GOOD + "  - colour: {}\n",
        "c.yml:*: stages[1].colour: unknown key; did you mean 'color'?",
    ),
    "text for a number": (changed("t_T: 20", "t_T: many"), f"c.yml:10: {REPAINT}.t_T: found 'many'; must be a whole *"),
    "fraction for a whole number": (changed("t_T: 20", "t_T: 2.5"), f"c.yml:10: {REPAINT}.t_T: found 2.5; must be *"),
    "quoted number": (GOOD + "quality: '5'\n", "c.yml:12: quality: found '5'; must be a whole number"),
    "yes for a number": (GOOD + "seed: yes\n", "c.yml:12: seed: found true; must be a whole number"),
    "number for text": (changed("prior: base-64", "prior: 64"), "c.yml:7: stages[0].inpaint.prior: found 64; *text"),
    "nothing": (changed("photos", ""), "c.yml:2: images: found nothing; must be text"),
    "list for a mapping": (GOOD + "folders: [a]\n", "c.yml:12: folders: found a list; must be a mapping of *"),
    "mapping for a list": ("images: a\noutput: b\nstages: {inpaint: {}}\n", "c.yml:3: stages: found a mapping; *list"),
    "no stages": (
        "images: a\noutput: b\nstages: []\n",
        "c.yml:3: stages: found a list; must be *at least one",
    ),
    "two stages": (GOOD + "  - inpaint: {}\n", "c.yml:5: stages: found inpaint more than once; a run has each stage *"),
    "missing key": (changed("output: out\n", ""), "c.yml:2: output: is missing; it must be given"),
    "masks left out": (changed("masks: marks\n", ""), "c.yml:4: stages: the inpaint stage needs masks; *"),
    "not one of": (GOOD + "device: gpu\n", "c.yml:12: device: found 'gpu'; must be one of 'auto', 'cpu', 'cuda' or *"),
    "neither number nor word": (
        GOOD + "batch_size: all\n",
        "c.yml:12: batch_size: found 'all'; *number or 'auto'",
    ),
    "batch of none": (GOOD + "batch_size: 0\n", "c.yml:12: batch_size: found 0; must be at least 1, or auto"),
    "below the least": (GOOD + "workers: 0\n", "c.yml:12: workers: found 0; must be greater than or equal to 1"),
    "infinite": (GOOD + "max_megapixels: .inf\n", "c.yml:12: max_megapixels: found inf; must be a finite number"),
    "jump as long as the walk": (
        changed("jump_length: 5", "jump_length: 20"),
        f"c.yml:11: {REPAINT}.jump_length: found 20; must be below t_T, which is 20",
    ),
    "jump left at 10 in a short walk": (
        GOOD.replace("20\n          jump_length: 5", "10"),
        f"c.yml:9: {REPAINT}.jump_length: found 10; must be below t_T, which is 10",
    ),
    "feather wider than what was grown": (
        changed("prior: base-64", "prior: base-64\n      grow_px: 2\n      feather_px: 3"),
        "c.yml:9: stages[0].inpaint.feather_px: found 3; must be at most grow_px (2): *",
    ),
    "soft masks at any size": (
        changed("prior: base-64", "soft_masks: true"),
        "c.yml:6: stages[0].inpaint: soft_masks: true needs fit: crop",
    ),
    "label of no kind": (
        changed("prior: base-64", "label: cat"),
        "c.yml:7: stages[0].inpaint.label: found 'cat'; must be a whole number or 'random'",
    ),
    "duplicate key": (GOOD + "images: b\n", "c.yml:12: images: found twice, first in line 2; keep one"),
    "duplicate key deep inside": (
        GOOD + "          t_T: 30\n",
        f"c.yml:12: {REPAINT}.t_T: found twice, first in line 10; keep one",
    ),
    "key that is a number": (GOOD + "1: 2\n", "c.yml:12: found '1' as a key; a key must be text"),
    "key that is a list": (GOOD + "? [a]\n: 2\n", "c.yml:12: found a list or a mapping as a key; a key must be text"),
    "anchor within itself": (GOOD + "a: &a {b: *a}\n", "c.yml:12: a.b: holds itself (an alias)"),
    "unknown alias": (GOOD + "a: *b\n", "c.yml:12: not valid YAML: found undefined alias 'b'"),
    "bracket left open": (GOOD + "a: [1\n", "c.yml:13: not valid YAML: *"),
    "tab": (GOOD + "\ta: 1\n", "c.yml:12: not valid YAML: *"),
    "code": (GOOD + "a: !!python/name:os.system 1\n", "c.yml:12: not valid YAML: could not determine a constructor *"),
    "impossible date": (GOOD + "a: 2020-13-45\n", "c.yml: not valid YAML: month must be in 1..12"),
    "tag that does not fit": (GOOD + "a: !!bool maybe\n", "c.yml: not valid YAML: 'maybe'"),
    "two documents": (GOOD + "---\na: 1\n", "c.yml:12: not valid YAML: *"),
    "control character": (GOOD + "a: \0\n", "c.yml: not valid YAML: unacceptable character *"),
    "depth without end": ("[" * 3000, "c.yml: not valid YAML: nested too deeply"),
    "empty": ("", "c.yml: found nothing; a config is a mapping of keys to values"),
    "comments alone": ("# soon\n", "c.yml: found nothing; a config is a mapping of keys to values"),
    "list": ("- a\n", "c.yml: found a list; a config is a mapping of keys to values"),
    "word": ("hello\n", "c.yml: found a plain value; a config is a mapping of keys to values"),
}


def assert_like(line: str, pattern: str) -> None:
    """Each * of the pattern stands for anything."""
    parts = pattern.split("*")
    assert line.startswith(parts[0])
    assert line.endswith(parts[-1])
    assert all(part in line for part in parts)


@pytest.mark.parametrize("case", ONE_LINE)
def test_what_is_wrong_is_one_line_with_file_line_and_key(case):
    text, expected = ONE_LINE[case]
    (line,) = said_of(text)
    assert_like(line, expected)


def test_several_errors_are_several_lines():
    text = changed("t_T: 20", "t_T: many\n          n_samples: 2") + "sed: 1\n"
    assert said_of(text) == [
        f"c.yml:10: {REPAINT}.t_T: found 'many'; must be a whole number",
        f"c.yml:11: {REPAINT}.n_samples: unknown key; did you mean 'n_sample'?",
        "c.yml:13: sed: unknown key; did you mean 'seed'?",
    ]


# ---- files


def test_binary_file_is_named(tmp_path):
    path = tmp_path / "photo.yml"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(ConfigError, match=r"^\S+photo\.yml: is not a text file; a config is YAML in UTF-8$"):
        Document.read(path)


def test_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"^\S+gone\.yml: cannot be read: No such file or directory$"):
        Document.read(tmp_path / "gone.yml")
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory$"):
        Document.read(tmp_path)


def test_file_is_named_as_it_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my.yml").write_text(GOOD + "größe: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^my\.yml:12: größe: unknown key"):
        Document.read("my.yml").check(RunConfig)


# ---- anchors


MERGED = """\
images: photos
masks: marks
output: out
stages:
  - inpaint: &usual
      sampler:
        repaint: {t_T: 30, jump_length: 5}
      <<: {grow_px: 4,
           feather_px: 4}
      feather_px: 2
"""


def test_merged_keys_give_way_to_own_ones():
    inpaint = checked(MERGED).stages[0].inpaint
    assert (inpaint.grow_px, inpaint.feather_px) == (4, 2)


def test_error_in_a_merged_key_is_at_the_line_it_comes_from():
    (line,) = said_of(MERGED.replace("grow_px: 4", "grow_px: x"))
    assert line.startswith("c.yml:8: stages[0].inpaint.grow_px: found 'x'")
    (line,) = said_of(MERGED.replace("feather_px: 2", "feather_px: x"))
    assert line.startswith("c.yml:10: stages[0].inpaint.feather_px: found 'x'")


def test_aliases_stand_for_what_they_name():
    config = checked("images: &all photos\nmasks: *all\noutput: out\nstages: [inpaint: {}]\n")
    assert config.masks == "photos"


# ---- overrides


def test_overrides_reach_into_lists_and_make_new_keys():
    config = checked(
        GOOD,
        "seed=7",
        "stages.0.inpaint.sampler.repaint.t_T=100",
        "stages[0].inpaint.classifier.weights=judge.pt",
        "folders.masked=dark",
        "output=a=b",
        "limit=null",
    )
    assert (config.seed, config.folders.masked, config.output, config.limit) == (7, "dark", "a=b", None)
    assert config.stages[0].inpaint.sampler.repaint.t_T == 100
    assert config.stages[0].inpaint.classifier.weights == "judge.pt"
    assert checked(GOOD, "stages.0={inpaint: {prior: x}}").stages[0].inpaint.prior == "x"


def test_last_override_of_a_key_counts():
    assert checked(GOOD, "seed=1", "seed=2").seed == 2


WRONG_OVERRIDES = {
    "seed": "--set seed: must look like key.0.key=value",
    "=3": "--set =3: must look like key.0.key=value",
    "stages.1.inpaint.prior=x": "--set stages.1.inpaint.prior=x: stages is a list of 1; '1' is none of 0..0",
    "stages.-1.inpaint.prior=x": "--set *: stages is a list of 1; '-1' is none of 0..0",
    "stages.\u00b2.inpaint.prior=x": "--set *: stages is a list of 1; '\u00b2' is none of 0..0",
    "seed=!!timestamp x": "--set seed=!!timestamp x: the value is not valid YAML: *",
    "stages.inpaint.prior=x": "--set *: stages is a list of 1; 'inpaint' is none of 0..0",
    "images.0=x": "--set images.0=x: images is 'photos', which has no keys",
    "seed=[1": "--set seed=[1: the value is not valid YAML: *",
    "seed=x": "--set seed: seed: found 'x'; must be a whole number",
    "seed=": "--set seed: seed: found nothing; must be a whole number",
    "sed=1": "--set sed: sed: unknown key; did you mean 'seed'?",
    "stages[0].inpaint.sampler.repaint.t_T=no": "--set stages[0].*repaint.t_T: *t_T: found false; must be a whole *",
    "stages.0.inpaint.sampler.repaint={jump_lenght: 5}": f"--set *: {REPAINT}.jump_lenght: unknown key; did you mean *",
    "stages.0.inpaint.sampler.repaint.t_T=5": f"c.yml:11: {REPAINT}.jump_length: found 5; must be below t_T, *5",
}


@pytest.mark.parametrize("override", WRONG_OVERRIDES)
def test_wrong_override_is_one_line_that_says_so(override):
    (line,) = said_of(GOOD, override)
    assert_like(line, WRONG_OVERRIDES[override])


def test_line_of_the_file_is_said_where_the_override_is_not_to_blame():
    lines = said_of(GOOD + "sed: 1\n", "stages.0.inpaint.sampler.repaint.t_T=x")
    assert [line.split(": ")[0] for line in lines] == ["--set stages.0.inpaint.sampler.repaint.t_T", "c.yml:12"]


# ---- what is written


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["seed=5", "batch_size=3", "folders.masked=x", "stages.0.inpaint.label=random"],
        ["stages.0.inpaint.sampler.repaint.timestep_respacing='250'", "max_megapixels=0.5", "images=größe"],
        ["stages.0.inpaint.sampler.repaint={t_T: 20}", "stages.0.inpaint.classifier={weights: a, scale: 2}"],
    ],
)
def test_resolved_settings_read_back_are_the_same(overrides):
    config = checked(GOOD, *overrides)
    assert checked(resolved(config)) == config


def test_resolved_settings_keep_a_null_that_is_no_default():
    scratches = Scratches(smallest_px=None)
    said = yaml.safe_load(resolved(scratches))
    assert said["smallest_px"] is None
    assert Scratches.model_validate(said) == scratches
    assert "label" not in yaml.safe_load(resolved(Inpaint()))


def test_resolved_settings_name_the_defaults():
    said = yaml.safe_load(resolved(checked(GOOD)))
    assert said["seed"] == 0
    assert said["stages"][0]["inpaint"]["sampler"]["repaint"]["jump_n_sample"] == 10


# ---- the schema


def models_below(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}

    def look(annotation: object) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in found:
            found.update(models_below(annotation))
        for inner in getattr(annotation, "__args__", ()):
            look(inner)

    for field in model.model_fields.values():
        look(field.annotation)
    return found


def test_schema_names_every_key_and_allows_no_other():
    schema = json.loads(json.dumps(RunConfig.model_json_schema()))
    described = {"RunConfig": schema, **schema["$defs"]}
    for model in models_below(RunConfig):
        assert described[model.__name__]["properties"].keys() == model.model_fields.keys()
        assert described[model.__name__]["additionalProperties"] is False
        assert described[model.__name__]["type"] == "object"
    assert set(schema["required"]) == {"images", "output", "stages"}


def test_everything_the_schema_refers_to_is_in_it():
    schema = RunConfig.model_json_schema()

    def references(node: object) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if "$ref" in node else set()
            return own.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    assert references(schema) == {f"#/$defs/{name}" for name in schema["$defs"]}


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("2E5", 2e5), ("-3e+2", -300.0), ("1.5e-3", 1.5e-3)])
def test_numbers_with_an_exponent_and_no_dot_are_numbers(text, value):
    assert Document(f"a: {text}", "f").data == {"a": value}
    assert Document("a: 0", "f").override([f"a={text}"]).data == {"a": value}
    assert Document(dumped({"a": text, "b": value}), "f").data == {"a": text, "b": value}


def test_an_override_of_one_alias_is_none_of_the_others():
    assert Document("a: &x {k: 1}\nb: *x", "f").override(["a.k=2"]).data == {"a": {"k": 2}, "b": {"k": 1}}


# ---- overrides are named, each for its own mistake


def test_the_override_that_is_wrong_is_named_whatever_else_was_overridden():
    at = "stages.0.inpaint"
    overrides = ["seed=1", f"{at}.grow_px=1", f"{at}.feather_px=x", f"{at}.sampler={{repaint: {{t_T: x}}}}"]
    document = Document("images: a\noutput: b\nstages: [inpaint: {}]\n", "a.yml").override(overrides)
    with pytest.raises(ConfigError) as e:
        document.check(RunConfig)
    assert [line.partition(": ")[0] for line in str(e.value).splitlines()] == [
        "--set stages.0.inpaint.sampler",
        "--set stages.0.inpaint.feather_px",
    ]


def test_a_path_is_its_text():
    config = RunConfig(images=Path("photos"), output=Path("out"), stages=[{"color": {}}])  # pyright: ignore
    assert (config.images, config.output) == ("photos", "out")
