"""``python -m houseroom``, ``python -I -S src/houseroom`` and the installed command."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING and sys.platform != "win32":
    from typing import NoReturn

    from houseroom.bundle import Bundle

if sys.platform != "win32":

    def start(bundle: Bundle) -> NoReturn:
        """The installed command: carry out its command line, write the bundle that was wanted, and leave."""
        import posix

        status = main()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:  # whoever read our output has gone
            status = status or 1
        if bundle.missed and not sys.dont_write_bytecode:
            from houseroom.bundling import renew

            renew()
        posix._exit(status)  # the interpreter's tear-down would cost 1 ms and has nothing left to do

    def _open_streams() -> None:
        """A closed standard stream is an empty one: else a socket or file of ours would take its number."""
        import posix

        for fd, name in enumerate(("stdin", "stdout", "stderr")):
            try:
                posix.fstat(fd)
            except OSError:
                posix.set_inheritable(posix.open("/dev/null", posix.O_RDWR), True)  # noqa: FBT003 — it takes no keyword
                setattr(sys, name, open(fd, "w" if fd else "r", encoding="utf-8", closefd=False))  # noqa: SIM115 — it stays open


def main(argv: list[str] | None = None) -> int:
    """Run the command line; ``argv`` without the program's name. Returns the exit code."""
    if sys.platform == "linux":
        _open_streams()
        from houseroom.frontends.cli.main import main as command_line

        return command_line(sys.argv[1:] if argv is None else argv)
    sys.stderr.write("houseroom: can't enforce anything on this system: so far it needs Linux\n")
    return 125


if __name__ == "__main__":
    if not __package__:  # started by its path: the package's parent is looked at last, so nothing there stands in for the standard library
        package = __file__.rpartition("/")[0]
        sys.path[:] = [entry for entry in sys.path if entry != package] + [package.rpartition("/")[0] or "/"]
    sys.exit(main())
