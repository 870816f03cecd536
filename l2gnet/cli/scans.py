"""Scans one after the other: what is wrong with one is told in its turn, and ends no batch."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from l2gnet.checks import exists, require_path
from l2gnet.errors import VolumeError, unforeseen

if TYPE_CHECKING:
    from l2gnet.data.inputs import Input
    from l2gnet.data.volume import Volume


def named_scans(paths: Sequence[Path], channels: Sequence[str]) -> "list[Input]":
    """The scans that a user names; raises ConfigError where there is nothing at any of the paths."""
    if not any(map(exists, paths)):  # one that is not there beside others is told in its turn
        require_path(*paths)
    from l2gnet.data.inputs import find_inputs

    return find_inputs(paths, channels)


def each_scan(scans: "Sequence[Input]", work: "Callable[[Input, list[Volume]], None]") -> list[str]:
    """Work on the frames of each scan; the names of those where it failed, after a line for each that says why."""
    from l2gnet.data.inputs import read_inputs

    failed = []
    for scan, frames in read_inputs(scans):
        try:
            if isinstance(frames, Exception):
                raise frames
            work(scan, frames)
        except VolumeError as error:
            failed.append(scan.name)
            print(f"l2gnet: error: {error}", file=sys.stderr)
        except Exception as error:  # one scan must not take the others with it, whatever is wrong with it
            failed.append(scan.name)
            print(f"l2gnet: error: {scan.path}: {unforeseen(error)}", file=sys.stderr)
    return failed


def end_with(failed: Sequence[str], scans: "Sequence[Input]", what: str) -> None:
    """Count the scans of which no such thing was made, if there are any, and end with status 2."""
    if failed:
        names = ", ".join(failed[:10]) + ", ..." * (len(failed) > 10)
        print(f"l2gnet: {len(failed)} of {len(scans)} scans were not {what}: {names}", file=sys.stderr)
        sys.exit(2)
