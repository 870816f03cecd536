"""How long the notebooks of the README take, written into it: the last column of its table, and the line below.

Run `OMP_NUM_THREADS=1 python benchmarks/readme_times.py` on a machine with two free cores, ten minutes. Each notebook
is run once by `l2gnet run`, with its default parameters; the time is that of the whole command. Name notebooks to run
only these. What else the machine does is named in the line, since it makes everything slower.
"""

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- times: by benchmarks/readme_times.py -->\n", "<!-- end of times -->\n"
_ROW = re.compile(r"^(\| \[`(\w+)`\].*\| )([^|]+)( \|)$", re.MULTILINE)
_BUSY = 0.5  # processes a core that wait or run before anything was started


def between(readme: str) -> str:
    """What of the README is written here.

    Raises:
        ValueError: it has no such place, or several.
    """
    if (readme.count(BEGIN), readme.count(END)) != (1, 1):
        raise ValueError(f"{README} must hold {BEGIN!r} and {END!r} once each; put them around the table of notebooks")
    return readme.partition(BEGIN)[2].partition(END)[0]


def times_in(readme: str) -> dict[str, str]:
    """The time of each notebook, as the table tells it."""
    return {name: words.strip() for _, name, words, _ in _ROW.findall(between(readme))}


def written(readme: str, times: Mapping[str, str], told: str) -> str:
    """The README with these times in its table, and below it where they were measured; others stay as they are."""
    table = _ROW.sub(lambda row: row[1] + times.get(row[2], row[3]) + row[4], between(readme).partition("\n\n")[0])
    head, tail = readme.partition(BEGIN)[0], readme.partition(END)[2]
    return f"{head}{BEGIN}{table}\n\n{told}\n{END}{tail}"


def in_words(seconds: float) -> str:
    """A time as a reader wants it: to five seconds, and from two minutes on to half a minute."""
    if seconds < 120:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"{round(seconds / 30) / 2:g} min"


def machine() -> str:
    """Where and beside what the times are measured."""
    cores = len(os.sched_getaffinity(0))
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    busy = os.getloadavg()[0] > _BUSY * cores
    state = "**busy with other work, so expect less**" if busy else "otherwise idle"
    return f"*Measured on {time.strftime('%d %B %Y')} with {cores} cores of {cpu}, {state}.*"


def main() -> None:
    told = machine()  # before there is work of our own
    times = {}
    for name in sys.argv[1:] or times_in(README.read_text()):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            command = [sys.executable, "-m", "l2gnet", "run", str(ROOT / "notebooks" / f"{name}.ipynb")]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            times[name] = in_words(time.perf_counter() - started)
        print(name, times[name], flush=True)
    README.write_text(written(README.read_text(), times, told))  # all at once: they were measured on one machine


if __name__ == "__main__":
    main()
