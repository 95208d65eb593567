"""An OCPP 2.0.1 charging station made of the PyPI package `ocpp`: charge_point_201.py URL

Its own register, in Wh, is the truth about what was delivered.
"""

import asyncio
import sys
import uuid
from datetime import datetime, timezone

import websockets
from ocpp.routing import after, on
from ocpp.v201 import ChargePoint, call, call_result

from peer import commands, run, say


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Charger(ChargePoint):
    """One EVSE, one car."""

    register = 456_000
    transaction = None
    token = None
    remote_start_id = None
    seq_no = 0
    begin = 0
    plugged = False

    async def status(self, status):
        await self.call(
            call.StatusNotification(timestamp=now(), connector_status=status, evse_id=1, connector_id=1),
            suppress=False,
        )

    async def boot(self):
        answer = await self.call(
            call.BootNotification(charging_station={"model": "ocpp", "vendor_name": "PyPI"}, reason="PowerUp"),
            suppress=False,
        )
        assert answer.status == "Accepted", answer
        await self.status("Available")

    async def event(self, kind, trigger, context, state, **more):
        info = {"transaction_id": self.transaction, "charging_state": state, **more}
        if kind == "Started" and self.remote_start_id is not None:
            info["remote_start_id"] = self.remote_start_id
        answer = await self.call(
            call.TransactionEvent(
                event_type=kind,
                timestamp=now(),
                trigger_reason=trigger,
                seq_no=self.seq_no,
                transaction_info=info,
                evse={"id": 1, "connector_id": 1},
                id_token=self.token if kind == "Started" else None,
                meter_value=[
                    {
                        "timestamp": now(),
                        "sampled_value": [
                            {
                                "value": self.register,
                                "measurand": "Energy.Active.Import.Register",
                                "context": context,
                                "unit_of_measure": {"unit": "Wh"},
                            }
                        ],
                    }
                ],
            ),
            suppress=False,
        )
        self.seq_no += 1
        return answer

    async def plug(self):
        self.plugged = True
        await self.status("Occupied")
        if self.token:
            await self.begin_transaction()

    async def begin_transaction(self):
        self.transaction = str(uuid.uuid4())
        self.seq_no = 0
        self.begin = self.register
        answer = await self.event("Started", "RemoteStart", "Transaction.Begin", "Charging")
        assert answer.id_token_info is None or answer.id_token_info["status"] == "Accepted", answer
        say(event="started", transaction=self.transaction)

    async def deliver(self, wh):
        self.register += wh
        await self.event("Updated", "MeterValuePeriodic", "Sample.Periodic", "Charging")

    async def suspend(self):
        await self.event("Updated", "ChargingStateChanged", "Sample.Clock", "SuspendedEV")

    async def end_transaction(self, trigger, reason):
        if self.transaction is None:
            return
        await self.event("Ended", trigger, "Transaction.End", "EVConnected", stopped_reason=reason)
        self.transaction, self.token = None, None
        say(event="stopped", delivered=self.register - self.begin)

    async def unplug(self):
        await self.end_transaction("EVCommunicationLost", "EVDisconnected")
        self.plugged = False
        await self.status("Available")

    @on("RequestStartTransaction")
    async def on_start(self, id_token, remote_start_id, **_):
        self.token, self.remote_start_id = id_token, remote_start_id
        return call_result.RequestStartTransaction(status="Accepted")

    @after("RequestStartTransaction")
    async def after_start(self, **_):
        if self.plugged:
            await self.begin_transaction()

    @on("RequestStopTransaction")
    async def on_stop(self, transaction_id, **_):
        known = transaction_id == self.transaction
        return call_result.RequestStopTransaction(status="Accepted" if known else "Rejected")

    @after("RequestStopTransaction")
    async def after_stop(self, transaction_id, **_):
        if transaction_id == self.transaction:
            await self.end_transaction("RemoteStop", "Remote")

    @on("SetVariables")
    async def on_set(self, set_variable_data, **_):
        result = [
            {"attribute_status": "Accepted", "component": one["component"], "variable": one["variable"]}
            for one in set_variable_data
        ]
        return call_result.SetVariables(set_variable_result=result)

    @on("GetVariables")
    async def on_get(self, get_variable_data, **_):
        result = [
            {"attribute_status": "UnknownVariable", "component": one["component"], "variable": one["variable"]}
            for one in get_variable_data
        ]
        return call_result.GetVariables(get_variable_result=result)

    @on("GetBaseReport")
    async def on_report(self, **_):
        return call_result.GetBaseReport(status="NotSupported")

    @on("GetTransactionStatus")
    async def on_status(self, **_):
        return call_result.GetTransactionStatus(messages_in_queue=False)

    @on("TriggerMessage")
    async def on_trigger(self, **_):
        return call_result.TriggerMessage(status="NotImplemented")


async def main():
    url = sys.argv[1]
    async with websockets.connect(url, subprotocols=["ocpp2.0.1"], compression=None) as socket:
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
