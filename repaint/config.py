"""Typed settings from YAML, whose every error says file, line, key, what was found and what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from .errors import ConfigError

Settings_ = TypeVar("Settings_", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: frozen, strict about types, closed to unknown keys; a `Path` is its text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _paths_as_text(cls, said: Any) -> Any:
        if isinstance(said, Mapping):
            return {key: str(value) if isinstance(value, Path) else value for key, value in said.items()}
        return said


class WrongKey(ValueError):
    """What is wrong with one key, where that can be said only when all are known."""

    def __init__(self, key: str, words: str) -> None:
        super().__init__(f"{key}: {words}")
        self.key, self.words = key, words


class _Loader(yaml.SafeLoader):
    """YAML 1.1, and 1e-4 is a number, as it is in 1.2."""


class _Dumper(yaml.SafeDumper):
    """What `_Loader` reads again as it was."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


NO_VALUE = (yaml.YAMLError, ValueError, LookupError, AttributeError)  # what a tag that does not fit is answered with


class Document:
    """A YAML file with the line of every key, and overrides laid over it.

    Attributes:
        data: what the file says: mappings, lists and plain values.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        try:
            root = yaml.compose(text, Loader=_Loader)
        except (yaml.YAMLError, RecursionError) as e:
            raise _not_yaml(name, e) from None
        if not isinstance(root, yaml.MappingNode):
            found = "nothing" if root is None else "a list" if isinstance(root, yaml.SequenceNode) else "a plain value"
            raise ConfigError(f"{name}: found {found}; a config is a mapping of keys to values")
        self._root = root
        self._overrides: list[str] = []
        self._check_keys(root, (), ())
        loader = _Loader("")
        try:
            self.data: dict[str, Any] = _own(loader.construct_document(root))
        except NO_VALUE as e:
            raise _not_yaml(name, e) from None

    @classmethod
    def read(cls, path: str | Path) -> Document:
        try:
            return cls(Path(path).read_text(encoding="utf-8"), str(path))
        except OSError as e:
            raise ConfigError(f"{path}: cannot be read: {e.strerror or e}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: is not a text file; a config is YAML in UTF-8") from None

    def override(self, settings: Sequence[str]) -> Document:
        """Lay `key.0.key=value` over the file, the value in YAML; changes and returns this document.

        Raises:
            ConfigError: if one is not of that form or names a place that cannot be.
        """
        for setting in settings:
            dotted, equals, value = setting.partition("=")
            if not equals or not dotted:
                raise ConfigError(f"--set {setting}: must look like key.0.key=value")
            try:
                said = yaml.load(value, Loader=_Loader)
            except (*NO_VALUE, RecursionError) as e:
                raise ConfigError(f"--set {setting}: the value is not valid YAML: {_reason(e)}") from None
            self._set(dotted.replace("[", ".").replace("]", "").split("."), said, setting)
            self._overrides.append(dotted)
        return self

    def check(self, model: type[Settings_]) -> Settings_:
        """The settings the document stands for.

        Raises:
            ConfigError: one line for each thing that is wrong.
        """
        if wrong := [f"{self.where(loc)}: {_key_and(loc)}{words}" for loc, words in explained(model, self.data)]:
            raise ConfigError("\n".join(wrong))
        return model.model_validate(self.data)

    def where(self, loc: Sequence[str | int]) -> str:
        """'file:line' of a key, or of the nearest thing around it; '--set key' if an override put it there."""
        dotted = ".".join(map(str, loc)) + "."
        plain = {override: override.replace("[", ".").replace("]", "") + "." for override in self._overrides}
        of_it = [override for override, place in plain.items() if dotted.startswith(place)]
        in_it = [override for override, place in plain.items() if place.startswith(dotted)]
        if found := of_it or in_it:
            return f"--set {max(found, key=lambda override: len(plain[override]))}"
        line, node = self._root.start_mark.line, self._root
        for key in loc:
            found = _child(node, key)
            if found is None:
                break
            line, node = found
        return f"{self.name}:{line + 1}"

    def _set(self, path: list[str], value: Any, setting: str) -> None:
        here: Any = self.data
        for i, key in enumerate(path):
            last = i == len(path) - 1
            if isinstance(here, list):
                if not key.isdecimal() or int(key) >= len(here):
                    at = ".".join(path[:i])
                    raise ConfigError(
                        f"--set {setting}: {at} is a list of {len(here)}; {key!r} is none of 0..{len(here) - 1}"
                    )
                index: Any = int(key)
            elif isinstance(here, dict):
                index = key
            else:
                raise ConfigError(f"--set {setting}: {'.'.join(path[:i])} is {shown(here)}, which has no keys")
            if last:
                here[index] = value
            else:
                if isinstance(here, dict) and here.get(index) is None:
                    here[index] = {}
                here = here[index]

    def _check_keys(self, node: yaml.Node, loc: tuple[str | int, ...], around: tuple[yaml.Node, ...]) -> None:
        """Refuse keys that are not text, or stand twice, and anchors that hold themselves."""
        if node in around:
            raise ConfigError(f"{self.name}:{node.start_mark.line + 1}: {dotted_key(loc)}: holds itself (an alias)")
        around = (*around, node)
        if isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.tag not in TEXT_TAGS:
                    found = repr(key.value) if isinstance(key, yaml.ScalarNode) else "a list or a mapping"
                    raise ConfigError(f"{self.name}:{line}: {_key_and(loc)}found {found} as a key; a key must be text")
                if key.value in seen:
                    raise ConfigError(
                        f"{self.name}:{line}: {dotted_key((*loc, key.value))}: found twice, "
                        f"first in line {seen[key.value]}; keep one"
                    )
                seen[key.value] = line
                self._check_keys(value, (*loc, key.value), around)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                self._check_keys(value, (*loc, i), around)


def explained(model: type[Settings], data: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """What is wrong with `data` as settings of `model`: where it is, and what was found and would be right."""
    try:
        model.model_validate(data)
    except ValidationError as e:
        found: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
        for error in e.errors():
            found.setdefault((*_keys_of(model, error["loc"]), *_key_of(error)), []).append(error)
        deeper = {loc[:n] for loc in found for n in range(len(loc))}
        return [
            (loc, _elsewhere(model, data, errors[0]) or _either(model, errors))
            for loc, errors in found.items()
            if loc not in deeper
        ]
    return []


def _key_and(loc: Sequence[str | int]) -> str:
    return f"{dotted_key(loc)}: " if loc else ""


def dotted_key(loc: Sequence[str | int]) -> str:
    """'stages[0].inpaint.prior'."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """ "; did you mean 'x'?" for the closest of `known`, else the list of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def resolved(settings: Settings) -> str:
    """The settings with all their defaults, as YAML; read again, they are the same."""
    told = _told(settings, settings.model_dump(mode="json"))
    return dumped(told)


