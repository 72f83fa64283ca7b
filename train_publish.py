"""The data scientist's part of the role play: train a model and publish it."""

import sys

from repo_ml.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["release", *sys.argv[1:]]))
