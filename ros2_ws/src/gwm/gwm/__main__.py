"""The entry point: ``python -m gwm`` is the ``gwm`` command."""

import sys

from gwm.cli.main import main

sys.exit(main())
