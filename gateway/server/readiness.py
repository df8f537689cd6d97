"""Whether to send requests here, and what is not as it should be beside that."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.server.operations import Operation, operation
from gateway.server.routes import json_response
from gateway.server.service import Service


@operation(Operation(summary="Whether to send requests here", open=True))
async def show_readiness(request: Request) -> Response:
    """Ready, unless it drains. Of what it depends on it tells only: an outage of the spreadsheet or of a
    server of tools is none of the gateway."""
    service: Service = request.app.state.service
    if service.calls.draining:
        return json_response({"status": "draining", "calls": len(service.calls)}, 503)
    answer: dict[str, object] = {"status": "ready", "calls": len(service.calls)}
    if service.mirror is not None:
        answer["mirror"] = service.mirror.status()
    if service.boxes:
        answer["servers"] = {box.name: box.status() for box in service.boxes}
    return json_response(answer)
