import dataclasses

import numpy as np
import pytest

from lib.events import histories as stored
from lib.storage import intact


def assert_same(one, other):
    for field in dataclasses.fields(one):
        first, second = getattr(one, field.name), getattr(other, field.name)
        if isinstance(first, np.ndarray):
            np.testing.assert_array_equal(first, second)
            assert first.dtype == second.dtype, field.name
        else:
            assert first == second, field.name


@pytest.mark.parametrize("name", ["histories", "visits"])
def test_saved_histories_come_back_mapped_and_nothing_is_left_over(name, request, tmp_path):
    histories = request.getfixturevalue(name)
    stored.save(histories, tmp_path / "cache")
    stored.save(histories, tmp_path / "cache")
    again = stored.load(tmp_path / "cache")
    assert_same(again, histories)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    for array in (again.categories, again.numbers, again.days):
        assert not array.flags.owndata
        assert not array.flags.writeable


def test_a_failure_leaves_nothing(histories, tmp_path):
    with pytest.raises(TypeError):
        stored.save(dataclasses.replace(histories, found={"events": object()}), tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["events.arrow", "customers.arrow"])
@pytest.mark.parametrize("damage", ["truncated", "garbled", "missing"])
def test_damage_is_noticed(histories, tmp_path, capsys, name, damage):
    stored.save(histories, tmp_path / "cache")
    path = tmp_path / "cache" / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes(content[:-1] if damage == "truncated" else flipped)
    assert not intact(tmp_path / "cache")
    assert name in capsys.readouterr().err


def test_cardinalities_are_of_the_codes_and_then_of_the_context(visits):
    wards, physicians = visits.vocabularies
    assert visits.cardinalities == (len(wards) + 1, len(physicians) + 1, 25, 7)
    assert (visits.code_kinds, visits.classes) == (2, 3)
