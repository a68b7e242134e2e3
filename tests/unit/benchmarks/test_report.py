"""The table and bench.json."""

import json

import pytest

from benchmarks.report import PartResult, enter, table
from benchmarks.rows import Goal, Options, Pair, Row, interleave

GOAL = Goal(limit=1.15)


@pytest.fixture
def options(tmp_path):
    return Options(data=tmp_path, scratch=tmp_path, frames=200, repeats=3, quick=False)


def ratio(*values, key="bright_over_unpack", goal=GOAL):
    return Row(name="ratio", values=values, key=key, goal=goal)


def test_a_run_is_compared_with_the_baselines_beside_it():
    seconds = iter([10.0, 30.0, 20.0, 60.0, 40.0])
    pairs = interleave(lambda: next(seconds), {"other": lambda: next(seconds)}, 2)
    assert pairs == {
        "other": [Pair(seconds=30.0, baseline=15.0), Pair(seconds=60.0, baseline=30.0)]
    }
    assert [p.ratio for p in pairs["other"]] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("goal", "values", "met"),
    [
        (GOAL, (1.0, 1.1, 9.0), True),
        (GOAL, (1.0, 1.2, 1.2), False),
        (Goal(limit=10, at_least=True), (11.0,), True),
        (Goal(limit=10, at_least=True), (9.0,), False),
        (GOAL, (), False),
        (None, (3.0,), None),
    ],
)
def test_the_median_meets_the_goal(goal, values, met):
    assert ratio(*values, goal=goal).met is met


def test_each_part_enters_its_keys(tmp_path, options):
    path = tmp_path / "build" / "bench.json"
    enter(path, PartResult(part="unpacking", rows=(ratio(1.3, 1.1, 1.0),)), options)
    peak = Row(name="peak", values=(5.0,), unit="GiB", key="peak_gib", goal=Goal(limit=4))
    enter(path, PartResult(part="memory", rows=(peak,)), options)
    document = json.loads(path.read_text())
    found = document["bright_over_unpack"]
    wanted = {"median": 1.1, "min": 1.0, "max": 1.3, "n": 3, "goal": 1.15, "met": True}
    assert wanted.items() <= found.items()
    assert document["peak_gib"]["met"] is False
    assert document["machine"]["cores"] >= 1
    assert document["quick"] is False
    assert {"python", "packages", "date", "commit"} <= set(document)


def test_a_part_that_is_measured_again_leaves_nothing_of_before(tmp_path, options):
    path = tmp_path / "bench.json"
    enter(path, PartResult(part="unpacking", rows=(ratio(1.0), ratio(2.0, key="old"))), options)
    enter(path, PartResult(part="unpacking", problem="OSError: disk full"), options)
    document = json.loads(path.read_text())
    assert "bright_over_unpack" not in document
    assert "old" not in document
    assert document["parts"]["unpacking"]["problem"] == "OSError: disk full"


def test_figures_of_another_machine_are_dropped(tmp_path, options):
    path = tmp_path / "bench.json"
    enter(path, PartResult(part="unpacking", rows=(ratio(1.0),)), options)
    document = json.loads(path.read_text())
    document["machine"]["cores"] += 1
    path.write_text(json.dumps(document))
    enter(path, PartResult(part="memory"), options)
    assert "bright_over_unpack" not in json.loads(path.read_text())


def test_the_table_says_what_could_not_be_measured():
    missing = Row(name="faint", values=(), goal=GOAL, note="no such stage")
    text = table(
        [
            PartResult(part="unpacking", rows=(ratio(1.0, 1.2, 1.1), missing)),
            PartResult(part="memory", problem="OSError: disk full"),
        ]
    )
    lines = text.splitlines()
    assert "1.100    1.000    1.200" in next(line for line in lines if "ratio" in line)
    assert "not available" in next(line for line in lines if "faint" in line)
    assert "disk full" in lines[-1]
