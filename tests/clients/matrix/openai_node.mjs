// The conformance catalogue read by openai-node, of any age: `node - SDK WAY BASE_URL KEY` prints one JSON
// object, by dialect, with the probes that were not read as they should be. WAY is `loop` or `helper`.

const [sdk, way, baseURL, apiKey] = process.argv.slice(2);
const { default: OpenAI } = await import(sdk);

const listing = await (
  await fetch(`${baseURL}/conformance`, { headers: { Authorization: `Bearer ${apiKey}` } })
).json();

async function* chunks(client, headers) {
  const completions = client.chat.completions;
  const asked = { model: "m", messages: [{ role: "user", content: "Hi" }] };
  if (way === "loop") {
    yield* await completions.create({ ...asked, stream: true }, { headers });
    return;
  }
  const helper = completions.stream ? completions : client.beta.chat.completions;
  const stream = helper.stream(asked, { headers });
  yield* stream;
  await stream.finalChatCompletion();
}

async function wrong(probe, dialect) {
  const client = new OpenAI({
    baseURL: `${baseURL}/conformance/${probe.name}`,
    apiKey,
    maxRetries: 0,
  });
  const choices = probe.expected.choices.map(() => ({ text: "", calls: [] }));
  let failed = null;
  try {
    for await (const chunk of chunks(client, { "X-Tool-Notifications": dialect })) {
      for (const choice of chunk.choices) {
        const told = choices[choice.index];
        told.text += choice.delta.content ?? "";
        for (const call of choice.delta.tool_calls ?? []) {
          const kept = (told.calls[call.index] ??= { name: "", arguments: "" });
          kept.name += call.function.name ?? "";
          kept.arguments += call.function.arguments ?? "";
        }
      }
    }
  } catch (error) {
    failed = error;
  }
  const expected = probe.expected;
  if ((failed === null) === "error" in expected) return `error ${failed?.message}`;
  if (failed !== null && !(failed instanceof OpenAI.OpenAIError)) return `${failed}`;
  for (const [index, should] of expected.choices.entries()) {
    const { text, calls } = choices[index];
    const right = typeof should.text === "string" ? text === should.text : text.length === should.text.length;
    if (!right) return `text ${text.slice(0, 60)}`;
    const names = should.tool_calls.map(({ name, arguments: written }) => ({ name, arguments: written }));
    if (JSON.stringify(calls) !== JSON.stringify(names)) return `calls ${JSON.stringify(calls)}`;
  }
  return null;
}

const printed = {};
for (const dialect of listing.dialects) {
  printed[dialect] = {};
  for (const probe of listing.data) {
    const why = await wrong(probe, dialect);
    if (why !== null) printed[dialect][probe.name] = why;
  }
}
console.log(JSON.stringify(printed));
process.exit(0);
