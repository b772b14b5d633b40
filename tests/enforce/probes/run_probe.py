"""Runs one probe: ``run_probe.py MODULE NAME ARGUMENTS…``. A script is compiled at every start, an imported module is not."""

import importlib
import sys

module = importlib.import_module(sys.argv.pop(1))
module.main(vars(module))
