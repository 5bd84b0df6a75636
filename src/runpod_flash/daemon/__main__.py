"""`python -m runpod_flash.daemon`."""

from __future__ import annotations

import sys

from runpod_flash.daemon.main import main

sys.exit(main())
