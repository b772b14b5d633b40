"""What the tests of the plan share."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for facts_kit, bpf_simulator
