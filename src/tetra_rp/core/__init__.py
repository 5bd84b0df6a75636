"""Where earlier programs look for the resources: `tetra_rp.core.resources`."""
