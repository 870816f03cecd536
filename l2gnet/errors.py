"""The few errors a user can cause; each message states the rule, the value received and the remedy."""


class ConfigError(ValueError):
    """A setting, profile or parameter is unknown, of the wrong type or out of range."""


class VolumeError(ValueError):
    """An image, label map or data folder cannot be used as it is."""


class CheckpointError(ValueError):
    """A checkpoint is unreadable, incomplete or belongs to another model."""


class BusyError(ConfigError):
    """A run folder is in use by another process."""
