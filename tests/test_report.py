import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

import pytest

from repaint.report import Row, Summary, render, write_report

HOSTILE = [
    'family/aunt "Jo" & <b>uncle</b>.png',
    "<script>alert(1)<／script>.png",
    '" onerror="alert(1).png',
    "' onload='alert(1)'.png",
    "what is this? #1 100% %41 ;=+@.png",
    "javascript:alert(1).png",
    "{{ 7 * 7 }}{% raw %}.png",
    "Großmutter 祖母 👵.png",
    "two\nlines\t.png",
    "\u202egnp.exe.png",
    "a & b; c/d & e/f.png",
]
VOID = {"meta", "link", "img", "input"}


class Page(HTMLParser):
    """The elements of a page, with the text that stands directly or deeper inside them."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[SimpleNamespace] = []
        self.open: list[SimpleNamespace] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {[e.tag for e in self.open]}"

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), f"<{tag}> has an attribute twice"
        element = SimpleNamespace(
            tag=tag, text="", inside=[e.tag for e in self.open], at={k: v or "" for k, v in attrs}
        )
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        for element in self.open:
            element.text += data

    def all(self, tag: str) -> list[SimpleNamespace]:
        return [e for e in self.elements if e.tag == tag]

    def text(self, id: str) -> str:
        (element,) = [e for e in self.elements if e.at.get("id") == id]
        return element.text


def a_row(name: str = "aunt.png", **changes) -> Row:
    row = Row(
        name=name,
        status="done",
        seconds=12.0,
        calls=490,
        seed=7,
        input=f"report/{name}-input.jpg",
        mask=f"report/{name}-mask.jpg",
        results=(f"report/{name}-result.jpg",),
        links=(f"results/{name}",),
    )
    return replace(row, **changes)


def a_summary(*rows: Row, **changes) -> Summary:
    summary = Summary(
        title="Family album",
        settings_yaml="seed: 1\n",
        rows=rows,
        device="cpu",
        seconds=400.0,
        version="0.1.0",
        weights="base-64, sha256 " + "ab" * 32,
    )
    return replace(summary, **changes)


def page_of(*rows: Row, **changes) -> Page:
    return Page(render(a_summary(*rows, **changes)))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_they_are_and_add_nothing_to_the_page(name):
    plain, hostile = page_of(a_row()), page_of(a_row(name))
    assert [e.tag for e in hostile.elements] == [e.tag for e in plain.elements]
    assert [sorted(e.at) for e in hostile.elements] == [sorted(e.at) for e in plain.elements]
    assert [e.text for e in hostile.all("bdi")][1:] == [name]
    assert [e.at["alt"] for e in hostile.all("img")] == [f"{kind} of {name}" for kind in ("Input", "Mask", "Result")]


@pytest.mark.parametrize("name", HOSTILE)
def test_links_and_pictures_lead_to_the_files_of_the_row(name, tmp_path):
    row = a_row(name, links=(f"results/{name}",))
    files = [row.input, row.mask, *row.results, *row.links]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(file)
    path = write_report(tmp_path, a_summary(row))
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    here = (tmp_path / "report.html").as_uri()
    assert path == str(tmp_path / "report.html")
    found = [e.at["src"] for e in page.all("img")] + [e.at["href"] for e in page.all("a")]
    for url, file in zip(found, files, strict=True):
        whole = urlsplit(urljoin(here, url))
        assert (whole.scheme, whole.query, whole.fragment) == ("file", "", "")
        with open(url2pathname(whole.path), encoding="utf-8", newline="") as f:
            assert f.read() == file
        assert unquote(url) == file


def test_a_name_that_is_not_utf_8_is_linked_byte_for_byte_and_can_still_be_written(tmp_path):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    write_report(tmp_path, a_summary(a_row(name)))
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert page.all("a")[0].at["href"] == "results/caf%E9.png"
    assert page.all("h3")[0].text == "caf?.png"


def test_a_colon_in_the_first_part_of_a_link_is_no_scheme():
    page = page_of(a_row(links=("javascript:alert(1)",)))
    assert urlsplit(page.all("a")[0].at["href"]).scheme == ""


def test_notes_settings_and_all_other_words_are_escaped():
    bad = '</pre><script>x</script>"&'
    texts = dict.fromkeys(("title", "settings_yaml", "device", "version", "weights"), bad)
    page = page_of(a_row(note=bad), a_row(status="failed", note=bad), **texts)
    assert len(page.all("script")) == 1
    assert page.all("pre")[0].text.strip() == bad
    assert page.all("title")[0].text == bad
    assert [e.text for e in page.all("p") if e.at["class"] == "note"] == [f"Failed. {bad}", bad]


def test_the_header_counts_photos_calls_and_time():
    failed = a_row("bad.png", status="failed", seconds=99.0, calls=10)
    page = page_of(a_row(calls=1000), a_row(seconds=13.0), a_row(seconds=None, calls=None), failed)
    assert {id: page.text(id) for id in ("done", "failed", "calls", "time", "per-photo")} == {
        "done": "3",
        "failed": "1",
        "calls": "1,500",
        "time": "6 min 40 s",
        "per-photo": "12.5 s",
    }


def test_a_run_without_photos_still_makes_a_page():
    page = page_of()
    assert [page.text(id) for id in ("done", "failed", "calls", "per-photo")] == ["0", "0", "0", "–"]
    assert not page.all("article")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.00 s"),
        (0.42, "0.42 s"),
        (0.999, "1.0 s"),
        (59.96, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (86400 * 50.0, "1,200 h 00 min"),
    ],
)
def test_times_are_rounded_without_sixty_seconds_or_sixty_minutes(seconds, shown):
    assert page_of(seconds=seconds).text("time") == shown


def test_failed_photos_come_first_with_their_reason_and_the_rest_keeps_its_order():
    bad = a_row("c.png", status="failed", note="the mask is empty")
    page = page_of(a_row("b.png"), a_row("a.png"), bad, a_row("d.png", status="failed"))
    assert [e.text for e in page.all("h3")] == ["c.png", "d.png", "b.png", "a.png"]
    reasons = ["Failed. the mask is empty", "Failed. No reason was recorded."]
    assert [e.text for e in page.all("p") if e.at["class"] == "note"] == reasons


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"input": None}, ["Mask", "Result"]),
        ({"mask": None}, ["Input", "Result"]),
        ({"results": (), "links": ()}, ["Input", "Mask"]),
        ({"input": None, "mask": None, "results": (), "links": ()}, []),
    ],
    ids=["input", "mask", "result", "all"],
)
def test_a_missing_thumbnail_leaves_its_picture_out(changes, kinds):
    page = page_of(a_row(**changes))
    assert [e.at["alt"] for e in page.all("img")] == [f"{kind} of aunt.png" for kind in kinds]
    assert "None" not in page.all("article")[0].text
    sliders = [e for e in page.all("input") if e.at["type"] == "range"]
    assert len(sliders) == (1 if {"Input", "Result"} <= set(kinds) else 0)


def test_a_result_without_a_thumbnail_is_still_linked():
    page = page_of(a_row(results=()))
    (link,) = page.all("a")
    assert (link.at["href"], link.text) == ("results/aunt.png", "Open result of aunt.png")


def test_every_sample_has_its_thumbnail_inside_its_own_link():
    page = page_of(a_row(results=("t/1.jpg", "t/2.jpg", "t/3.jpg"), links=("r/1.png", "r/2.png", "r/3.png")))
    linked = [e for e in page.elements if e.tag == "a" or (e.tag == "img" and "a" in e.inside)]
    where = [e.at.get("href") or e.at["src"] for e in linked]
    assert where == ["r/1.png", "t/1.jpg", "r/2.png", "t/2.jpg", "r/3.png", "t/3.jpg"]
    assert [e.at["alt"] for e in linked if e.tag == "img"] == [f"Result {k} of aunt.png" for k in (1, 2, 3)]


def test_what_is_not_known_of_a_photo_is_left_out():
    page = page_of(a_row(seconds=None, calls=None, seed=None))
    (facts,) = [e for e in page.all("p") if e.at["class"] == "facts"]
    assert facts.text.strip() == ""
    known = page_of(a_row(seconds=0.0, calls=1, seed=0))
    (facts,) = [e for e in known.all("p") if e.at["class"] == "facts"]
    assert facts.text.split("\n")[1:-1] == ["1 call", "0.00 s", "seed 0"]


def test_the_page_asks_for_nothing_from_elsewhere():
    html = render(a_summary(*[a_row(f"{k}.png") for k in range(20)]))
    assert not re.findall(r"""(?:\w+:)?//[\w.]|url\(|@import|\bsrcset\b|fetch\(|import\(""", html)
    page = Page(html)
    links = [(e.tag, e.at[key]) for e in page.elements for key in ("src", "href") if key in e.at]
    assert {url.split("/")[0] for _, url in links} == {"report", "results", "data:,"}
    assert {tag for tag, _ in links} == {"img", "a", "link"}


