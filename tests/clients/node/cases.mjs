// What programs do with an SDK for Node.js: `node - SDK CASE BASE_URL KEY` prints one JSON object.
// SDK is `openai` (the newest) or `openai-4`, whose helpers are still in beta.

const [sdk, name, baseURL, apiKey] = process.argv.slice(2);
const { default: OpenAI } = await import(sdk);
const { VERSION } = await import(`${sdk}/version`);

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const completions = client.chat.completions;
const helpers = completions.stream ? completions : client.beta.chat.completions;

const QUESTION = "What time is it in Oslo, and what is 17 * 23?";
const BOTH = "What time is it in Oslo, and what is the weather in Paris?";
const PARAMETERS = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
};

const ask = (content) => [{ role: "user", content }];
const told = (chunk) =>
  chunk.tool_notification ? [[chunk.tool_notification.tool, chunk.tool_notification.status]] : [];

async function loop(headers = {}) {
  const { data, response } = await completions
    .create({ model: "demo-fast", messages: ask(QUESTION), stream: true }, { headers })
    .withResponse();
  let text = "";
  const notes = [];
  for await (const chunk of data) {
    text += chunk.choices[0].delta.content ?? "";
    notes.push(...told(chunk));
  }
  return {
    text,
    told: notes,
    dialect: response.headers.get("x-tool-notifications"),
    request_id: response.headers.get("x-request-id"),
  };
}

/** The same loop with the dialect that was made for the other version. */
async function named() {
  try {
    return await loop({ "X-Tool-Notifications": "named" });
  } catch (error) {
    return { error: error.constructor.name };
  }
}

async function helper() {
  const stream = helpers.stream({
    model: "demo-fast",
    messages: ask(QUESTION),
    stream_options: { include_usage: true },
  });
  let text = "";
  const notes = [];
  stream.on("content", (delta) => (text += delta));
  stream.on("chunk", (chunk) => notes.push(...told(chunk)));
  const final = await stream.finalChatCompletion();
  return {
    text,
    told: notes,
    whole: final.choices[0].message.content,
    reason: final.choices[0].finish_reason,
    tokens: (await stream.totalUsage()).completion_tokens,
  };
}

async function whole() {
  const answer = await completions.create({ model: "demo-fast", messages: ask(QUESTION) });
  return { text: answer.choices[0].message.content, request_id: answer._request_id };
}

async function usage() {
  const stream = await completions.create({
    model: "demo-fast",
    messages: ask("count to 5"),
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return {
    choices: chunks.map((chunk) => chunk.choices.length).slice(-2),
    usages: chunks.filter((chunk) => chunk.usage).length,
  };
}

/** The SDK's own loop around a tool of the client, in a turn that needs the gateway's clock too. */
async function tools(stream) {
  const cities = [];
  const runner = helpers.runTools({
    model: "demo-fast",
    messages: ask(BOTH),
    stream,
    tools: [
      {
        type: "function",
        function: {
          name: "get_weather",
          description: "The weather in a city",
          parameters: PARAMETERS,
          parse: JSON.parse,
          function: ({ city }) => {
            cities.push(city);
            return { degrees: 17 };
          },
        },
      },
    ],
  });
  const text = await runner.finalContent();
  return { cities, text, roles: runner.messages.map((message) => message.role) };
}

/** Both sides' calls as they are told in one stream. */
async function calls() {
  const stream = helpers.stream({
    model: "demo-fast",
    messages: ask("What time is it in Oslo, and what is the weather in Paris and Rome?"),
    tools: [
      {
        type: "function",
        function: {
          name: "get_weather",
          description: "The weather in a city",
          parameters: PARAMETERS,
        },
      },
    ],
  });
  const notes = [];
  const done = [];
  stream.on("chunk", (chunk) => notes.push(...told(chunk)));
  stream.on("tool_calls.function.arguments.done", (call) => done.push([call.name, call.arguments]));
  const { finish_reason, message } = (await stream.finalChatCompletion()).choices[0];
  return {
    told: notes,
    done,
    reason: finish_reason,
    calls: message.tool_calls.map((call) => JSON.parse(call.function.arguments)),
  };
}

async function errors() {
  const found = {};
  const requests = {
    key: { apiKey: "sk-wrong" },
    model: { model: "gpt-none" },
    field: { temperature: 3 },
    limit: { model: "demo-limit" },
    failure: { model: "demo-fail" },
    break: { model: "demo-break" },
    cut: { model: "demo-cut" },
  };
  for (const [key, { apiKey: other = apiKey, ...fields }] of Object.entries(requests)) {
    const one = new OpenAI({ baseURL, apiKey: other, maxRetries: 0 });
    const body = { model: "demo-fast", messages: ask("count to 9"), stream: true, ...fields };
    let text = "";
    try {
      for await (const chunk of await one.chat.completions.create(body)) {
        text += chunk.choices[0].delta.content ?? "";
      }
    } catch (error) {
      const id = error.requestID ?? error.request_id ?? null;
      found[key] = {
        type: error.constructor.name,
        status: error.status ?? null,
        code: error.code ?? null,
        param: error.param ?? null,
        identified: id !== null,
        text,
      };
    }
  }
  return found;
}

/** What the helper says of an answer that is cut. */
async function cut() {
  const stream = helpers.stream({ model: "demo-cut", messages: ask("count to 9") });
  try {
    return { text: await stream.finalContent() };
  } catch (error) {
    return { error: error.message };
  }
}

/** A model that lets wait: comments keep the line open meanwhile. */
async function slow() {
  const stream = await completions.create({
    model: "demo-slow",
    messages: ask("say hello there"),
    reasoning_effort: "none",
    stream: true,
  });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
  return { text };
}

async function abort() {
  const { data, response } = await completions
    .create({ model: "demo-long", messages: ask("Go on."), stream: true })
    .withResponse();
  let count = 0;
  for await (const chunk of data) {
    if (++count === 5) data.controller.abort();
  }
  return { count, request_id: response.headers.get("x-request-id") };
}

/** Leaving the loop ends the request, as the SDK promises. */
async function leave() {
  const { data, response } = await completions
    .create({ model: "demo-long", messages: ask("Go on."), stream: true })
    .withResponse();
  for await (const chunk of data) break;
  return { request_id: response.headers.get("x-request-id") };
}

async function retries() {
  const eager = new OpenAI({ baseURL, apiKey, maxRetries: 2 });
  try {
    await eager.chat.completions.create({ model: "demo-fail", messages: ask("Hi") });
    return { type: null };
  } catch (error) {
    return { type: error.constructor.name, status: error.status };
  }
}

async function models() {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  return { ids, one: (await client.models.retrieve("demo-fast")).id };
}

const CASES = {
  loop,
  named,
  helper,
  whole,
  usage,
  calls,
  errors,
  cut,
  slow,
  abort,
  leave,
  retries,
  models,
  tools: () => tools(false),
  tools_streamed: () => tools(true),
};

console.log(JSON.stringify({ ...(await CASES[name]()), version: VERSION }));
