"""`python -m binlogsync.cli`."""

import sys

from binlogsync.cli.main import main

sys.exit(main())
