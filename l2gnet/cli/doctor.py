"""`l2gnet doctor`: what is missing here, and what to do about it."""

import sys

from l2gnet.tables import text_table


def doctor() -> None:
    """Say what is installed, which GPU is seen, what is missing here and what to do; status 1 if it is needed."""
    from l2gnet.cli.examination import examine

    findings = examine()
    print(text_table([finding.as_row() for finding in findings]))
    wrong = sum(finding.wrong for finding in findings)
    if wrong:
        what = "1 thing that is needed is" if wrong == 1 else f"{wrong} things that are needed are"
        print(f"l2gnet: {what} missing", file=sys.stderr)
        sys.exit(1)
