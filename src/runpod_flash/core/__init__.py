"""Where programs of an earlier generation look for the resources: `runpod_flash.core.resources`."""
