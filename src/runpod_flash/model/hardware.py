"""Graphics cards, CPU sizes and places: enums whose members know their facts.

Every enum is one of strings, so `"ADA_24"` and `GpuGroup.ADA_24` are equal. Members are never removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

PRICE_SOURCE: Final = "Runpod's public documentation, the table of serverless GPU prices"
PRICE_DATE: Final = "2026-06-08"
"""The day the table last changed at its source. Flex prices, billed from a worker's start to its end."""

VCPU_PRICE: Final = 0.03 / 3600
"""US dollars for a vCPU and second. An assumption: no table has a price for workers without a card."""
VCPU_PRICE_SOURCE: Final = (
    "an assumption: $0.03 an hour, the example in the catalogue of Runpod's public OpenAPI document, mid-2026"
)


class _Word(str, Enum):
    """A string with a name: prints, formats and compares as its value."""

    def __str__(self) -> str:
        return str.__str__(self)

    def __format__(self, format_spec: str) -> str:
        return str.__format__(self, format_spec)


# ── graphics cards ────────────────────────────────────────────────────────────────────────────────


class GpuGroup(_Word):
    """Cards of one generation and memory size, as they are rented together."""

    ANY = "any"
    ADA_24 = "ADA_24"
    ADA_32_PRO = "ADA_32_PRO"
    ADA_48_PRO = "ADA_48_PRO"
    ADA_80_PRO = "ADA_80_PRO"
    AMPERE_16 = "AMPERE_16"
    AMPERE_24 = "AMPERE_24"
    AMPERE_48 = "AMPERE_48"
    AMPERE_80 = "AMPERE_80"
    HOPPER_141 = "HOPPER_141"
    BLACKWELL_96 = "BLACKWELL_96"
    BLACKWELL_180 = "BLACKWELL_180"

    @property
    def cards(self) -> tuple[str, ...]:
        """The names that its cards report; empty for ANY, which any card meets."""
        return _FACTS[self].cards

    @property
    def types(self) -> tuple[GpuType, ...]:
        """Its cards that can be asked for one by one."""
        return tuple(kind for kind in GpuType if kind.value in self.cards)

    @property
    def memory_gb(self) -> int | None:
        """The memory of one card in GB; None for ANY."""
        return _FACTS[self].memory_gb

    @property
    def price_per_second(self) -> float | None:
        """US dollars a second for one worker with one card; None where PRICE_SOURCE has none."""
        return _FACTS[self].price_per_second

    @property
    def price_per_hour(self) -> float | None:
        """US dollars an hour, from the price a second."""
        return None if self.price_per_second is None else round(self.price_per_second * 3600, 6)


