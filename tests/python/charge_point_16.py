"""An OCPP 1.6 charging point made of the PyPI package `ocpp`: charge_point_16.py URL

Its own register, in Wh, is the truth about what was delivered.
"""

import asyncio
import sys
from datetime import datetime, timezone

import websockets
from ocpp.routing import after, on
from ocpp.v16 import ChargePoint, call, call_result

from peer import commands, run, say


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Charger(ChargePoint):
    """One connector, one car."""

    register = 123_000
    transaction = None
    tag = None
    begin = 0
    plugged = False

    async def status(self, status):
        await self.call(
            call.StatusNotification(connector_id=1, error_code="NoError", status=status, timestamp=now()),
            suppress=False,
        )

    async def boot(self):
        answer = await self.call(
            call.BootNotification(charge_point_vendor="PyPI", charge_point_model="ocpp"), suppress=False
        )
        assert answer.status == "Accepted", answer
        await self.status("Available")

    async def plug(self):
        self.plugged = True
        await self.status("Preparing")
        if self.tag:
            await self.begin_transaction()

    async def begin_transaction(self):
        self.begin = self.register
        answer = await self.call(
            call.StartTransaction(connector_id=1, id_tag=self.tag, meter_start=self.register, timestamp=now()),
            suppress=False,
        )
        self.transaction = answer.transaction_id
        assert answer.id_tag_info["status"] == "Accepted", answer
        await self.status("Charging")
        say(event="started", transaction=self.transaction)

    async def deliver(self, wh):
        self.register += wh
        await self.call(
            call.MeterValues(
                connector_id=1,
                transaction_id=self.transaction,
                meter_value=[
                    {
                        "timestamp": now(),
                        "sampledValue": [
                            {"value": str(self.register), "measurand": "Energy.Active.Import.Register", "unit": "Wh"}
                        ],
                    }
                ],
            ),
            suppress=False,
        )

    async def end_transaction(self, reason):
        if self.transaction is None:
            return
        transaction, self.transaction, self.tag = self.transaction, None, None
        await self.call(
            call.StopTransaction(
                transaction_id=transaction, meter_stop=self.register, timestamp=now(), reason=reason
            ),
            suppress=False,
        )
        await self.status("Finishing")
        say(event="stopped", delivered=self.register - self.begin)

    async def unplug(self):
        await self.end_transaction("EVDisconnected")
        self.plugged = False
        await self.status("Available")

    async def suspend(self):
        await self.status("SuspendedEV")

    @on("RemoteStartTransaction")
    async def on_remote_start(self, id_tag, **_):
        self.tag = id_tag
        return call_result.RemoteStartTransaction(status="Accepted")

    @after("RemoteStartTransaction")
    async def after_remote_start(self, **_):
        if self.plugged:
            await self.begin_transaction()

    @on("RemoteStopTransaction")
    async def on_remote_stop(self, transaction_id):
        known = transaction_id == self.transaction
        return call_result.RemoteStopTransaction(status="Accepted" if known else "Rejected")

    @after("RemoteStopTransaction")
    async def after_remote_stop(self, transaction_id):
        if transaction_id == self.transaction:
            await self.end_transaction("Remote")

    @on("ChangeConfiguration")
    async def on_change_configuration(self, **_):
        return call_result.ChangeConfiguration(status="Accepted")

    @on("GetConfiguration")
    async def on_get_configuration(self, key=None, **_):
        return call_result.GetConfiguration(unknown_key=key or [])

    @on("TriggerMessage")
    async def on_trigger(self, **_):
        return call_result.TriggerMessage(status="NotImplemented")


async def main():
    url = sys.argv[1]
    async with websockets.connect(url, subprotocols=["ocpp1.6"], compression=None) as socket:
        charger = Charger(url.rsplit("/", 1)[1], socket)
        reader = asyncio.create_task(charger.start())
        async for command in commands():
            do, tag = command.pop("do"), command.pop("tag")
            if reader.done():
                reader.result()
            await getattr(charger, do)(**command)
            say(done=tag)
        reader.cancel()


run(main())
