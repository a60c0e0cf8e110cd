"""``python -m implreg``: the command line."""

import sys

from implreg.commands import main

sys.exit(main())