class GpuType(_Word):
    """One model of card, by the name that it reports."""

    ANY = "any"
    NVIDIA_GEFORCE_RTX_4090 = "NVIDIA GeForce RTX 4090"
    NVIDIA_GEFORCE_RTX_5090 = "NVIDIA GeForce RTX 5090"
    NVIDIA_RTX_6000_ADA_GENERATION = "NVIDIA RTX 6000 Ada Generation"
    NVIDIA_H100_80GB_HBM3 = "NVIDIA H100 80GB HBM3"
    NVIDIA_RTX_A4000 = "NVIDIA RTX A4000"
    NVIDIA_RTX_A4500 = "NVIDIA RTX A4500"
    NVIDIA_RTX_4000_ADA_GENERATION = "NVIDIA RTX 4000 Ada Generation"
    NVIDIA_RTX_2000_ADA_GENERATION = "NVIDIA RTX 2000 Ada Generation"
    NVIDIA_RTX_A5000 = "NVIDIA RTX A5000"
    NVIDIA_L4 = "NVIDIA L4"
    NVIDIA_GEFORCE_RTX_3090 = "NVIDIA GeForce RTX 3090"
    NVIDIA_A40 = "NVIDIA A40"
    NVIDIA_RTX_A6000 = "NVIDIA RTX A6000"
    NVIDIA_A100_80GB_PCIe = "NVIDIA A100 80GB PCIe"
    NVIDIA_A100_SXM4_80GB = "NVIDIA A100-SXM4-80GB"
    NVIDIA_H200 = "NVIDIA H200"
    NVIDIA_B200 = "NVIDIA B200"

    @property
    def group(self) -> GpuGroup:
        """The group that it is rented with."""
        return next((group for group, facts in _FACTS.items() if self.value in facts.cards), GpuGroup.ANY)

    @property
    def cards(self) -> tuple[str, ...]:
        """The names that its cards report; empty for ANY, which any card meets."""
        return () if self is GpuType.ANY else (self.value,)

    @property
    def memory_gb(self) -> int | None:
        """The memory of one card in GB; None for ANY."""
        return self.group.memory_gb

    @property
    def price_per_second(self) -> float | None:
        """US dollars a second for one worker with one card, which is its group's price."""
        return self.group.price_per_second

    @property
    def price_per_hour(self) -> float | None:
        """US dollars an hour, from the price a second."""
        return self.group.price_per_hour


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What a group consists of and costs."""

    cards: tuple[str, ...]
    memory_gb: int | None
    price_per_second: float | None


_FACTS: Final[Mapping[GpuGroup, GpuFacts]] = MappingProxyType(
    {
        GpuGroup.ANY: GpuFacts((), None, None),
        GpuGroup.AMPERE_16: GpuFacts(
            (
                "NVIDIA RTX A4000",
                "NVIDIA RTX A4500",
                "NVIDIA RTX 4000 Ada Generation",
                "NVIDIA RTX 2000 Ada Generation",
            ),
            16,
            0.00016,
        ),
        GpuGroup.AMPERE_24: GpuFacts(("NVIDIA RTX A5000", "NVIDIA L4", "NVIDIA GeForce RTX 3090"), 24, 0.00019),
        GpuGroup.ADA_24: GpuFacts(("NVIDIA GeForce RTX 4090",), 24, 0.00031),
        GpuGroup.ADA_32_PRO: GpuFacts(("NVIDIA GeForce RTX 5090",), 32, None),
        GpuGroup.AMPERE_48: GpuFacts(("NVIDIA A40", "NVIDIA RTX A6000"), 48, 0.00034),
        GpuGroup.ADA_48_PRO: GpuFacts(("NVIDIA RTX 6000 Ada Generation", "NVIDIA L40", "NVIDIA L40S"), 48, 0.00053),
        GpuGroup.AMPERE_80: GpuFacts(("NVIDIA A100 80GB PCIe", "NVIDIA A100-SXM4-80GB"), 80, 0.00076),
        GpuGroup.ADA_80_PRO: GpuFacts(("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA H100 NVL"), 80, 0.00116),
        GpuGroup.BLACKWELL_96: GpuFacts(
            (
                "NVIDIA RTX PRO 6000 Blackwell Server Edition",
                "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
                "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
            ),
            96,
            0.00111,
        ),
        GpuGroup.HOPPER_141: GpuFacts(("NVIDIA H200",), 141, 0.00155),
        GpuGroup.BLACKWELL_180: GpuFacts(("NVIDIA B200",), 180, 0.0024),
    }
)


def cards_of(name: str) -> tuple[str, ...]:
    """The cards that meet a request for `name`, a group's or a type's value; empty means any card does."""
    if name == GpuGroup.ANY.value:
        return ()
    if name in GpuGroup.__members__:
        return GpuGroup[name].cards
    return (name,)


# ── processors ────────────────────────────────────────────────────────────────────────────────────


class CpuInstanceType(_Word):
    """A size of CPU worker: `cpu-<vCPUs>-<GB>`, with the generation where one is named.

    `CPU_n` has about 1 GB a vCPU, general-purpose sizes (3G) 4 GB, compute-optimised ones (3C, 5C) 2 GB.
    """

    ANY = "any"
    CPU_2 = "cpu-2-2"
    CPU_4 = "cpu-4-4"
    CPU_8 = "cpu-8-8"
    CPU_16 = "cpu-16-16"
    CPU_32 = "cpu-32-32"
    CPU3G_1_4 = "cpu3g-1-4"
    CPU3G_2_8 = "cpu3g-2-8"
    CPU3G_4_16 = "cpu3g-4-16"
    CPU3G_8_32 = "cpu3g-8-32"
    CPU3C_1_2 = "cpu3c-1-2"
    CPU3C_2_4 = "cpu3c-2-4"
    CPU3C_4_8 = "cpu3c-4-8"
    CPU3C_8_16 = "cpu3c-8-16"
    CPU5C_1_2 = "cpu5c-1-2"
    CPU5C_2_4 = "cpu5c-2-4"
    CPU5C_4_8 = "cpu5c-4-8"
    CPU5C_8_16 = "cpu5c-8-16"

    @property
    def vcpus(self) -> int | None:
        """How many vCPUs it has; None for ANY."""
        return None if self is CpuInstanceType.ANY else int(self.value.split("-")[1])

    @property
    def memory_gb(self) -> int | None:
        """Its memory in GB; None for ANY."""
        return None if self is CpuInstanceType.ANY else int(self.value.split("-")[2])


# ── software and places ───────────────────────────────────────────────────────────────────────────


class CudaVersion(_Word):
    """A version of CUDA that a worker's driver has to support."""

    V11_8 = "11.8"
    V12_0 = "12.0"
    V12_1 = "12.1"
    V12_2 = "12.2"
    V12_3 = "12.3"
    V12_4 = "12.4"
    V12_5 = "12.5"
    V12_6 = "12.6"
    V12_7 = "12.7"
    V12_8 = "12.8"
    V12_9 = "12.9"
    V13_0 = "13.0"


class DataCenter(_Word):
    """A place of the Runpod cloud. Without effect on your own machines."""

    US_CA_2 = "US-CA-2"
    US_GA_2 = "US-GA-2"
    US_IL_1 = "US-IL-1"
    US_KS_2 = "US-KS-2"
    US_MO_1 = "US-MO-1"
    US_MO_2 = "US-MO-2"
    US_NC_2 = "US-NC-2"
    US_NE_1 = "US-NE-1"
    US_WA_1 = "US-WA-1"
    EU_CZ_1 = "EU-CZ-1"
    EU_RO_1 = "EU-RO-1"
    EUR_NO_1 = "EUR-NO-1"


class ServerlessType(_Word):
    """How calls reach the workers: through a durable queue, or directly over HTTP."""

    QB = "QB"
    LB = "LB"


class ServerlessScalerType(_Word):
    """What the number of workers follows: how long jobs wait, or how many there are for each worker."""

    QUEUE_DELAY = "QUEUE_DELAY"
    REQUEST_COUNT = "REQUEST_COUNT"
