"""What all tests share."""

import sys
from pathlib import Path

# Oracles and fixtures are modules beside the tests that use them.
sys.path[:0] = [str(path) for path in Path(__file__).parent.iterdir() if path.is_dir()]
