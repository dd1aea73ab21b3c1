"""Starts swarmbench where the system refuses what a component needs: `refusing.py KIND arguments`.

`room` bounds every file to 1 MiB, as a full disk would; `io_uring` forbids its system call, as
containers do.
"""

from __future__ import annotations

import ctypes
import resource
import struct
import sys

from swarmbench.cli import main

FILE_MAX_BYTES = 1 << 20
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
#: The same number on every architecture.
_IO_URING_SETUP = 425
_EPERM = 1
#: Classic BPF over `struct seccomp_data`: load the number; where it is io_uring's, refuse.
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_FILTER = (
    (_LOAD_WORD, 0, 0, 0),
    (_JUMP_EQUAL, 0, 1, _IO_URING_SETUP),
    (_RETURN, 0, 0, _ERRNO | _EPERM),
    (_RETURN, 0, 0, _ALLOW),
)


def without_room() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_MAX_BYTES, FILE_MAX_BYTES))


def without_io_uring() -> None:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    code = b"".join(struct.pack("=HBBI", *each) for each in _FILTER)
    program = Program(len(_FILTER), code)
    library = ctypes.CDLL(None, use_errno=True)
    refused = library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or library.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    )
    if refused:
        raise OSError(ctypes.get_errno(), "the kernel takes no filter")


REFUSALS = {"room": without_room, "io_uring": without_io_uring}

if __name__ == "__main__":
    REFUSALS[sys.argv.pop(1)]()
    sys.exit(main())
