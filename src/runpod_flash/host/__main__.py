"""`python -m runpod_flash.host`."""

import sys

from runpod_flash.host.main import main

sys.exit(main())
