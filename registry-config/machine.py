"""What this machine is asked to do: programs are run, and their failure is one error.

Owns nothing of the registry; which programs, and why, is left to the callers.
"""

from __future__ import annotations

import os
import subprocess

ANSWER_SECONDS = 20


class LocalRegistryError(Exception):
    """The registry cannot be started, stopped or read; the message says what to try next."""


def run(*command: str, **variables: str) -> str:
    """Run a program to its end and return what it prints."""
    done = subprocess.run(
        command,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-1000:]
        message = f"{' '.join(command)}: exit {done.returncode}\n{said}"
        raise LocalRegistryError(message)
    return done.stdout.strip()


def succeeds(*command: str, seconds: float = ANSWER_SECONDS) -> bool:
    """Ask a program a question of which the exit code is the answer."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
