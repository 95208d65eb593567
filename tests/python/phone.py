"""A phone made of the PyPI package `nats-py`: phone.py NATS, the JSON object that a login answers."""

import asyncio
import json
import sys

import nats
from nats.errors import Error

from peer import commands, run, say

errors = asyncio.Queue()


async def heard(message):
    try:
        payload = json.loads(message.data)
    except ValueError:
        payload = message.data.decode(errors="replace")
    say(event=message.subject.rsplit(".", 1)[1], subject=message.subject, payload=payload, headers=message.headers)


async def on_error(error):
    await errors.put(str(error))


async def ended():
    say(event="ended")


async def refused(attempt):
    """Makes an attempt and gives the server's error, or None where it said nothing by the next round trip."""
    while not errors.empty():
        errors.get_nowait()
    try:
        await attempt
        try:
            # A server may end the connection of one who tries: the error comes first.
            return await asyncio.wait_for(errors.get(), 5)
        except asyncio.TimeoutError:
            return None
    except Error as error:
        return str(error)


async def main():
    login = json.loads(sys.argv[1])
    try:
        phone = await nats.connect(
            login["servers"].split(","),
            user=login["user"],
            password=login["pass"],
            error_cb=on_error,
            closed_cb=ended,
            allow_reconnect=False,
            connect_timeout=15,
        )
    except Exception as error:
        say(event="refused", error=str(error))
        return
    await phone.subscribe(login["topic"] + ".>", cb=heard)
    await phone.flush(15)
    say(event="subscribed")
    async for command in commands():
        do, tag = command["do"], command["tag"]
        if do == "subscribe":
            say(done=tag, error=await refused(phone.subscribe(command["subject"], cb=heard)))
        elif do == "publish":
            say(done=tag, error=await refused(phone.publish(command["subject"], b"{}")))
    await phone.close()


run(main())
