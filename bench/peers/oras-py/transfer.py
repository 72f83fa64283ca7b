"""Push and pull with oras-py as it is.

python transfer.py push REFERENCE FOLDER | python transfer.py pull REFERENCE FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import oras.client  # type: ignore[import-untyped]

if __name__ == "__main__":
    verb, reference, folder = sys.argv[1:]
    os.chdir(folder)
    client = oras.client.OrasClient(insecure=True)
    if verb == "push":
        client.push(target=reference, files=sorted(str(path) for path in Path().iterdir()))
    else:
        client.pull(target=reference, outdir=".")