def dumped(value: Any) -> str:
    """YAML that a `Document` reads as this value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _own(value: Any) -> Any:
    """A copy in which aliases of one anchor are things of their own: an override of one is none of the others."""
    if isinstance(value, dict):
        return {key: _own(v) for key, v in value.items()}
    return [_own(v) for v in value] if isinstance(value, list) else value


def _told(value: Any, dumped: Any) -> Any:
    """What was dumped of a value, without the nulls that are defaults."""
    if isinstance(value, Settings):
        fields = type(value).model_fields
        is_said = {name: dumped[name] is not None or fields[name].default is not None for name in dumped}
        return {name: _told(getattr(value, name), dumped[name]) for name, said in is_said.items() if said}
    if isinstance(value, (list, tuple)):
        return [_told(v, d) for v, d in zip(value, dumped, strict=True)]
    return dumped


def _child(node: yaml.Node, key: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key].start_mark.line, node.value[key]
    if isinstance(node, yaml.MappingNode):
        for k, v in reversed(node.value):  # merged keys stand first, and give way
            if k.value == str(key):
                return k.start_mark.line, v
    return None


def _not_yaml(name: str, e: Exception) -> ConfigError:
    mark = (e.problem_mark or e.context_mark) if isinstance(e, yaml.MarkedYAMLError) else None
    return ConfigError(f"{name}{f':{mark.line + 1}' if mark else ''}: not valid YAML: {_reason(e)}")


def _reason(e: Exception) -> str:
    if isinstance(e, RecursionError):
        return "nested too deeply"
    problem = (e.problem or e.context) if isinstance(e, yaml.MarkedYAMLError) else None
    return " ".join((problem or str(e)).split())


TEXT_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "too_short": "a list of at least one",
    "finite_number": "a finite number",
}


def _keys_of(model: type[Settings], loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """`loc` without what pydantic adds to tell the members of a union apart."""
    here: type[BaseModel] | None = model
    for i, key in enumerate(loc):
        if isinstance(key, int):
            continue
        if here is None:
            return loc[:i]
        field = here.model_fields.get(key)
        here = _model_in(field.annotation) if field else None
    return loc


def _key_of(error: ErrorDetails) -> tuple[str, ...]:
    """The key that an error of a whole mapping is about, if it is about one."""
    reason = error.get("ctx", {}).get("error")
    return (reason.key,) if isinstance(reason, WrongKey) else ()


def _either(model: type[Settings], errors: Sequence[ErrorDetails]) -> str:
    """The words for one value, which each member of a union may have refused for its own reason."""
    first, *others = dict.fromkeys(_words(model, error) for error in errors)
    return " or ".join([first, *(words.rpartition("; must be ")[2] for words in others)])


def _words(model: type[Settings], error: ErrorDetails) -> str:
    """What was found and what would be right, for one of pydantic's errors."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + did_you_mean(str(error["loc"][-1]), _siblings(model, error["loc"]))
    if kind == "missing":
        return "is missing; it must be given"
    if kind == "value_error":
        reason = context["error"]
        return reason.words if isinstance(reason, WrongKey) else str(reason)
    found = f"found {shown(error['input'])}"
    if kind in WANTED:
        return f"{found}; must be {WANTED[kind]}"
    if kind == "literal_error":
        several = "one of " if " or " in context["expected"] else ""
        return f"{found}; must be {several}{context['expected']}"
    words = error["msg"].removeprefix("Input should be ").removeprefix("Value should ")
    return f"{found}; must be {words}"


