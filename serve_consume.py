"""Plays the consumer's role: pull the newest release of the channel, verify it, and serve it.

The same as `repo-api serve`; it listens on http://localhost:8000.
"""

import sys

from repo_api.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
