"""What a YAML scalar means to Helm.

Helm reads values with sigs.k8s.io/yaml 1.6.0: go.yaml.in/yaml v2.4.4 resolves scalars, then everything passes through
JSON, where every number is a float64. The rules here are `resolve` in that module's resolve.go; they differ from
PyYAML's (`y`, `0o17`, `1e3`, `12:30:45` …).
"""

from __future__ import annotations

import base64
import binascii
import math
import re

Scalar = str | int | float | bool | None

_TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
BOOLS = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)
NULLS = frozenset(("", "~", "null", "Null", "NULL"))
NOT_FINITE = (
    dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan)
    | {sign + word: math.inf for sign in ("", "+") for word in (".inf", ".Inf", ".INF")}
    | {f"-{word}": -math.inf for word in (".inf", ".Inf", ".INF")}
)

_PREFIX = "tag:yaml.org,2002:"
_TYPES = {"bool": bool, "int": int, "float": float, "null": type(None)}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
# Go's ParseFloat allows single underscores between digits; goyaml removes them only from what starts with a digit or
# a sign.
_DOT_FLOAT = re.compile(r"\.[0-9]+(_[0-9]+)*([eE][-+]?[0-9]+(_[0-9]+)*)?", re.ASCII)
_BASES = ((re.compile(r"0[xX][0-9a-fA-F]+"), 16), (re.compile(r"0[oO]?[0-7]+"), 8), (re.compile(r"0[bB][01]+"), 2))
_MOST_DIGITS = 20  # of 64 bits; Python itself refuses to read thousands
_DECIMAL = re.compile(r"0|[1-9][0-9]*", re.ASCII)


class ScalarError(ValueError):
    """A scalar Helm refuses; the text says why."""


def resolve(text: str, tag: str | None, plain: bool) -> Scalar:
    """The value of a scalar as Helm's templates see it. `plain` is false for quoted and block scalars.

    Integral numbers are ints whatever their spelling (`1e3` is 1000), as nobody behind Helm's float64 can tell.
    Raises ScalarError.
    """
    return _through_json(resolve_key(text, tag, plain))


def resolve_key(text: str, tag: str | None, plain: bool) -> Scalar:
    """The value of a map's key, which does not pass through JSON. Raises ScalarError."""
    if tag in (None, "") and not plain:
        return text
    kind = (tag or "").removeprefix(_PREFIX)
    if kind == "binary":
        return _binary(text)
    if tag and kind not in _TYPES:
        return text
    value = _implicit(text)
    wanted = _TYPES.get(kind)
    if wanted is float and type(value) is int:
        return value
    if tag and (wanted is None or type(value) is not wanted):
        raise ScalarError(f"cannot decode `{text}` as a !!{kind}")
    return value


def _implicit(text: str) -> Scalar:
    """A plain scalar by its looks; the order of the tries is goyaml's."""
    if text in NULLS:
        return None
    if text in BOOLS:
        return BOOLS[text]
    if text in NOT_FINITE:
        return NOT_FINITE[text]
    if text[0] == ".":
        return _float(text.replace("_", ""), text) if _DOT_FLOAT.fullmatch(text) else text
    if text[0] not in "+-0123456789":
        return text
    number = text.replace("_", "")
    integer = _integer(number)
    if integer is not None:
        return integer
    return _float(number, text) if _FLOAT.fullmatch(number) else text


def _integer(text: str) -> int | None:
    """Go's ParseInt and ParseUint with base 0: a sign only with 64 signed bits, prefixes 0x, 0o, 0b and a bare 0 for
    octal."""
    digits = text.lstrip("+-") if text[:1] in "+-" and text[1:2] not in "+-" else text
    base = next((base for pattern, base in _BASES if pattern.fullmatch(digits)), 10)
    if base == 10 and not (_DECIMAL.fullmatch(digits) and len(digits) <= _MOST_DIGITS):
        return None
    value = int(digits, base) * (-1 if text.startswith("-") else 1)
    highest = 2**63 if text[:1] in "+-" else 2**64
    return value if -(2**63) <= value < highest else None


def _float(number: str, text: str) -> float | str:
    value = float(number)
    # Go reports what overflows as an error, and the scalar stays a string.
    return text if math.isinf(value) else value


def _through_json(value: Scalar) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        raise ScalarError("not a finite number")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    number = float(value)
    return int(number) if number.is_integer() else number


def _binary(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8", "replace")
    except binascii.Error as error:
        raise ScalarError("!!binary value contains invalid base64 data") from error
