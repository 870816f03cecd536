"""The `l2gnet` command: its verbs, each a function of a file beside this one, and its errors, each one line."""

import errno
import os
import signal
import sys
from typing import NoReturn

from l2gnet.cli import data, privacy
from l2gnet.cli.audit import audit
from l2gnet.cli.codes import codes
from l2gnet.cli.doctor import doctor
from l2gnet.cli.evaluate import evaluate, seeds
from l2gnet.cli.group import Group
from l2gnet.cli.jobs import report, run, serve, sweep
from l2gnet.cli.models import export, info
from l2gnet.cli.notebooks import copy_out, lab
from l2gnet.cli.predict import predict
from l2gnet.cli.train import train
from l2gnet.cli.view import view, watch
from l2gnet.errors import CheckpointError, ConfigError, VolumeError
from l2gnet.extras import explained

VERBS = Group(
    "Discrete codes related by optimal transport, for medical segmentation.",
    {
        "data": Group(
            "Check a data folder, look at it, repair it, or prepare it for training.",
            {"check": data.check, "show": data.show, "repair": data.repair, "prepare": data.prepare},
        ),
        "view": view,
        "train": train,
        "watch": watch,
        "predict": predict,
        "evaluate": evaluate,
        "audit": audit,
        "codes": codes,
        "info": info,
        "export": export,
        "run": run,
        "sweep": sweep,
        "report": report,
        "app": serve,
        "notebooks": copy_out,
        "lab": lab,
        "seeds": seeds,
        "privacy": Group("Find what may identify a person, before anything is passed on.", {"check": privacy.check}),
        "doctor": doctor,
    },
)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_REMEDIES = dict.fromkeys(_NO_ROOM, "results must be written, got: {}; make room, or choose another folder")
_REMEDIES |= dict.fromkeys({errno.EACCES, errno.EPERM}, "it must be open to you, got: {}; change that, or name another")
_REMEDIES |= dict.fromkeys({errno.ENOTDIR, errno.EEXIST}, "it must be a folder, got: {}; name another")


def main() -> None:
    """Run the command line: status 2 and one clear line for a user's mistake, 1 for a job that failed.

    A job or sweep that SIGTERM ended has status 143, as shells and queues expect.
    """
    try:
        VERBS.run(sys.argv[1:], "l2gnet")
    except (ConfigError, VolumeError, CheckpointError) as error:
        _refuse(str(error))
    except ModuleNotFoundError as error:
        words = explained(error)
        if words is error:
            raise
        _refuse(str(words))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has: what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _refuse(where + _REMEDIES[error.errno].format(error.strerror))


def _refuse(words: str) -> NoReturn:
    print(f"l2gnet: error: {words}", file=sys.stderr)
    sys.exit(2)
