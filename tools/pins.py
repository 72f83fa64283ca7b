"""The submodules' pins: show them, check them, move them, and give each history its own address.

Owns the gitlinks of the superproject and the merge commits that carry the pinned
histories; what is in those histories is each team's own affair.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTION = """\
repo-ml and repo-api are submodules. The superproject's own history carries theirs:
every pin is a merge commit whose second parent is the pinned commit."""
EPILOG = """\
examples:
  python tools/pins.py status           what is pinned, what is checked out
  python tools/pins.py check            what CI runs first; exit 1 with the reason
  python tools/pins.py bump repo-ml     pin the commit that repo-ml/ has checked out
  python tools/pins.py split git@example.org:edu
                                        push to edu/repo-ml.git, edu/repo-api.git and
                                        edu/edustream.git, which must exist and be empty

A commit made in a submodule exists nowhere else until it is bumped, and the bump pushed."""


class PinError(Exception):
    """A pin is not as it must be, or cannot be moved; the message says what to try next."""


@dataclass(frozen=True, slots=True)
class Submodule:
    """What `.gitmodules` says of a submodule, and the commit that `HEAD` pins."""

    name: str
    path: str
    pinned: str | None


def git(*arguments: str, cwd: Path = ROOT, index: Path | None = None) -> str:
    """Run git and return what it prints.

    Args:
        arguments: The command.
        cwd: The repository.
        index: The index to use in place of the repository's own.

    Raises:
        PinError: Git failed; the message is git's own.
    """
    chosen = {"GIT_INDEX_FILE": str(index)} if index else {}
    done = subprocess.run(
        ["git", *arguments],
        cwd=cwd,
        env=os.environ | chosen,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).replace("\n", "\n    ")
        message = f"git {' '.join(arguments)}\n    {said}"
        raise PinError(message)
    return done.stdout.strip()


def succeeds(*arguments: str, cwd: Path = ROOT) -> bool:
    """Ask git a question of which the exit code is the answer."""
    try:
        git(*arguments, cwd=cwd)
    except PinError:
        return False
    return True


def gitlinks() -> dict[str, str]:
    """Return every pin in `HEAD`: path to commit."""
    lines = [line.split(maxsplit=3) for line in git("ls-tree", "-r", "HEAD").splitlines()]
    return {path: commit for mode, _, commit, path in lines if mode == "160000"}


def submodules() -> list[Submodule]:
    """Return the submodules that the committed `.gitmodules` names."""
    if not succeeds("cat-file", "-e", "HEAD:.gitmodules"):
        message = "no .gitmodules is committed. Next: commit one that names repo-ml and repo-api"
        raise PinError(message)
    pins = gitlinks()
    pattern = r"^submodule\..*\.path$"
    found = git("config", "--blob", "HEAD:.gitmodules", "--get-regexp", pattern)
    pairs = [line.split(maxsplit=1) for line in found.splitlines()]
    return [
        Submodule(key.removeprefix("submodule.").removesuffix(".path"), path, pins.get(path))
        for key, path in pairs
    ]


def status() -> None:
    """Print a table: pinned, checked out, and how they differ."""
    rows = [("submodule", "pinned", "checked out", "state")]
    for submodule in submodules():
        folder = ROOT / submodule.path
        pinned = submodule.pinned or ""
        if not (folder / ".git").exists():
            rows.append((submodule.name, pinned[:10], "-", "not initialised: ./toxw run -e pins"))
            continue
        head = git("rev-parse", "HEAD", cwd=folder)
        rows.append((submodule.name, pinned[:10] or "-", head[:10], state(folder, pinned)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(row[i].ljust(widths[i]) for i in range(3)), row[3]]))


def state(folder: Path, pinned: str) -> str:
    """Say how a checked-out submodule differs from its pin."""
    words = []
    if not pinned:
        words.append("never pinned")
    elif not succeeds("cat-file", "-e", f"{pinned}^{{commit}}", cwd=folder):
        words.append("lacks the pinned commit: git submodule update")
    else:
        counts = git("rev-list", "--left-right", "--count", f"{pinned}...HEAD", cwd=folder)
        behind, ahead = counts.split()
        words += [f"{ahead} ahead"] if ahead != "0" else []
        words += [f"{behind} behind"] if behind != "0" else []
    words += ["dirty"] if git("status", "--porcelain", cwd=folder) else []
    return ", ".join(words) or "at its pin"


def check() -> None:
    """Make sure that the history carries every pin, and that the histories are apart.

    Raises:
        PinError: The first reason found why they are not.
    """
    if git("rev-parse", "--is-shallow-repository") == "true":
        message = "a shallow clone lacks the pinned histories. Next: git fetch --unshallow"
        raise PinError(message)
    named = submodules()
    if unnamed := sorted(gitlinks().keys() - {submodule.path for submodule in named}):
        message = f"{unnamed[0]}: pinned, but .gitmodules does not name it. Next: add it there"
        raise PinError(message)

    seen = dict.fromkeys(git("rev-list", "--first-parent", "HEAD").split(), "the superproject")
    for submodule in named:
        name, pinned = submodule.name, submodule.pinned
        if pinned is None:
            message = (
                f"{name}: .gitmodules names it, but there is no gitlink at {submodule.path}. "
                f"Next: python tools/pins.py bump {name}"
            )
            raise PinError(message)
        if not succeeds("merge-base", "--is-ancestor", pinned, "HEAD"):
            message = (
                f"{name}: the pinned commit {pinned[:10]} is not an ancestor of HEAD, so a clone "
                "would not carry it. Next: take back the commit that moved the pin, then "
                f"python tools/pins.py bump {name}"
            )
            raise PinError(message)
        history = git("rev-list", pinned).split()
        if shared := next((commit for commit in history if commit in seen), None):
            message = (
                f"{name}: its history shares commit {shared[:10]} with {seen[shared]}. "
                "Next: pin a commit of a history of its own"
            )
            raise PinError(message)
        seen |= dict.fromkeys(history, name)
    print("pins: " + ", ".join(f"{s.name} {(s.pinned or '')[:10]}" for s in named) + ": in order")


def bump(name: str) -> None:
    """Pin the commit that a submodule has checked out, by one merge commit.

    Raises:
        PinError: There is no such submodule, it or the index has uncommitted changes,
            or its `HEAD` does not build on the commit pinned before.
    """
    submodule = next((s for s in submodules() if s.name == name), None)
    if submodule is None:
        names = ", ".join(s.name for s in submodules())
        message = f"{name}: no such submodule. Next: name one of {names}"
        raise PinError(message)
    folder, pinned = ROOT / submodule.path, submodule.pinned
    if not (folder / ".git").exists():
        message = f"{name}: not initialised. Next: git submodule update --init {submodule.path}"
        raise PinError(message)
    if changed := git("status", "--porcelain", cwd=folder):
        message = f"{name}: uncommitted changes. Next: commit or stash them there\n{changed}"
        raise PinError(message)
    if not succeeds("diff", "--cached", "--quiet"):
        message = "the superproject has staged changes. Next: commit or unstage them"
        raise PinError(message)
    new = git("rev-parse", "HEAD", cwd=folder)
    if new == pinned:
        print(f"{name}: already pinned at {new[:10]}")
        return
    if pinned and not succeeds("merge-base", "--is-ancestor", pinned, new, cwd=folder):
        message = (
            f"{name}: {new[:10]} does not build on the pinned commit {pinned[:10]}. "
            f"Next: git submodule update --rebase {submodule.path}"
        )
        raise PinError(message)

    subject, *others = git(
        "log", "--format=%s", f"{pinned}..{new}" if pinned else new, cwd=folder
    ).splitlines()
    text = f"{name}: {subject}\n\n" + "".join(f"- {line}\n" for line in others)
    git("fetch", "--quiet", "--no-tags", str(folder), "HEAD")
    git("merge", "--quiet", "-s", "ours", "--no-commit", "--allow-unrelated-histories", new)
    try:
        git("update-index", "--add", "--cacheinfo", f"160000,{new},{submodule.path}")
        git("commit", "--quiet", "-m", text)
    except PinError:
        git("merge", "--abort")
        raise
    print(f"{name}: {(pinned or 'nothing')[:10]} -> {new[:10]}  {subject}")


def split(base: str) -> None:
    """Push each history to a remote of its own, and the superproject beside them.

    Nothing changes here: the commit with the rewritten `.gitmodules` is made for
    the push alone, on no branch.

    Raises:
        PinError: The pins are not in order, or a remote refused.
    """
    check()
    base, named = base.rstrip("/"), submodules()
    with tempfile.TemporaryDirectory() as scratch:
        modules, index = Path(scratch, "gitmodules"), Path(scratch, "index")
        modules.write_text(git("show", "HEAD:.gitmodules") + "\n", encoding="utf-8")
        for name in (submodule.name for submodule in named):
            git("config", "-f", str(modules), f"submodule.{name}.url", f"../{name}.git")
            git("config", "-f", str(modules), f"submodule.{name}.branch", "main")
        blob = git("hash-object", "-w", str(modules))
        git("read-tree", "HEAD", index=index)
        git("update-index", "--cacheinfo", f"100644,{blob},.gitmodules", index=index)
        tree = git("write-tree", index=index)
    text = "Take each submodule from its own address"
    top = git("commit-tree", tree, "-p", "HEAD", "-m", text)
    pushes = [(submodule.name, submodule.pinned or "") for submodule in named]
    for name, commit in [*pushes, ("edustream", top)]:
        address = f"{base}/{name}.git"
        try:
            git("push", "--quiet", address, f"{commit}:refs/heads/main")
        except PinError as error:
            message = f"{error}\nNext: make sure that {address} exists, is empty and is yours"
            raise PinError(message) from error
        print(f"{name}: {commit[:10]} -> {address} main")


def main() -> int:
    """Run the command that was asked for."""
    parser = argparse.ArgumentParser(
        prog="pins.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command, arguments, text in (
        (status, (), "a table: pinned, checked out, ahead, behind, dirty"),
        (check, (), "exit 1 with the reason if a pin is not in order"),
        (bump, ("name",), "pin what a submodule has checked out"),
        (split, ("base",), "push each history to its own remote under BASE"),
    ):
        subparser = commands.add_parser(command.__name__, help=text, description=text)
        subparser.set_defaults(run=command)
        for argument in arguments:
            subparser.add_argument(argument, metavar=argument.upper())
    run = vars(parser.parse_args())
    command = run.pop("run")
    try:
        command(**run)
    except PinError as error:
        print(f"pins: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