def test_ten_thousand_photos_are_laid_out_and_loaded_only_when_seen():
    html = render(a_summary(*[a_row(f"{k}.png") for k in range(10_000)]))
    assert html.count('<article class="card"') == 10_000
    assert html.count("<img ") == html.count(' loading="lazy"') == 30_000
    assert "content-visibility: auto" in html
    assert len(html) < 1200 * 10_000


def test_all_that_can_be_operated_has_a_name_for_those_who_cannot_see_it():
    page = page_of(*[a_row(f"{k}.png") for k in range(9)])
    assert all(e.at["aria-label"] for e in page.all("input"))
    assert len({e.at["aria-label"] for e in page.all("input")}) == 10  # nine sliders and the search


def test_a_row_without_a_field_is_an_error_not_a_blank():
    from jinja2 import UndefinedError

    row = SimpleNamespace(name="a.png", status="failed", seconds=None, calls=None, seed=None, results=(), links=())
    with pytest.raises(UndefinedError, match="note"):
        render(a_summary(row))  # pyright: ignore[reportArgumentType]


def test_a_report_is_replaced_whole_and_leaves_nothing_else_behind(tmp_path):
    folder = tmp_path / "not yet" / "there"
    write_report(folder, a_summary(a_row("first.png")))
    write_report(folder, a_summary(a_row("second.png")))
    assert [p.name for p in folder.iterdir()] == ["report.html"]
    assert "first.png" not in (folder / "report.html").read_text("utf-8")


def test_the_template_engine_is_not_imported_before_a_page_is_made():
    code = "import sys, repaint.report; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
