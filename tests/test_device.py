import subprocess
import sys
from pathlib import Path


def test_all_models_work_on_a_device_that_is_not_the_cpu():
    command = [sys.executable, Path(__file__).with_name("another_device.py")]
    ran = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    lines = ran.stdout.splitlines()
    assert lines[0] == "as it should: aten::add got tensors of two devices"
    assert [line.split(":")[0] for line in lines[1:]] == [
        "unet", "attn_unet", "vq_unet", "transunet", "synergynet", "l2gnet", "the mapper"
    ]  # fmt: skip
