"""What the peers share: commands come as JSON lines on standard input, answers go out as JSON lines."""

import asyncio
import json
import sys
import traceback


def say(**line):
    print(json.dumps(line), flush=True)


async def commands():
    """Yields the commands until standard input is closed."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


def run(main):
    """Runs a peer; what it did not expect is told as `failed`, which fails the test."""
    try:
        asyncio.run(main)
    except Exception as error:
        traceback.print_exc()
        say(failed=f"{type(error).__name__}: {error}")
        sys.exit(1)
