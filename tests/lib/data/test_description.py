import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.data import description
from lib.data.description import DataError, Description

GOOD = {
    "events": "clicks.csv",
    "labels": "churn.csv",
    "customer": "user",
    "time": "when",
    "label": "left",
    "categories": ["page", "device"],
}


def described(tmp_path, content):
    path = tmp_path / description.FILE
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_a_description_is_read_with_its_defaults(tmp_path):
    read = description.read(described(tmp_path, GOOD))
    assert read == Description(**(GOOD | {"categories": ("page", "device")}))
    assert read.columns("events") == ["user", "when", "page", "device"]
    assert read.columns("labels") == ["user", "left"]
    more = {"numbers": ["price"], "classes": [1, 0], "group": "household"}
    full = description.read(described(tmp_path, GOOD | more))
    assert (full.numbers, full.classes, full.group) == (("price",), ("1", "0"), "household")
    assert full.columns("labels") == ["user", "left", "household"]


BAD = {
    "not YAML": ("events: [", "line 1: not YAML"),
    "not UTF-8": ("events: \x00", "not YAML"),
    "empty": ("", "holds no keys; it must name events, labels"),
    "a list": ("- events", "holds no keys"),
    "unknown key": (GOOD | {"catgories": []}, "key catgories: unknown key; known is categories"),
    "missing key": ({key: GOOD[key] for key in GOOD if key != "time"}, "no key time; add the column of an event"),
    "no category": (GOOD | {"categories": []}, r"key categories: \[\]; give a list"),
    "a category": (GOOD | {"categories": "page"}, "key categories: 'page'; give a list"),
    "YAML's yes": (GOOD | {"classes": [True, False]}, "key classes: True is not text; .*quotes"),
    "one class": (GOOD | {"classes": ["stay"]}, "key classes: .*at least two"),
    "a number for a file": (GOOD | {"events": 1.5}, "key events: 1.5 is not text"),
    "no name": (GOOD | {"label": ""}, "key label: '' is not text"),
    "twice": (GOOD | {"categories": ["page", "page"]}, "key categories: 'page' is named twice"),
    "a column for two": (GOOD | {"numbers": ["when"]}, "key numbers: 'when' is also under time"),
    "the customer as label": (GOOD | {"label": "user"}, "key label: 'user' is also under customer"),
    "the label as group": (GOOD | {"group": "left"}, "key group: 'left' is also under label"),
    "two characters": (GOOD | {"delimiter": ", "}, "key delimiter: ', '; give the character between columns"),
    "a word for a unit": (GOOD | {"time_unit": "seconds"}, "key time_unit: 'seconds'; give days, or s, ms, us or ns"),
    "an odd decimal": (GOOD | {"decimal": "'"}, "key decimal: .* give the mark before a number's fraction"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_bad_descriptions_are_named(tmp_path, content, message):
    path = described(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        description.read(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) == 1


def test_files_that_are_not_there_are_named_with_their_key(tmp_path):
    read = description.read(described(tmp_path, GOOD))
    with pytest.raises(DataError, match=r"dataset\.yaml, key events: no file clicks\.csv; it should hold user, when"):
        read.files(tmp_path)
    for name in ("clicks.csv", "churn.csv"):
        (tmp_path / name).touch()
    assert [path.name for path in read.files(tmp_path)] == ["dataset.yaml", "clicks.csv", "churn.csv"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_any_bytes_give_a_description_or_an_error_of_one_line(tmp_path, junk):
    path = tmp_path / description.FILE
    path.write_bytes(junk)
    with pytest.raises(DataError) as caught:  # nothing so short describes a dataset
        description.read(path)
    assert len(str(caught.value).splitlines()) == 1
