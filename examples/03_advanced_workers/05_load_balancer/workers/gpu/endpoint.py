"""What runs on load-balanced GPU workers: one request at a time, since a card is there for one."""

from typing import Any

from runpod_flash import GpuGroup, LiveLoadBalancer, remote

gpu_config = LiveLoadBalancer(
    name="03_05_load_balancer_gpu",
    gpus=[GpuGroup.ANY],
    workersMin=0,
    workersMax=2,
    idleTimeout=300,
)


@remote(resource_config=gpu_config, method="POST", path="/power")
async def largest_eigenvalue(matrix: list[list[float]], steps: int = 200) -> dict[str, Any]:
    """The eigenvalue of a square matrix that is largest in size, by power iteration. ValueError if it is not square."""
    size = len(matrix)
    if any(len(row) != size for row in matrix):
        raise ValueError("the matrix is not square")

    vector = [1.0 + 0.01 * at for at in range(size)]
    value = 0.0
    for step in range(1, steps + 1):
        image = [sum(a * x for a, x in zip(row, vector, strict=True)) for row in matrix]
        pivot = max(image, key=abs)
        if pivot == 0:
            return {"eigenvalue": 0.0, "steps": step}
        vector = [x / pivot for x in image]
        if abs(pivot - value) <= 1e-12 * abs(pivot):
            return {"eigenvalue": round(pivot, 9), "steps": step}
        value = pivot
    return {"eigenvalue": round(value, 9), "steps": steps}
