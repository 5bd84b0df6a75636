"""What is known of remote classes: they are taken for the classes themselves."""

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, remote


@remote(CpuLiveServerless(name="queue"))
class Model:
    LIMIT = 3

    def __init__(self, name: str) -> None:
        self.name = name

    async def predict(self, value: float) -> list[float]:
        return [value]

    def size(self) -> int:
        return 1


@remote(CpuLiveLoadBalancer(name="lb"))
class Served(Model):
    pass


async def main() -> None:
    model = Model("m")
    assert_type(await model.predict(1.0), list[float])
    assert_type(await Served("m").predict(1.0), list[float])
    assert_type(Model.LIMIT, int)
    await model.predict("text")  # E: arg-type
    Model(1)  # E: arg-type
    await model.size()  # E: misc
    await model.predict.spawn(1.0)  # E: attr-defined
    loose: Any = model
    await loose.predict.spawn(1.0)
