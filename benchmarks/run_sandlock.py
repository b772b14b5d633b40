"""sandlock as its users write it: read the system, write the workspace, no network. run_sandlock.py WORKSPACE COMMAND…"""

import os
import sys

from sandlock import Sandbox

workspace, *command = sys.argv[1:]
readable = [path for path in ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/proc", "/dev", "/opt") if os.path.isdir(path)]
done = Sandbox(fs_readable=readable, fs_writable=[workspace, "/dev/null"]).run(command)
sys.stdout.buffer.write(done.stdout or b"")
sys.stderr.buffer.write(done.stderr or b"")
sys.exit(0 if done.success else 1)
