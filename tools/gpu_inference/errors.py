"""The one exception a user sees."""

from __future__ import annotations


class UserError(Exception):
    """A problem the user can fix: the command line prints it without a traceback.

    message: what is wrong, one line; fix: what to do about it; exit_code: 1 (findings) or 2 (usage or environment).
    """

    def __init__(self, message: str, fix: str = "", exit_code: int = 2) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.exit_code = exit_code
