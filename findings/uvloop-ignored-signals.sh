#!/usr/bin/env bash
# Guess: a child process inherits ignored signals from its parent, as POSIX specifies for exec. So under `nohup`, or in a program that
# ignores SIGHUP, the tools that it starts also survive the end of the terminal; uvloop is a faster asyncio.
# What happens: asyncio's own loop complies. A child started by uvloop has every signal reset to its default, so SIGHUP terminates it
# while its parent keeps running.
# Packages: uvloop 0.23.0
# Source: https://pubs.opengroup.org/onlinepubs/9799919799/functions/exec.html
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check uvloop==0.23.0

cat > children.py << 'PYTHON'
import asyncio
import signal
import sys

import uvloop

SHOW = "import signal; print(signal.getsignal(signal.SIGHUP).name)"


async def in_child():
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", SHOW, stdout=asyncio.subprocess.PIPE)
    return (await child.communicate())[0].decode().strip()


signal.signal(signal.SIGHUP, signal.SIG_IGN)
actual = asyncio.run(in_child()), uvloop.run(in_child())
print(f"SIGHUP in the child of a parent that ignores it: {actual[0]} with asyncio's loop, {actual[1]} with uvloop")
if actual != ("SIG_IGN", "SIG_DFL"):
    sys.exit("Changed: expected SIG_IGN and SIG_DFL")
PYTHON
v/bin/python children.py
