"""What runs on load-balanced CPU workers: many requests at once, no queue, plain values and exceptions."""

from typing import Any

from runpod_flash import CpuLiveLoadBalancer, remote

cpu_config = CpuLiveLoadBalancer(
    name="03_05_load_balancer_cpu",
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
)


@remote(resource_config=cpu_config, method="GET", path="/cities/{name}")
async def city(name: str) -> dict[str, Any]:
    """Where a city lies. ValueError if it is not known."""
    known = {
        "amsterdam": (52.37, 4.90), "cairo": (30.04, 31.24), "lagos": (6.52, 3.38), "lima": (-12.05, -77.04),
        "mumbai": (19.08, 72.88), "nairobi": (-1.29, 36.82), "oslo": (59.91, 10.75), "quito": (-0.18, -78.47),
        "reykjavik": (64.15, -21.94), "sydney": (-33.87, 151.21), "tokyo": (35.68, 139.69), "toronto": (43.65, -79.38),
    }  # fmt: skip
    if name.lower() not in known:
        raise ValueError(f"no city is called {name}; there are {', '.join(sorted(known))}")
    latitude, longitude = known[name.lower()]
    return {"name": name.lower(), "latitude": latitude, "longitude": longitude}


@remote(resource_config=cpu_config, method="POST", path="/distance")
async def distance(start: tuple[float, float], end: tuple[float, float]) -> dict[str, float]:
    """Kilometres between two places, each a latitude and a longitude in degrees, along the surface of the earth."""
    import math

    (lat1, lon1), (lat2, lon2) = (tuple(map(math.radians, place)) for place in (start, end))
    half = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return {"kilometres": round(2 * 6371.0 * math.asin(math.sqrt(half)), 1)}
