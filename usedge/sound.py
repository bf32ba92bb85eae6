"""Speed of sound from what a user knows: a number, a material, or water or air at a temperature."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from usedge.errors import InputError, known_name

MATERIALS = {
    "acrylic": 2730.0, "aluminium": 6320.0, "brass": 4430.0, "cast-iron-hard": 5600.0,
    "cast-iron-soft": 3500.0, "copper": 4660.0, "glycerin": 1920.0, "hdpe": 2460.0, "inconel": 5820.0,
    "ldpe": 2080.0, "lead": 2160.0, "motor-oil": 1740.0, "nickel": 5630.0, "nylon": 2600.0,
    "polystyrene": 2340.0, "pvc": 2395.0, "silicone": 1485.0, "stainless-steel": 5740.0, "steel": 5890.0,
    "tin": 3320.0, "titanium": 6100.0, "tungsten": 5180.0, "zinc": 4170.0, "zirconium": 4650.0,
}
"""Longitudinal speed in m/s: "Material Sound Velocities" in the Thickness Gage Tutorial of Olympus IMS (now
Evident), steel its 1020 and stainless steel its 302. A guide alone: alloy, grain and temperature move it."""
SYNONYMS = {"aluminum": "aluminium", "perspex": "acrylic", "pmma": "acrylic", "glycerine": "glycerin"}
PLAIN_C = 20.0
"""The temperature of ``water`` and ``air`` where none is given, °C."""

WATER_RANGE_C = (0.0, 95.0)
WATER = (1402.385, 5.038813, -5.799136e-2, 3.287156e-4, -1.398845e-6, 2.787860e-9)
"""W. Marczak, J. Acoust. Soc. Am. 102 (1997) 2776: coefficients of T⁰ … T⁵, T in °C (ITS-90)."""
WATER_SD_M_S = 0.025
"""What the formula itself may be wrong by: that of N. Bilaniuk and G. S. K. Wong, J. Acoust. Soc. Am. 93
(1993) 1609 and 99 (1996) 3257, lies within this of it everywhere between 0 and 95 °C."""

AIR_RANGE_C = (0.0, 30.0)
AIR_SD_SHARE = 300e-6
"""Uncertainty that O. Cramer states for his formula, as a share of the speed."""
ATMOSPHERE_PA = 101_325.0
CO2 = 4.0e-4
"""Mole fraction of carbon dioxide in air."""
PLAIN_HUMIDITY = 0.5

_TEMPERED = re.compile(r"(?P<degrees>[^,%C]+?)\s*°?C?(,(?P<humidity>[^,%]+)%)?\Z")
_DELTA_C = 0.01


@dataclass(frozen=True, slots=True)
class Stated:
    """A value and its standard uncertainty, None where nobody knows it."""

    value: float
    sd: float | None = None


@dataclass(frozen=True, slots=True)
class Speed:
    """A speed of sound in m/s, its standard uncertainty (None: unknown), and where it comes from."""

    m_s: float
    sd_m_s: float | None
    told: str


def stated(text: str, what: str, example: str) -> Stated:
    """Read ``VALUE``, ``VALUE+-SD`` or ``VALUE±SD``; raises InputError naming ``what`` and an example."""
    value, plus_minus, sd = text.replace("±", "+-").partition("+-")
    try:
        result = Stated(float(value), float(sd) if plus_minus else None)
    except ValueError:
        raise InputError(f"{what} {text!r} is no number.", f"Example: {example}.") from None
    if not math.isfinite(result.value) or (result.sd is not None and not 0 <= result.sd < math.inf):
        raise InputError(f"{what} {text!r} is no number to work with.", f"Example: {example}.")
    return result


def water_m_s(celsius: float) -> float:
    """Speed in pure water under one atmosphere, m/s, by Marczak (1997); raises InputError outside 0–95 °C."""
    _check_range("water", celsius, WATER_RANGE_C)
    return sum(coefficient * celsius**power for power, coefficient in enumerate(WATER))


def air_m_s(celsius: float, humidity: float = PLAIN_HUMIDITY) -> float:
    """Speed in air under one atmosphere, m/s, relative ``humidity`` 0..1; raises InputError outside 0–30 °C.

    O. Cramer, J. Acoust. Soc. Am. 93 (1993) 2510, eq. 15 and appendix.
    """
    _check_range("air", celsius, AIR_RANGE_C)
    if not 0 <= humidity <= 1:
        raise InputError(f"relative humidity {humidity * 100:g} % is not in 0 … 100 %.",
                         "Example: air@20C,45%.")
    t, p, xc, xw = celsius, ATMOSPHERE_PA, CO2, _water_vapour(celsius, humidity)
    return (331.5024 + 0.603055 * t - 0.000528 * t**2
            + (51.471935 + 0.1495874 * t - 0.000782 * t**2) * xw
            + (-1.82e-7 + 3.73e-8 * t - 2.93e-10 * t**2) * p
            + (-85.20931 - 0.228525 * t + 5.91e-5 * t**2) * xc
            - 2.835149 * xw**2 - 2.15e-13 * p**2 + 29.179762 * xc**2 + 0.000486 * xw * p * xc)


def _water_vapour(celsius: float, humidity: float) -> float:
    """Mole fraction of water vapour in the air."""
    kelvin = celsius + 273.15
    enhancement = 1.00062 + 3.14e-8 * ATMOSPHERE_PA + 5.6e-7 * celsius**2
    saturated_pa = math.exp(1.2811805e-5 * kelvin**2 - 1.9509874e-2 * kelvin + 34.04926034
                            - 6.3536311e3 / kelvin)
    return humidity * enhancement * saturated_pa / ATMOSPHERE_PA


def _check_range(fluid: str, celsius: float, limits: tuple[float, float]) -> None:
    low, high = limits
    if not low <= celsius <= high:
        raise InputError(f"{fluid} at {celsius:g} °C is outside its formula's {low:g} … {high:g} °C.",
                         "Give the speed of sound in m/s.")


def parse_speed(text: str) -> Speed:
    """The speed that ``text`` names: ``1482``, ``1482+-3``, ``steel``, ``steel+-30``, ``water@23.5C``,
    ``water@23.5+-0.2C``, ``air@20C,45%``.

    Without "+-" the uncertainty is unknown. Raises InputError for a speed that is not positive, an unknown
    material (naming the nearest known one) and a temperature out of range.
    """
    text = text.strip()
    if not text[:1].isalpha() or text.lower() in ("nan", "inf", "infinity"):
        speed = stated(text, "speed of sound", "--speed-of-sound 1482 (m/s), or water@20C")
        return _positive(text, speed, f"{speed.value:g} m/s")
    name, at, rest = text.partition("@")
    name, plus_minus, sd = name.replace("±", "+-").partition("+-")
    name = SYNONYMS.get(name.lower(), name.lower())
    known_name(name, ("water", "air", *MATERIALS), "material")
    if name in MATERIALS:
        if at:
            raise InputError(f"{name} has no formula for a temperature.", f"Give {name}, or a speed in m/s.")
        given = f"{MATERIALS[name]}{plus_minus}{sd}"
        return _positive(text, stated(given, f"speed of sound in {name}", "steel+-30"), name)
    if plus_minus:
        raise InputError(f"{text!r}: the uncertainty of {name} is that of its temperature.",
                         f"Example: {name}@20+-0.5C.")
    return _tempered(name, rest if at else f"{PLAIN_C:g}C")


def _positive(text: str, speed: Stated, told: str) -> Speed:
    if not speed.value > 0:
        raise InputError(f"speed of sound {text} m/s is not positive.", "Water at 20 °C: 1482.")
    return Speed(speed.value, speed.sd, told)


def _tempered(fluid: str, text: str) -> Speed:
    """The speed in water or air at ``text``, such as "23.5+-0.2C" or, for air, "20C,45%"."""
    example = f"{fluid}@23.5C or {fluid}@23.5+-0.2C"
    match = _TEMPERED.match(text)
    if match is None or (fluid == "water" and match["humidity"]):
        raise InputError(f"temperature {text!r} is not DEGREES C.", f"Example: {example}.")
    celsius = stated(match["degrees"], "temperature", example)
    if fluid == "water":
        return _at(water_m_s, celsius, WATER_RANGE_C, [WATER_SD_M_S], f"water at {celsius.value:g} °C")
    known = match["humidity"] is not None
    share = stated(match["humidity"], "humidity", "air@20C,45%").value / 100 if known else PLAIN_HUMIDITY
    speed = air_m_s(celsius.value, share)
    parts = [AIR_SD_SHARE * speed]
    if not known:
        # Any humidity is as likely as any other: a rectangle from dry to saturated.
        parts.append((air_m_s(celsius.value, 1.0) - air_m_s(celsius.value, 0.0)) / math.sqrt(12.0))
    told = f"air at {celsius.value:g} °C, {share * 100:g} % humidity{'' if known else ' assumed'}"
    return _at(lambda each: air_m_s(each, share), celsius, AIR_RANGE_C, parts, told)


def _at(formula: Callable[[float], float], celsius: Stated, limits: tuple[float, float], parts: list[float],
        told: str) -> Speed:
    """The formula's speed; its uncertainty is that of the temperature and the other ``parts`` together."""
    speed = formula(celsius.value)
    if celsius.sd is None:
        return Speed(speed, None, told)
    low, high = max(limits[0], celsius.value - _DELTA_C), min(limits[1], celsius.value + _DELTA_C)
    slope = (formula(high) - formula(low)) / (high - low)
    return Speed(speed, math.hypot(slope * celsius.sd, *parts), told)
