"""What GPUs cost in a month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from gpu_inference.errors import UserError

PRICES = Path(__file__).with_name("prices.yaml")
# A year's, as cloud calculators have it.
HOURS_A_MONTH = 730


@dataclass(frozen=True, slots=True)
class Prices:
    """Price of a GPU-hour by (accelerator, capacity), as of a day."""

    date: str
    currency: str
    hours: Mapping[tuple[str, str], float]

    def month(self, gpus: Mapping[tuple[str, str], int]) -> float | None:
        """A month of these GPUs; None where the price of one is not known."""
        if any(number and kind not in self.hours for kind, number in gpus.items()):
            return None
        return sum(number * self.hours[kind] * HOURS_A_MONTH for kind, number in gpus.items() if number)


def read_prices(path: Path = PRICES) -> Prices:
    """Prices of a file such as prices.yaml. UserError for what is none."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        hours = {
            (name, capacity): float(price)
            for name, prices in data["gpuHours"].items()
            for capacity, price in prices.items()
        }
        return Prices(str(data["date"]), str(data["currency"]), hours)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}", fix="name a file of prices") from error
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fix = "write date, currency and gpuHours: {<accelerator>: {onDemand: 1.0, spot: 0.4}}"
        raise UserError(f"{path} is no list of prices", fix=fix) from error
