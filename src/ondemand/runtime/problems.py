"""What is wrong with a worker folder, in words for the person who has to mend it."""

from collections.abc import Iterable
from dataclasses import dataclass

from ondemand.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. *where*: the file and, after a colon, the key in it."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class PackageError(ConfigurationError):
    """The operator must act: the worker folder cannot be served as it is. One line per problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
