import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.data import description
from lib.data.description import DataError, Description

GOOD = {"events": "clicks.csv", "labels": "churn.csv", "customer": "user", "time": "when", "label": "left"}
GOOD |= {"categories": ["page", "device"]}


def described(tmp_path, content):
    path = tmp_path / description.FILE
    path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())
    return path


def test_a_description_is_read_with_its_defaults(tmp_path):
    read = description.read(described(tmp_path, GOOD))
    assert read == Description(**(GOOD | {"categories": ("page", "device")}))
    assert read.columns("events") == ["user", "when", "page", "device"]
    assert read.columns("labels") == ["user", "left"]
    full = description.read(described(tmp_path, GOOD | {"numbers": [], "classes": [1, 0], "group": "household"}))
    assert (full.numbers, full.classes) == ((), ("1", "0"))
    assert full.columns("labels") == ["user", "left", "household"]


BAD = {
    "not YAML": (b"events: [", "line 1: not YAML"),
    "a list": (["events"], "holds no keys"),
    "unknown key": (GOOD | {"catgories": []}, "key catgories: unknown key; known are events, labels"),
    "missing key": ({key: GOOD[key] for key in GOOD if key != "time"}, "no key time; add the column of an event"),
    "a category": (GOOD | {"categories": "page"}, "key categories: 'page'; give a list"),
    "one class": (GOOD | {"classes": ["stay"]}, "key classes: .*at least two"),
    "twice": (GOOD | {"categories": ["page", "page"]}, "column 'page' is named twice; use a column once"),
    "a column for two": (GOOD | {"numbers": ["when"]}, "column 'when' is named twice"),
    "the label as group": (GOOD | {"group": "left"}, "column 'left' is named twice"),
    "a word for a unit": (GOOD | {"time_unit": "seconds"}, "key time_unit: 'seconds'; give days, or s, ms, us or ns"),
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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_any_bytes_give_a_description_or_an_error_of_one_line(tmp_path, junk):
    with pytest.raises(DataError) as caught:  # nothing so short describes a dataset
        description.read(described(tmp_path, junk))
    assert len(str(caught.value).splitlines()) == 1
