from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from usedge.errors import InputError
from usedge.sound import MATERIALS, air_m_s, parse_speed, stated, water_m_s

BILANIUK_WONG = (1.40238744e3, 5.03836171, -5.81172916e-2, 3.34638117e-4, -1.48259672e-6, 3.16585020e-9)
"""Their 148-point polynomial, an independent fit of the same quantity on the same temperature scale."""


def test_water_agrees_with_the_other_published_formula_over_its_whole_range() -> None:
    for tenths in range(0, 951, 5):
        celsius = tenths / 10
        other = sum(each * celsius**power for power, each in enumerate(BILANIUK_WONG))
        assert water_m_s(celsius) == pytest.approx(other, abs=0.025)


def test_water_agrees_with_measured_values() -> None:
    # Del Grosso and Mader, J. Acoust. Soc. Am. 52 (1972) 1442.
    assert water_m_s(0.0) == pytest.approx(1402.388, abs=0.01)
    assert water_m_s(20.0) == pytest.approx(1482.343, abs=0.05)


def test_air_agrees_with_the_ideal_gas_and_grows_with_humidity() -> None:
    for celsius in (0.0, 10.0, 20.0, 30.0):
        ideal = math.sqrt(1.4 * 8.314462618 * (celsius + 273.15) / 28.9652e-3)
        assert air_m_s(celsius, 0.0) == pytest.approx(ideal, rel=1e-3)
        assert air_m_s(celsius, 0.0) < air_m_s(celsius, 0.5) < air_m_s(celsius, 1.0)
    assert air_m_s(20.0, 0.5) == pytest.approx(343.99, abs=0.02)  # the National Physical Laboratory's page


@pytest.mark.parametrize(("text", "speed", "sd"), [
    ("1482", 1482.0, None), ("1482+-3", 1482.0, 3.0), ("1482±3", 1482.0, 3.0), ("steel", 5890.0, None),
    ("Aluminum", 6320.0, None), ("steel+-30", 5890.0, 30.0), ("water", water_m_s(20.0), None),
    ("water@23.5C", water_m_s(23.5), None), ("water@23.5 °C", water_m_s(23.5), None),
    ("air@20C,45%", air_m_s(20.0, 0.45), None),
])
def test_a_speed_by_number_material_or_temperature(text: str, speed: float, sd: float | None) -> None:
    found = parse_speed(text)
    assert found.m_s == pytest.approx(speed)
    assert found.sd_m_s == sd


def test_the_uncertainty_of_a_temperature_becomes_that_of_the_speed() -> None:
    slope = (water_m_s(24.0) - water_m_s(23.0)) / 1.0
    assert parse_speed("water@23.5+-0.2C").sd_m_s == pytest.approx(math.hypot(0.2 * slope, 0.025), rel=1e-3)
    known, unknown = parse_speed("air@20+-0.5C,50%"), parse_speed("air@20+-0.5C")
    assert known.m_s == unknown.m_s
    assert (known.sd_m_s or 0) < (unknown.sd_m_s or 0)  # without a humidity, any may be


@pytest.mark.parametrize(("text", "words"), [
    ("0", "not positive"), ("-3", "not positive"), ("nan", "no number"), ("inf", "no number"),
    ("", "no number"), ("1e400", "no number"), ("1482+-x", "no number"), ("1482+--3", "no number"),
    ("stel", "nearest known one is steel"), ("watr@20C", "nearest known one is water"),
    ("water@95.1C", "0 … 95"), ("water@-1C", "0 … 95"), ("air@31C", "0 … 30"), ("air@20C,145%", "145 %"),
    ("water@20C,50%", "20C,50%"), ("water@C", "'C'"), ("water@nan", "nan"), ("steel@20C", "no formula"),
    ("steel+-nan", "no number"), ("water+-3", "temperature"),
])
def test_what_is_no_speed_is_one_line_with_the_value(text: str, words: str) -> None:
    with pytest.raises(InputError) as error:
        parse_speed(text)
    assert words in str(error.value)
    assert error.value.next_step
    assert "\n" not in str(error.value)


def test_every_material_is_a_speed_by_its_name() -> None:
    for name, speed in MATERIALS.items():
        assert parse_speed(name).m_s == speed
        assert 1000 < speed < 10_000


def test_a_value_with_its_uncertainty() -> None:
    assert stated("-1.5+-0.25", "offset", "1").value == -1.5
    assert stated("-1.5+-0.25", "offset", "1").sd == 0.25
    with pytest.raises(InputError, match="offset 'x'"):
        stated("x", "offset", "1.85")


def test_the_table_of_materials_in_the_docs_is_this_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "distance.md").read_text()
    table = page.partition("<!-- materials: begin -->")[2].partition("<!-- materials: end -->")[0]
    assert {name: float(speed) for name, speed in re.findall(r"([a-z][a-z-]+) \| (\d+)", table)} == MATERIALS
