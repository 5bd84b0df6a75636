"""How fast and how light this is, beside a yardstick of the same run: `make bench`."""
