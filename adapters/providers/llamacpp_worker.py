"""llama.cpp in a process of its own: what it does to itself, aborts included, it does not do to the gateway.

Run as a module with a path and settings. Requests come as lines of JSON on standard input, each answered
with lines that bear its `id`, the last of which has `end` or `error`. The process ends with its standard
input, whatever it is doing, so that it never outlives the gateway. `--check` instead of settings reads only
what a file says of its model. Whatever is not foreseen here ends the process; the gateway starts another.
"""

import codecs
import ctypes
import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import Protocol

import jinja2
import llama_cpp
from llama_cpp import Llama
from llama_cpp.llama_chat_format import ChatFormatterResponse, Jinja2ChatFormatter
from llama_cpp.llama_grammar import JSON_GBNF, LlamaGrammar

_TEMPLATE = "tokenizer.chat_template"
_ERROR = 4
"""The level of llama.cpp's own log that tells why it gives up (`GGML_LOG_LEVEL_ERROR`)."""


class Cancelled(Exception):
    """The client has left."""


class Refused(Exception):
    """The request is at fault."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Client(Protocol):
    """Whoever waits for an answer."""

    def check(self) -> None:
        """Raises `Cancelled` if nobody does any more."""
        ...


class Inbox:
    """Requests as they come, and whether the one at work is still wanted."""

    def __init__(self) -> None:
        self._requests: SimpleQueue[dict[str, object]] = SimpleQueue()
        self._cancelled: set[object] = set()
        self._current: object = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            request = json.loads(line)
            if "cancel" in request:
                self._cancelled.add(request["cancel"])
            else:
                self._requests.put(request)
        os._exit(0)  # the gateway is gone, or wants this to be gone

    def next(self) -> dict[str, object]:
        self._cancelled.discard(self._current)
        request = self._requests.get()
        self._current = request["id"]
        return request

    def check(self) -> None:
        if self._current in self._cancelled:
            raise Cancelled


class Model(Llama):
    """A model that looks between two parts of a prompt whether it is still wanted."""

    client: Client | None = None

    def eval(self, tokens: Sequence[int]) -> None:
        for start in range(0, len(tokens), self.n_batch):
            if self.client is not None:
                self.client.check()
            super().eval(tokens[start : start + self.n_batch])


class Speaker:
    """Answers one request at a time."""

    def __init__(self, model: Model, client: Client) -> None:
        self._model = model
        self._client = model.client = client
        # Any JSON: templates are asked of messages and tools as clients sent them.
        self._format: Callable[..., ChatFormatterResponse] = Jinja2ChatFormatter(
            template=model.metadata[_TEMPLATE],
            bos_token=_text_of(model, model.token_bos()),
            eos_token=_text_of(model, model.token_eos()),
        )

    def answer(self, request: Mapping[str, object]) -> Iterator[dict[str, object]]:
        options = request["options"]
        assert isinstance(options, dict)
        prompt = self._prompt(request)
        room = self._model.n_ctx() - len(prompt)
        if room <= 0:
            raise Refused(
                "context_length_exceeded",
                f"This model's maximum context length is {self._model.n_ctx()} tokens. However, your "
                f"messages resulted in {len(prompt)} tokens.",
            )
        limit = min(options.pop("max_tokens", room), room)
        text = Text(options.pop("stop", ()))
        grammar = self._grammar(options.pop("response_format", None))
        seed = options.pop("seed", None)
        self._model.set_seed(random.getrandbits(32) if seed is None else seed % 2**32)
        cached = Llama.longest_token_prefix(self._model._input_ids.tolist(), prompt)
        written, end = 0, "length"
        for token in self._model.generate(prompt, grammar=grammar, **options):
            self._client.check()
            if llama_cpp.llama_vocab_is_eog(self._model._model.vocab, token):
                end = "stop"
                break
            written += 1
            if piece := text.feed(self._model.detokenize([token])):
                yield {"text": piece}
            if text.stopped_by is not None:
                end = "stop"
                break
            if written >= limit:
                break
        if rest := text.rest():
            yield {"text": rest}
        usage = [len(prompt), written, min(cached, len(prompt) - 1)]
        yield {"end": end, "usage": usage, "stopped_by": text.stopped_by}

    def _prompt(self, request: Mapping[str, object]) -> list[int]:
        messages, tools = request["messages"], request["tools"]
        try:
            text = self._format(messages=messages, tools=tools or None).prompt
        except (jinja2.TemplateError, ValueError, TypeError) as error:
            raise Refused(
                "invalid_messages",
                f"The model's chat template does not take these messages: {error}",
            ) from error
        tokens: list[int] = self._model.tokenize(
            text.encode("utf-8", "replace"), add_bos=False, special=True
        )
        return tokens

    def _grammar(self, wanted: object) -> LlamaGrammar | None:
        match wanted:
            case {"type": "json_object"}:
                return LlamaGrammar.from_string(JSON_GBNF)
            case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
                return self._grammar_of(schema)
            case _:
                return None

    def _grammar_of(self, schema: object) -> LlamaGrammar:
        """Tried before it is used: the sampler ends the process over one that it cannot read."""
        refusal = Refused("invalid_schema", "llama.cpp cannot make a grammar of this JSON schema.")
        try:
            grammar = LlamaGrammar.from_json_schema(json.dumps(schema), verbose=False)
        except (ValueError, TypeError, KeyError, AssertionError, RecursionError) as error:
            raise refusal from error
        made = llama_cpp.llama_sampler_init_grammar(
            self._model._model.vocab, grammar._grammar.encode(), grammar._root.encode()
        )
        if not made:
            raise refusal
        llama_cpp.llama_sampler_free(made)
        return grammar


class Text:
    """Bytes of tokens into text: no half characters, and nothing of a stop sequence."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stopped_by: str | None = None
        self._stops = stops
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        """What may turn out to be the beginning of a stop sequence."""

    def feed(self, piece: bytes, *, final: bool = False) -> str:
        text = self._held + self._decoder.decode(piece, final)
        found = [(text.find(stop), stop) for stop in self._stops if stop in text]
        if found:
            at, self.stopped_by = min(found)
            self._held = ""
            return text[:at]
        keep = 0 if final else self._overlap(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        return "" if self.stopped_by is not None else self.feed(b"", final=True)

    def _overlap(self, text: str) -> int:
        """How much of the end of a text is the beginning of a stop sequence."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0


def main(path: str, settings: str) -> None:
    # Both come to all processes of a terminal or a service: the gateway decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    replies = os.dup(1)
    os.dup2(2, 1)  # whatever llama.cpp prints is no reply
    if settings == "--check":
        check(path)
        return
    inbox = Inbox()
    model = Model(path, verbose=False, **json.loads(settings))
    speaker = Speaker(model, inbox)
    while True:
        request = inbox.next()
        for line in _answered(speaker, request):
            os.write(replies, json.dumps({"id": request["id"], **line}).encode() + b"\n")


def _answered(speaker: Speaker, request: Mapping[str, object]) -> Iterator[dict[str, object]]:
    try:
        yield from speaker.answer(request)
    except Cancelled:
        yield {"end": "cancelled"}
    except Refused as refused:
        yield {"error": refused.code, "message": refused.message}


def check(path: str) -> None:
    """Ends the process with what is wrong with the file; so does llama.cpp, over some of them."""
    complaints: list[str] = []

    def listen(level: int, text: bytes, _: object) -> None:
        if level == _ERROR:
            complaints.append(text.decode(errors="replace").strip())

    listener = llama_cpp.llama_log_callback(listen)
    llama_cpp.llama_log_set(listener, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    if not model:
        # The first says the most. Before its colon there is the name of a function.
        why = complaints[0].partition(": ")[2] if complaints else ""
        sys.exit(why or "it is no model that llama.cpp can load")
    template = ctypes.create_string_buffer(1)
    if llama_cpp.llama_model_meta_val_str(model, _TEMPLATE.encode(), template, 1) < 0:
        sys.exit("it has no chat template")


def _text_of(model: Model, token: int) -> str:
    text: str = "" if token == -1 else model._model.token_get_text(token)
    return text


if __name__ == "__main__":
    main(*sys.argv[1:])
