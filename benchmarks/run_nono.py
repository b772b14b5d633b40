"""nono-py as its users write it: read the system, write the workspace, no network. run_nono.py WORKSPACE COMMAND…"""

import os
import sys

from nono_py import AccessMode, CapabilitySet, sandboxed_exec

workspace, *command = sys.argv[1:]
rights = CapabilitySet()
for path in ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/proc", "/opt"):
    if os.path.isdir(path):
        rights.allow_path(path, AccessMode.READ)
rights.allow_path("/dev", AccessMode.READ)
rights.allow_file("/dev/null", AccessMode.READ_WRITE)
rights.allow_path(workspace, AccessMode.READ_WRITE)
rights.block_network()
done = sandboxed_exec(rights, command, cwd=workspace, env=[("PATH", os.environ["PATH"])])
sys.stdout.buffer.write(done.stdout)
sys.stderr.buffer.write(done.stderr)
sys.exit(done.exit_code)
