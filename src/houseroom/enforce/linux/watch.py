"""Keep masks and pins in place while the host changes its files (inotify(7)).

A mask is a mount on a path, and an editor's save on the host, a rename over it, takes the mount away in silence. init hears
of every name that appears in a watched directory and masks or pins it again. Between the host's rename and init's
mount lies a moment, well under a millisecond on an idle machine, in which the new file can be opened; THREATS.md says so.
Directories are better masked whole, and are: only secrets that are single files depend on this.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from errno import ELOOP, ENOENT, ENOTDIR
from stat import S_ISDIR, S_ISFIFO, S_ISLNK, S_ISREG

from houseroom.enforce.linux import inotify_sys, mount_sys
from houseroom.plan import steps as plan
from houseroom.policy.model import HIDE
from houseroom.policy.pattern import components
from houseroom.policy.verdicts import Verdicts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.enforce.linux.build import Build

_ST_RDONLY = 1
_AT_A_TIME = 16


class Watcher:
    """Watches the parents of single secrets at once and the writable roots bit by bit while init is idle."""

    def __init__(self, step: plan.Watch, build: Build, made_fifos: set[tuple[int, int]]):
        self.step, self.build, self.made_fifos = step, build, made_fifos
        self.queue = inotify_sys.open_queue()
        self.secrets: set[tuple[int, int]] = set()
        self.inodes: set[int] = set()  # of the same, to tell most names apart without a look
        for secret in step.secrets:
            self._remember(*secret)
        self.incomplete = False
        self.directories: dict[int, bytes] = {}
        self.verdicts = Verdicts(step.rules)
        self.hidden = frozenset(map(os.fsencode, step.hidden))
        self.roots = [os.fsencode(root) for root in step.roots]
        self.ancestors: dict[bytes, set[bytes]] = {}  # each ancestor of a single hidden path → the hidden paths below it
        self.armed: set[bytes] = set()
        self._start_over()

    def _start_over(self) -> None:
        """First where single hidden files are, then the writable roots."""
        self.to_arm = list(self.hidden)
        self.pending = list(self.roots)

    def _arm(self, path: bytes) -> None:
        """Watch the nearest existing ancestor of a hidden path, then look whether it appeared before we listened."""
        parent = os.path.dirname(path)
        while parent != b"/":
            self.ancestors.setdefault(parent, set()).add(path)
            parent = os.path.dirname(parent)
        parent = os.path.dirname(path)
        if parent not in self.armed:
            while not os.path.isdir(parent):
                parent = os.path.dirname(parent)
            if parent not in self.armed:
                self.armed.add(parent)
                self._add(parent)
        self._settle(path)

    def _add(self, directory: bytes) -> None:
        try:
            self.directories[inotify_sys.add_directory(self.queue, directory)] = directory
        except OSError as error:
            # Gone or unreadable: nothing can appear in it for us. ENOSPC: the user's limit, told at the end.
            self.incomplete = self.incomplete or error.errno == 28

    @property
    def behind(self) -> bool:
        """Whether there is still something to begin to watch."""
        return bool(self.to_arm or self.pending)

    def walk(self) -> None:
        """Watch some more, so little that init stays quick to answer."""
        for _ in range(min(_AT_A_TIME, len(self.to_arm))):
            self._arm(self.to_arm.pop())
        if not self.to_arm:
            for _ in range(min(_AT_A_TIME, len(self.pending))):
                self._enter(self.pending.pop())

    def _enter(self, directory: bytes) -> None:
        """Watch first, then look: what appears in between, or since the host was asked, is seen by one of the two."""
        self._add(directory)
        try:
            with os.scandir(directory) as scanned:
                entries = list(scanned)
        except OSError:
            return
        for entry in entries:
            try:
                is_directory = entry.is_dir(follow_symlinks=False)
                odd = not is_directory and not entry.is_file(follow_symlinks=False) and not entry.is_symlink()
            except OSError:
                continue  # listed, and nobody may look at it or open it
            if is_directory:
                self.pending.append(entry.path)
            if self._interesting(entry.name):
                self._settle(entry.path)
            elif odd or entry.inode() in self.inodes:
                self._look_at(entry.path)

    def _remember(self, device: int, inode: int) -> None:
        self.secrets.add((device, inode))
        self.inodes.add(inode)

    def _interesting(self, name: bytes) -> bool:
        return self.verdicts.suspicious(os.fsdecode(name))

    def hear(self) -> None:
        """Handle what has happened."""
        for watch, mask, name in inotify_sys.read_events(self.queue):
            if mask & inotify_sys.OVERFLOW:
                self._start_over()
                continue
            directory = self.directories.get(watch)
            if directory is not None and name:
                self._appeared(directory.rstrip(b"/") + b"/" + name, name, is_directory=bool(mask & inotify_sys.IS_DIR))

    def _appeared(self, path: bytes, name: bytes, *, is_directory: bool) -> None:
        if self._interesting(name) or path in self.hidden:
            self._settle(path)
        elif not is_directory:
            self._look_at(path)
        if is_directory and any(path.startswith(root.rstrip(b"/") + b"/") for root in self.roots):
            self.pending.append(path)
        if path in self.ancestors:  # a directory on the way to a secret is new: what was watched by its path is another one
            self.armed = {known for known in self.armed if known != path and not known.startswith(path + b"/")}
        for secret in tuple(self.ancestors.get(path, ())):
            self._arm(secret)

    def _look_at(self, path: bytes) -> None:
        """A new name that says nothing: it may be a FIFO of the host, or a further name of a hidden file."""
        try:
            found = os.lstat(path)
        except OSError:
            return
        identity = (found.st_dev, found.st_ino)
        if (S_ISFIFO(found.st_mode) and identity not in self.made_fifos) or identity in self.secrets:
            self._mount(self.build.new_mask("file"), path)

    def _settle(self, path: bytes) -> None:
        """Bring a path into the state that the policy wants, if it is not."""
        access = HIDE if path in self.hidden else self.verdicts.access(components(os.fsdecode(path)))
        if access is None:
            return
        try:
            found = os.lstat(path)
            if S_ISLNK(found.st_mode):
                path = os.path.realpath(path)
                found = os.stat(path)
            if access == HIDE:
                if found.st_dev not in self.build.own_devices and (S_ISDIR(found.st_mode) or S_ISREG(found.st_mode)):
                    self._remember(found.st_dev, found.st_ino)
                    self._mount(self.build.new_mask("dir" if S_ISDIR(found.st_mode) else "file"), path)
            elif not os.statvfs(path).f_flag & _ST_RDONLY:
                tree = mount_sys.clone(_with_real_parents(path))
                mount_sys.mount_setattr(tree, on=mount_sys.RDONLY | mount_sys.NOSUID | mount_sys.NODEV)
                self._mount(tree, path)
        except OSError:
            return  # gone again: its next appearance is heard too

    def _mount(self, tree: int, path: bytes) -> None:
        """Attach where the path leads now: whoever puts a link on that meanwhile leads the mount nowhere else."""
        try:
            mount_sys.move_mount(tree, _with_real_parents(path))
        except OSError as error:
            if error.errno not in (ENOENT, ENOTDIR, ELOOP):
                raise
            return  # gone again
        finally:
            os.close(tree)


def _with_real_parents(path: bytes) -> bytes:
    parent, _, name = path.rpartition(b"/")
    return os.path.join(os.path.realpath(parent or b"/"), name)
