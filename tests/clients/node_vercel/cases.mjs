// What programs do with Vercel's AI SDK: `node - PROVIDER CASES BASE_URL KEY` prints one JSON object.
// PROVIDER is `compatible` (chat completions) or `openai` (the Responses API).

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const [provider, names, baseURL, apiKey] = process.argv.slice(2);

const sdk = (key = apiKey) =>
  provider === "openai"
    ? createOpenAI({ baseURL, apiKey: key })
    : createOpenAICompatible({ name: "sluice", baseURL, apiKey: key, supportsStructuredOutputs: true });
const model = (id = "demo-fast", key = apiKey) => sdk(key)(id);

const PERSON = jsonSchema({
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
});

async function text() {
  const answer = await generateText({ model: model(), prompt: "what is 17 * 23?", maxRetries: 0 });
  return { text: answer.text, tokens: answer.usage.outputTokens };
}

async function stream() {
  const answer = streamText({ model: model(), prompt: "what is 17 * 23?", maxRetries: 0 });
  const pieces = [];
  for await (const piece of answer.textStream) pieces.push(piece);
  return { text: pieces.join(""), pieces: pieces.length, tokens: (await answer.usage).outputTokens };
}

async function tools() {
  const called = [];
  const answer = await generateText({
    model: model(),
    prompt: "what is the weather in Paris?",
    maxRetries: 0,
    stopWhen: stepCountIs(3),
    tools: {
      get_weather: tool({
        description: "The weather in a city.",
        inputSchema: jsonSchema({
          type: "object",
          properties: { city: { type: "string" } },
          required: ["city"],
        }),
        execute: async ({ city }) => {
          called.push({ city });
          return `sunny in ${city}`;
        },
      }),
    },
  });
  return { called, text: answer.text };
}

async function structure() {
  const answer = await generateText({
    model: model(),
    prompt: "Ada is 36 years old",
    maxRetries: 0,
    output: Output.object({ schema: PERSON }),
  });
  return answer.output;
}

async function abort() {
  const stop = new AbortController();
  const answer = streamText({
    model: model("demo-long"),
    prompt: "go",
    maxRetries: 0,
    abortSignal: stop.signal,
  });
  let pieces = 0;
  for await (const piece of answer.textStream) {
    if (piece && ++pieces === 5) stop.abort();
    if (pieces === 5) break;
  }
  return { pieces };
}

async function errors() {
  const kinds = {};
  const asked = { key: model("demo-fast", "sk-wrong"), model: model("nothing"), limit: model("demo-limit") };
  for (const [what, one] of Object.entries(asked)) {
    try {
      await generateText({ model: one, prompt: "hi", maxRetries: 0 });
    } catch (error) {
      kinds[what] = APICallError.isInstance(error) ? error.statusCode : String(error);
    }
  }
  return kinds;
}

const cases = { text, stream, tools, structure, abort, errors };
const printed = {};
for (const name of names.split(",")) printed[name] = await cases[name]();
console.log(JSON.stringify(printed));
process.exit(0);
