"""`python -m osprey_nb.cli …` is `osprey-nb …`: what `accelerate launch -m` needs."""

import sys

from . import main

sys.exit(main())
