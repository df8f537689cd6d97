// What programs do with the Responses API of an SDK for Node.js: `node - SDK CASE BASE_URL KEY` prints
// one JSON object.

const [sdk, name, baseURL, apiKey] = process.argv.slice(2);
const { default: OpenAI } = await import(sdk);
const { VERSION } = await import(`${sdk}/version`);

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const model = "demo-fast";

const QUESTION = "What time is it in Oslo, and what is 17 * 23?";
const BOTH = "What time is it in Oslo, and what is the weather in Paris and Rome?";
const WEATHER = {
  type: "function",
  name: "get_weather",
  description: "The weather in a city",
  strict: true,
  parameters: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  },
};

async function whole() {
  const answer = await client.responses.create({ model, input: QUESTION });
  return { text: answer.output_text, types: answer.output.map((item) => item.type), id: answer.id };
}

/** The helper throws at any event that OpenAI does not have. */
async function helper() {
  const stream = client.responses.stream({ model, input: QUESTION });
  const events = [];
  let text = "";
  stream.on("event", (event) => events.push(event.type));
  stream.on("response.output_text.delta", (event) => (text += event.delta));
  const final = await stream.finalResponse();
  return {
    text,
    whole: final.output_text,
    types: final.output.map((item) => item.type),
    events: [...new Set(events)],
    tokens: final.usage.total_tokens,
  };
}

async function calls() {
  const stream = client.responses.stream({ model, input: BOTH, tools: [WEATHER] });
  const first = await stream.finalResponse();
  const output = first.output
    .filter((item) => item.type === "function_call")
    .map((item) => ({
      type: "function_call_output",
      call_id: item.call_id,
      output: JSON.stringify({ ...JSON.parse(item.arguments), degrees: 17 }),
    }));
  const second = await client.responses
    .stream({ model, input: output, tools: [WEATHER], previous_response_id: first.id })
    .finalResponse();
  return { calls: output.map((item) => JSON.parse(item.output).city), text: second.output_text };
}

async function errors() {
  const found = {};
  const requests = {
    field: { temperature: 3 },
    model: { model: "gpt-none" },
    previous: { previous_response_id: "resp_none" },
    break: { model: "demo-break" },
    cut: { model: "demo-cut" },
  };
  for (const [key, fields] of Object.entries(requests)) {
    try {
      await client.responses.stream({ model, input: "count to 9", ...fields }).finalResponse();
    } catch (error) {
      found[key] = [error.constructor.name, error.status ?? null, error.code, error.param ?? null];
    }
  }
  return found;
}

async function kept() {
  const first = await client.responses.create({ model, input: "say hello there" });
  const same = (await client.responses.retrieve(first.id)).output_text === first.output_text;
  const asked = [];
  for await (const item of client.responses.inputItems.list(first.id)) asked.push(item.type);
  await client.responses.delete(first.id);
  try {
    await client.responses.retrieve(first.id);
  } catch (error) {
    return { same, asked, gone: error.status };
  }
  return { same, asked };
}

const CASES = { whole, helper, calls, errors, kept };
console.log(JSON.stringify({ ...(await CASES[name]()), version: VERSION }));
