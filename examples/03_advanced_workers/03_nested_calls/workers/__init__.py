"""The workers of 03 Nested Calls, a package for each type."""
