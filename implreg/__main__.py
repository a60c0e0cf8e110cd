"""``python -m implreg``: the command line."""

import sys

from implreg.command import main

sys.exit(main())
