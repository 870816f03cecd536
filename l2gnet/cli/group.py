"""Verbs under one name: the one that the first word names is run, and no other is looked at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import tyro

from l2gnet.checks import nearest
from l2gnet.errors import ConfigError

Verb = Callable[..., None]


@dataclass(frozen=True)
class Group:
    """What the verbs of a group are for, and each by its name."""

    purpose: str
    verbs: Mapping[str, "Verb | Group"]

    def run(self, words: Sequence[str], name: str) -> None:
        """Run a command line that begins after the group's own name; without a verb, say which there are.

        Raises:
            ConfigError: there is no such verb.
        """
        if not words or words[0].startswith("-"):
            self._listing().cli(prog=name, description=self.purpose, args=words)
            return
        first, *others = words
        verb = self.verbs.get(first)
        if verb is None:
            raise ConfigError(f"{name} has no verb {first!r}{nearest(first, self.verbs)}")
        if isinstance(verb, Group):
            verb.run(others, f"{name} {first}")
        else:
            tyro.cli(verb, prog=f"{name} {first}", args=others)

    def _listing(self) -> tyro.extras.SubcommandApp:
        app = tyro.extras.SubcommandApp()
        for name, verb in self.verbs.items():
            if isinstance(verb, Group):
                app.command(verb._listing(), name=name, help=verb.purpose)
            else:
                app.command(name=name, help=(verb.__doc__ or "").partition("\n\n")[0])(verb)
        return app
