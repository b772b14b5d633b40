"""System call numbers of the calls houseroom speaks about, for the machines it knows.

Source: arch/x86/entry/syscalls/syscall_64.tbl and scripts/syscall.tbl of Linux 6.18. A test compares them with the
system's kernel headers. From 424 on the numbers are the same on all machines.
"""

from __future__ import annotations

X86_64, AARCH64 = "x86_64", "aarch64"

ARCHITECTURES = {X86_64: 0xC000003E, AARCH64: 0xC00000B7}  # AUDIT_ARCH_*: ELF machine | 64 bit | little-endian

NEWEST = 469  # file_setattr, Linux 6.17: what comes after it was not looked at when the tables were written

NONE = -1  # the machine doesn't have the call
CALLS: tuple[tuple[str, int, int], ...] = (  # name, x86_64, aarch64
    ("open", 2, -1),
    ("ioctl", 16, 29),
    ("socket", 41, 198),
    ("connect", 42, 203),
    ("sendto", 44, 206),
    ("sendmsg", 46, 211),
    ("bind", 49, 200),
    ("socketpair", 53, 199),
    ("clone", 56, 220),
    ("execve", 59, 221),
    ("rename", 82, -1),
    ("mkdir", 83, -1),
    ("creat", 85, -1),
    ("link", 86, -1),
    ("symlink", 88, -1),
    ("chmod", 90, -1),
    ("fchmod", 91, 52),
    ("umask", 95, 166),
    ("ptrace", 101, 117),
    ("syslog", 103, 116),
    ("getppid", 110, 173),
    ("mknod", 133, -1),
    ("uselib", 134, -1),
    ("personality", 135, 92),
    ("setpriority", 141, 140),
    ("sched_setparam", 142, 118),
    ("sched_setscheduler", 144, 119),
    ("vhangup", 153, 58),
    ("modify_ldt", 154, -1),
    ("pivot_root", 155, 41),
    ("_sysctl", 156, -1),
    ("prctl", 157, 167),
    ("adjtimex", 159, 171),
    ("chroot", 161, 51),
    ("acct", 163, 89),
    ("settimeofday", 164, 170),
    ("mount", 165, 40),
    ("umount2", 166, 39),
    ("swapon", 167, 224),
    ("swapoff", 168, 225),
    ("reboot", 169, 142),
    ("sethostname", 170, 161),
    ("setdomainname", 171, 162),
    ("iopl", 172, -1),
    ("ioperm", 173, -1),
    ("init_module", 175, 105),
    ("delete_module", 176, 106),
    ("quotactl", 179, 60),
    ("nfsservctl", 180, 42),
    ("sched_setaffinity", 203, 122),
    ("lookup_dcookie", 212, 18),
    ("clock_settime", 227, 112),
    ("kexec_load", 246, 104),
    ("add_key", 248, 217),
    ("request_key", 249, 218),
    ("keyctl", 250, 219),
    ("ioprio_set", 251, 30),
    ("openat", 257, 56),
    ("mkdirat", 258, 34),
    ("mknodat", 259, 33),
    ("renameat", 264, 38),
    ("linkat", 265, 37),
    ("symlinkat", 266, 36),
    ("fchmodat", 268, 53),
    ("unshare", 272, 97),
    ("perf_event_open", 298, 241),
    ("fanotify_init", 300, 262),
    ("prlimit64", 302, 261),
    ("open_by_handle_at", 304, 265),
    ("clock_adjtime", 305, 266),
    ("sendmmsg", 307, 269),
    ("setns", 308, 268),
    ("process_vm_readv", 310, 270),
    ("process_vm_writev", 311, 271),
    ("kcmp", 312, 272),
    ("finit_module", 313, 273),
    ("sched_setattr", 314, 274),
    ("renameat2", 316, 276),
    ("seccomp", 317, 277),
    ("memfd_create", 319, 279),
    ("kexec_file_load", 320, 294),
    ("bpf", 321, 280),
    ("execveat", 322, 281),
    ("userfaultfd", 323, 282),
    ("pidfd_send_signal", 424, 424),
    ("io_uring_setup", 425, 425),
    ("io_uring_enter", 426, 426),
    ("io_uring_register", 427, 427),
    ("open_tree", 428, 428),
    ("move_mount", 429, 429),
    ("fsopen", 430, 430),
    ("fsconfig", 431, 431),
    ("fsmount", 432, 432),
    ("fspick", 433, 433),
    ("pidfd_open", 434, 434),
    ("clone3", 435, 435),
    ("openat2", 437, 437),
    ("pidfd_getfd", 438, 438),
    ("mount_setattr", 442, 442),
    ("quotactl_fd", 443, 443),
    ("landlock_create_ruleset", 444, 444),
    ("landlock_add_rule", 445, 445),
    ("landlock_restrict_self", 446, 446),
    ("fchmodat2", 452, 452),
    ("statmount", 457, 457),
    ("listmount", 458, 458),
    ("lsm_set_self_attr", 460, 460),
    ("open_tree_attr", 467, 467),
)


def numbers(machine: str) -> dict[str, int]:
    """Name → number on this machine, without the calls that it doesn't have. Raises ``KeyError`` for an unknown machine."""
    if machine not in ARCHITECTURES:
        raise KeyError(machine)
    if machine == X86_64:
        return {name: number for name, number, _ in CALLS if number != NONE}
    return {name: number for name, _, number in CALLS if number != NONE}
