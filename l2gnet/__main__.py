"""`python -m l2gnet` is the `l2gnet` command."""

from l2gnet.cli.main import main

main()
