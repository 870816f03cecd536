"""The few errors a user can cause; each message states the rule, the value received and the remedy."""

from pathlib import Path

_LONGEST = 300  # characters of a value in a message


class ConfigError(ValueError):
    """A setting, profile or parameter is unknown, of the wrong type or out of range."""


class VolumeError(ValueError):
    """An image, label map or data folder cannot be used as it is."""


class CheckpointError(ValueError):
    """A checkpoint is unreadable, incomplete or belongs to another model."""


class BusyError(ConfigError):
    """A run folder is in use by another process."""


def volume_error(path: str | Path, rule: str, value: object, remedy: str) -> VolumeError:
    """Return the one error of a file that cannot be used: the file, the rule, the value found and the remedy."""
    found = str(value)
    found = found if len(found) <= _LONGEST else f"{found[:_LONGEST]}..."
    return VolumeError(f"{path}: {rule}; found {found}; {remedy}" + "." * (remedy[-1:] != "?"))


def unwritable(path: str | Path, error: OSError) -> VolumeError:
    """The error of a result that cannot be written."""
    return volume_error(path, "the result must be writable", error, "free space or name another folder")


def unforeseen(error: Exception) -> str:
    """What to say of an error that no rule knows, as of memory that ran out; its first line, and what to do."""
    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"[:_LONGEST]
    memory = isinstance(error, MemoryError) or "memory" in reason.lower()
    remedy = "free memory, or pass fewer slices at once (--batch-size)" if memory else "leave it out, and report this"
    return f"the scan could not be used; found {reason}; {remedy}."
