"""The mothership: the load-balanced endpoint that serves the routes of main.py when the app is deployed.

To deploy without one, delete this file or comment out the variable `mothership`.
"""

from runpod_flash import CpuLiveLoadBalancer

mothership = CpuLiveLoadBalancer(
    name="06_01_webhooks-mothership",
    workersMin=1,
    workersMax=3,
    env={"WEBHOOK_SECRET": None},  # the value of whoever deploys, from the environment or .env
)

# Scale to zero: nothing runs until the first request, which then waits for a worker to start.
#
# mothership = CpuLiveLoadBalancer(
#     name="06_01_webhooks-mothership",
#     workersMin=0,
#     workersMax=3,
#     idleTimeout=60,
# )

# More traffic: more replicas, and a new one for every 20 requests in flight.
#
# mothership = CpuLiveLoadBalancer(
#     name="06_01_webhooks-mothership",
#     workersMin=2,
#     workersMax=10,
#     scalerValue=20,
# )

# Routes that need a GPU themselves, instead of calling workers that have one.
#
# from runpod_flash import GpuGroup, LiveLoadBalancer
#
# mothership = LiveLoadBalancer(
#     name="06_01_webhooks-mothership",
#     gpus=[GpuGroup.ANY],
#     workersMin=1,
#     workersMax=3,
# )
