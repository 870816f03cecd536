import os
import subprocess
import sys

import pytest

from l2gnet.tables import read_rows

ONE_EPOCH = """
from pathlib import Path
from types import SimpleNamespace

from l2gnet.tables import read_rows
from l2gnet.training.history import History

history = History(Path("history.csv"))
metrics = {"loss": 1.0, "val_dice": 0.5, "val_dice_Vorh\\u00f6fe": 0.5}
trainer = SimpleNamespace(current_epoch=0, max_epochs=1, callback_metrics=metrics)
history.on_train_start(trainer, None)
history.on_train_epoch_end(trainer, None)
print(ascii(list(read_rows("history.csv")[0])[-1]))
"""


@pytest.mark.slow
def test_names_are_the_same_in_any_locale(tmp_path):
    plain = os.environ | {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", ONE_EPOCH]
    done = subprocess.run(command, cwd=tmp_path, env=plain, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == ascii("val_dice_Vorhöfe")
    assert "val_dice_Vorhöfe" in read_rows(tmp_path / "history.csv")[0]
