"""A stand-in for a model, so that the example runs without an account."""

import json
import re
from collections.abc import AsyncIterator

from agents import Model, ModelResponse
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseStreamEvent,
    ResponseTextDeltaEvent,
    ResponseUsage,
)
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails


class Rehearsal(Model):
    async def get_response(self, *args: object, **kwargs: object) -> ModelResponse:
        raise NotImplementedError("it is only streamed")

    async def stream_response(
        self, system_instructions: str | None, input: object, *args: object, **kwargs: object
    ) -> AsyncIterator[ResponseStreamEvent]:
        last = input[-1]
        told = last.get("output")
        number = re.search(r"\d+", str(last.get("content")))
        answer = told or ("Let me look. " if number else "Which order, please?")
        for place, word in enumerate(re.findall(r"\S+\s*", answer)):
            yield ResponseTextDeltaEvent(
                type="response.output_text.delta",
                delta=word,
                item_id="msg_1",
                output_index=0,
                content_index=0,
                sequence_number=place,
                logprobs=[],
            )
        text = ResponseOutputText(type="output_text", text=answer, annotations=[])
        output: list[ResponseOutputItem] = [
            ResponseOutputMessage(
                id="msg_1", type="message", role="assistant", status="completed", content=[text]
            )
        ]
        if number and not told:
            output.append(
                ResponseFunctionToolCall(
                    type="function_call",
                    call_id="call_1",
                    name="find_order",
                    arguments=json.dumps({"number": number[0]}),
                )
            )
        yield ResponseCompletedEvent(
            type="response.completed", sequence_number=99, response=_response(output, answer)
        )


def _response(output: list[ResponseOutputItem], answer: str) -> Response:
    written = len(answer.split())
    usage = ResponseUsage(
        input_tokens=20,
        input_tokens_details=InputTokensDetails(cached_tokens=0, cache_write_tokens=0),
        output_tokens=written,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=0),
        total_tokens=20 + written,
    )
    return Response(
        id="resp_1",
        created_at=0,
        model="rehearsal",
        object="response",
        output=output,
        parallel_tool_calls=True,
        tool_choice="auto",
        tools=[],
        usage=usage,
    )
