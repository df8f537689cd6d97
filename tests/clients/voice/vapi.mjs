// What Vapi does with a model, as far as its requests are documented and its client's errors give away:
// `node - CASE BASE_URL KEY` prints one JSON object.

import OpenAI, { APIError } from "openai";

const [name, baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });

const body = (content, more = {}) => ({
  model: "demo-fast",
  stream: true,
  temperature: 0.5,
  max_tokens: 250,
  messages: [
    { role: "system", content: "You are on the telephone." },
    { role: "assistant", content: "Hello, how can I help?" },
    { role: "user", content },
  ],
  call: {
    id: `call-${name}`,
    orgId: "org-1",
    type: "inboundPhoneCall",
    assistantId: "assistant-1",
    phoneCallProvider: "twilio",
    customer: { number: "+15550100001" },
  },
  phoneNumber: { id: "line-1", number: "+15550100002", twilioAuthToken: "secret" },
  customer: { number: "+15550100001", name: null },
  metadata: {},
  ...more,
});

const END_CALL = {
  type: "function",
  function: { name: "endCall", description: "End the call", parameters: { type: "object", properties: {} } },
};

async function loop(asked) {
  const { data, response } = await client.chat.completions.create(asked).withResponse();
  let text = "";
  const kinds = new Set();
  for await (const chunk of data) {
    for (const key of Object.keys(chunk.choices[0].delta)) kinds.add(key);
    text += chunk.choices[0].delta.content ?? "";
  }
  return { text, kinds: [...kinds].sort(), request_id: response.headers.get("x-request-id") };
}

async function helper(asked) {
  const answer = await client.chat.completions.stream(asked).finalChatCompletion();
  const [choice] = answer.choices;
  return {
    text: choice.message.content,
    finish: choice.finish_reason,
    calls: (choice.message.tool_calls ?? []).map((call) => [call.function.name, call.function.arguments]),
  };
}

const CASES = {
  loop: () => loop(body("What time is it in Oslo, and what is 17 * 23?")),
  helper: () => helper(body("what is 17 * 23?")),
  tool: () => helper(body("please end call", { tools: [END_CALL] })),
  limit: () => helper(body("what is 17 * 23?", { model: "demo-limit" })),
  model: () => helper(body("what is 17 * 23?", { model: "nobody" })),
  break: () => helper(body("tell me a story", { model: "demo-break" })),
  key: async () => {
    client.apiKey = "sk-wrong";
    return helper(body("hello")).catch((error) => ({ status: error instanceof APIError && error.status }));
  },
};

console.log(JSON.stringify(await CASES[name]()));
