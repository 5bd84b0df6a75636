"""The workers of 05 Load Balancer, a package for each type."""
