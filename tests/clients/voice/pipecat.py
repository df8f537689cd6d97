"""What Pipecat does with a model: `python pipecat.py CASE BASE_URL KEY` prints one JSON object."""

import asyncio
import json
import sys

from loguru import logger

logger.remove()

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema  # noqa: E402  # quiet before it begins
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema  # noqa: E402
from pipecat.frames.frames import (  # noqa: E402
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline  # noqa: E402
from pipecat.pipeline.worker import PipelineWorker  # noqa: E402
from pipecat.processors.aggregators.llm_context import LLMContext  # noqa: E402
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor  # noqa: E402
from pipecat.services.openai.llm import OpenAILLMService  # noqa: E402
from pipecat.workers.runner import WorkerRunner  # noqa: E402

CASE, BASE_URL, KEY = sys.argv[1:]
CALL = {"call": {"id": f"session-{CASE}"}, "customer": {"number": "+15550100001"}}
TOOLS = [
    FunctionSchema(name, f"{name} for the caller", {"reason": {"type": "string"}}, ["reason"])
    for name in ("end_call", "transfer_call")
]


class Ear(FrameProcessor):
    """Hears what a voice would say, up to the end of the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.said = ""
        self.over = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMTextFrame):
            self.said += frame.text
        elif isinstance(frame, LLMFullResponseEndFrame):
            self.over.set()
        await self.push_frame(frame, direction)


async def ask(
    text: str, model: str = "demo-fast", tools: list[FunctionSchema] | None = None
) -> object:
    service = OpenAILLMService(
        base_url=BASE_URL,
        api_key=KEY,
        settings=OpenAILLMService.Settings(model=model, extra={"extra_body": CALL}),
    )
    calls: list[object] = []

    async def take(params) -> None:
        calls.append((params.function_name, params.arguments))

    for tool in tools or []:
        service.register_function(tool.name, take)
    ear = Ear()
    context = LLMContext(
        [{"role": "user", "content": text}], **({"tools": ToolsSchema(tools)} if tools else {})
    )
    worker = PipelineWorker(Pipeline([service, ear]))
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await worker.queue_frame(LLMContextFrame(context))
    await asyncio.wait_for(ear.over.wait(), 30)
    for _ in range(100):
        if len(calls) == len(tools or []):
            break
        await asyncio.sleep(0.05)
    await runner.cancel()
    await running
    return {"text": ear.said, "calls": sorted(calls, key=str)}


CASES = {
    "text": lambda: ask("what is 17 * 23?"),
    "tools": lambda: ask("please end call and transfer call", tools=TOOLS),
    "limit": lambda: ask("what is 17 * 23?", "demo-limit"),
}

print(json.dumps(asyncio.run(CASES[CASE]())))