def _elsewhere(model: type[Settings], data: Mapping[str, Any], error: ErrorDetails) -> str:
    """The words for a key that is unknown here and known elsewhere; none if it is not that."""
    if error["type"] != "extra_forbidden":
        return ""
    key = str(error["loc"][-1])
    places = [f"{path}.{key}" for path in _homes(model, key, data)]
    return f"unknown key; it belongs to {' or '.join(places)}" if 0 < len(places) <= 2 else ""


def _homes(model: type[BaseModel], key: str, data: Any, *, listed: bool = False) -> Iterator[str]:
    """Where below the settings that `data` stands for a key may stand: 'stages.0.inpaint'.

    Args:
        listed: `data` is one of a list, as a stage is: what it does not name it has not.
    """
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        here = data.get(name) if isinstance(data, Mapping) else None
        if inner is None or (listed and here is None):
            continue
        parts = [(f"{name}.{i}", part) for i, part in enumerate(here)] if isinstance(here, list) else [(name, here)]
        for path, part in parts:
            if key in inner.model_fields:
                yield path
            deeper = _homes(inner, key, part, listed=isinstance(here, list))
            yield from (f"{path}.{more}" for more in deeper)


def _siblings(model: type[Settings], loc: Sequence[str | int]) -> list[str]:
    """The keys that may stand where the last of `loc` does."""
    here: type[BaseModel] | None = model
    for key in loc[:-1]:
        if isinstance(key, int) or here is None:
            continue
        field = here.model_fields.get(key)
        here = _model_in(field.annotation) if field else None
    return list(here.model_fields) if here else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if found := _model_in(inner):
            return found
    return None


def shown(value: Any) -> str:
    """A value of YAML in few words, for messages."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
