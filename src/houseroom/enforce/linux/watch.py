"""Keep masks and pins in place while the host changes its files (inotify(7)).

A mask is a mount on a path, and an editor's save on the host, a rename over it, takes the mount away in silence. init hears
of every name that appears in a watched directory and masks or pins it again. Between the host's rename and init's
mount lies a moment, well under a millisecond on an idle machine, in which the new file can be opened; THREATS.md says so.
Directories are better masked whole, and are: only secrets that are single files depend on this.
"""

from __future__ import annotations

import os
from stat import S_ISDIR, S_ISFIFO, S_ISLNK, S_ISREG

from houseroom.enforce.linux import inotify_sys, mount_sys
from houseroom.plan import steps as plan
from houseroom.policy.pattern import Pattern, components, is_glob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.enforce.linux.build import Build

_ST_RDONLY = 1
_DIRECTORIES_AT_A_TIME = 32


class Watcher:
    """Watches the parents of single secrets at once and the writable roots bit by bit while init is idle."""

    def __init__(self, step: plan.Watch, build: Build):
        self.build = build
        self.queue = inotify_sys.open_queue()
        self.directories: dict[int, bytes] = {}
        self.made_inside: set[tuple[int, int]] = set()  # FIFOs that init made for a command
        self.incomplete = False
        self.hide = [Pattern(components(text)) for text in step.hide]
        self.protect = [Pattern(components(text)) for text in step.protect]
        self.roots = [os.fsencode(root) for root in step.roots]
        self.names = {os.fsencode(p.parts[-1]) for p in (*self.hide, *self.protect) if not is_glob(p.parts[-1])}
        self.globs = [Pattern(p.parts[-1:]) for p in (*self.hide, *self.protect) if is_glob(p.parts[-1])]
        self.literal: dict[bytes, set[bytes]] = {}  # each ancestor of a named secret → the secrets below it
        for pattern in (*self.hide, *self.protect):
            if pattern.literal:
                self._arm(os.fsencode(str(pattern)))
        self.pending = list(self.roots)

    def _arm(self, path: bytes) -> None:
        """Watch the nearest existing ancestor of a path, and remember every ancestor as leading to it."""
        parent = os.path.dirname(path)
        while parent:
            self.literal.setdefault(parent, set()).add(path)
            if parent == b"/":
                break
            parent = os.path.dirname(parent)
        parent = os.path.dirname(path)
        while not os.path.isdir(parent):
            parent = os.path.dirname(parent)
        if not any(parent == root or parent.startswith(root + b"/") for root in self.roots):
            self._add(parent)  # inside the roots every directory is watched anyway

    def _add(self, directory: bytes) -> None:
        try:
            self.directories[inotify_sys.add_directory(self.queue, directory)] = directory
        except OSError as error:
            # Gone or unreadable: nothing can appear in it for us. ENOSPC: the user's limit, told at the end.
            self.incomplete = self.incomplete or error.errno == 28

    def walk(self) -> bool:
        """Watch some more directories of the writable roots; False when all are watched."""
        for _ in range(min(_DIRECTORIES_AT_A_TIME, len(self.pending))):
            self._enter(self.pending.pop())
        return bool(self.pending)

    def _enter(self, directory: bytes) -> None:
        """Watch first, then look: what appears in between is seen by one of the two."""
        self._add(directory)
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        self.pending.append(entry.path)
                    if self._interesting(entry.name):
                        self._settle(entry.path)
        except OSError:
            return

    def _interesting(self, name: bytes) -> bool:
        return name in self.names or (bool(self.globs) and any(glob.matches((os.fsdecode(name),)) for glob in self.globs))

    def hear(self) -> None:
        """Handle what has happened."""
        for watch, mask, name in inotify_sys.read_events(self.queue):
            if mask & inotify_sys.OVERFLOW:
                self.pending = list(self.roots)
                for path in {path for paths in self.literal.values() for path in paths}:
                    self._settle(path)
                continue
            directory = self.directories.get(watch)
            if directory is not None and name:
                self._appeared(directory.rstrip(b"/") + b"/" + name, name, is_directory=bool(mask & inotify_sys.IS_DIR))

    def _appeared(self, path: bytes, name: bytes, *, is_directory: bool) -> None:
        if self._interesting(name):
            self._settle(path)
        elif not is_directory:
            self._silence_fifo(path)
        if is_directory and any(path.startswith(root.rstrip(b"/") + b"/") for root in self.roots):
            self.pending.append(path)
        for secret in tuple(self.literal.get(path, ())):
            self._arm(secret)
            self._settle(secret)

    def _silence_fifo(self, path: bytes) -> None:
        try:
            found = os.lstat(path)
        except OSError:
            return
        if S_ISFIFO(found.st_mode) and (found.st_dev, found.st_ino) not in self.made_inside:
            self._mount(self.build.new_mask("file"), path)

    def _settle(self, path: bytes) -> None:
        """Bring a path into the state that the policy wants, if it is not."""
        parts = components(os.fsdecode(path))
        try:
            found = os.lstat(path)
            if S_ISLNK(found.st_mode):
                path = os.path.realpath(path)
                found = os.stat(path)
            if any(pattern.matches(parts) for pattern in self.hide):
                if found.st_dev != self.build.area_device and (S_ISDIR(found.st_mode) or S_ISREG(found.st_mode)):
                    self._mount(self.build.new_mask("dir" if S_ISDIR(found.st_mode) else "file"), path)
            elif any(pattern.matches(parts) for pattern in self.protect) and not os.statvfs(path).f_flag & _ST_RDONLY:
                tree = mount_sys.open_tree(path)
                mount_sys.mount_setattr(tree, on=mount_sys.RDONLY | mount_sys.NOSUID | mount_sys.NODEV)
                self._mount(tree, path)
        except OSError:
            return  # gone again: its next appearance is heard too

    def _mount(self, tree: int, path: bytes) -> None:
        try:
            mount_sys.move_mount(tree, path)
        finally:
            os.close(tree)
