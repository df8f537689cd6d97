// What programs do with Anthropic's SDK for Node.js: `node - CASE BASE_URL KEY` prints one JSON object.

const [name, baseURL, apiKey] = process.argv.slice(2);
const { default: Anthropic } = await import("@anthropic-ai/sdk");
const { VERSION } = await import("@anthropic-ai/sdk/version");

const client = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
const messages = client.messages;

const QUESTION = "What time is it in Oslo, and what is 17 * 23?";
const BOTH = "What time is it in Oslo, and what is the weather in Paris and Rome?";
const WEATHER = {
  name: "get_weather",
  description: "The weather in a city",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

const ask = (content) => [{ role: "user", content }];
const body = (content, more = {}) => ({
  model: "demo-fast",
  max_tokens: 1000,
  messages: typeof content === "string" ? ask(content) : content,
  ...more,
});
const textOf = (message) =>
  message.content.map((block) => (block.type === "text" ? block.text : "")).join("");

/** Names of the gateway's tools with what they returned. */
function toolsOf(message) {
  const used = message.content.filter((block) => block.type === "server_tool_use");
  return used.map(({ id, input }) => {
    const result = message.content.find((block) => block.tool_use_id === id);
    return [input.code.split("(")[0], result.type, result.content.stdout];
  });
}

const show = (message) => ({
  id: message.id,
  text: textOf(message),
  tools: toolsOf(message),
  reason: message.stop_reason,
  usage: [message.usage.input_tokens, message.usage.output_tokens],
});

async function whole() {
  const message = await messages.create(body(QUESTION));
  return { ...show(message), request_id: message._request_id };
}

async function loop() {
  const stream = await messages.create(body("count to 5", { stream: true }));
  let text = "";
  const kinds = [];
  for await (const event of stream) {
    kinds.push(event.type);
    if (event.type === "content_block_delta") text += event.delta.text ?? "";
  }
  return { text, first: kinds[0], last: kinds.slice(-2) };
}

async function helper() {
  const stream = messages.stream(body(QUESTION));
  let text = "";
  const blocks = [];
  stream.on("text", (delta) => (text += delta));
  stream.on("contentBlock", (block) => blocks.push(block.type));
  const message = await stream.finalMessage();
  return { ...show(message), heard: text, blocks };
}

/** A turn that needs tools of both sides, until its end. */
async function tools(stream) {
  const history = ask(BOTH);
  const send = () => {
    const request = body(history, { tools: [WEATHER] });
    return stream ? messages.stream(request).finalMessage() : messages.create(request);
  };
  const first = await send();
  const calls = first.content.filter((block) => block.type === "tool_use");
  history.push({ role: "assistant", content: first.content });
  history.push({
    role: "user",
    content: calls.map(({ id, input }) => ({
      type: "tool_result",
      tool_use_id: id,
      content: `${input.city}: 17 degrees`,
    })),
  });
  const last = await send();
  return {
    reasons: [first.stop_reason, last.stop_reason],
    calls: calls.map(({ name, input }) => [name, input]),
    text: textOf(last),
  };
}

/** The SDK's own loop around a tool of the client. */
async function runner(stream) {
  const cities = [];
  const run = ({ city }) => {
    cities.push(city);
    return `${city}: 17 degrees`;
  };
  const message = await client.beta.messages
    .toolRunner(body(BOTH, { stream, tools: [{ ...WEATHER, run }] }))
    .runUntilDone();
  return { cities, text: textOf(message) };
}

async function parsed() {
  const schema = {
    type: "object",
    properties: { title: { type: "string" } },
    required: ["title"],
    additionalProperties: false,
  };
  const format = { type: "json_schema", schema };
  const message = await messages.create(body("A report on Oslo", { output_config: { format } }));
  return { keys: Object.keys(JSON.parse(textOf(message))) };
}

const count = () => messages.countTokens({ model: "demo-fast", messages: ask("Hello there") });

async function failed(request, key = apiKey) {
  const other = new Anthropic({ baseURL, apiKey: key, maxRetries: 0 });
  let text = "";
  try {
    if (request.stream) {
      for await (const event of await other.messages.create(request)) {
        if (event.type === "content_block_delta") text += event.delta.text ?? "";
      }
    } else {
      await other.messages.create(request);
    }
  } catch (error) {
    return [error.constructor.name, error.status ?? null, error.error?.error?.type, text];
  }
  return ["none"];
}

async function errors() {
  const on = (model, more = {}) => failed(body("count to 9", { model, ...more }));
  return {
    key: await failed(body("Hi"), "sk-wrong"),
    model: await on("gpt-none"),
    field: await on("demo-fast", { max_tokens: 0 }),
    limit: await on("demo-limit"),
    failure: await on("demo-fail"),
    break: await on("demo-break", { stream: true }),
    cut: await on("demo-cut", { stream: true }),
  };
}

async function slow() {
  return { text: await messages.stream(body("say hello there", { model: "demo-slow" })).finalText() };
}

async function abort() {
  const stream = messages.stream(body("Go on.", { model: "demo-long" }));
  const { response } = await stream.withResponse();
  await new Promise((resolve) => stream.once("text", resolve));
  stream.abort();
  await stream.done().catch(() => {});
  return { request_id: response.headers.get("request-id") };
}

async function leave() {
  const { data, response } = await messages
    .create(body("Go on.", { model: "demo-long", stream: true }))
    .withResponse();
  for await (const event of data) if (event.type === "content_block_delta") break;
  return { request_id: response.headers.get("request-id") };
}

const cases = {
  whole,
  loop,
  helper,
  tools: () => tools(false),
  tools_streamed: () => tools(true),
  runner: () => runner(false),
  runner_streamed: () => runner(true),
  parsed,
  count,
  errors,
  slow,
  abort,
  leave,
};
console.log(JSON.stringify({ version: VERSION, ...(await cases[name]()) }));
