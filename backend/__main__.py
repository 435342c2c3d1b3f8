"""``python -m backend`` is ``asterisk-dialog``."""

import sys

from backend.cli import main

sys.exit(main())
