/** What fal's JavaScript client gives for each way to use it. */

const CAT = { prompt: "a cat" };
const LONG = { prompt: "a cat", steps: 4, pause_s: 0.3 };
const lines = (status) => (status.logs ?? []).map((line) => line.message);

/** The error's name, and of an answer its status, type and what is wrong with an input. */
async function refusal(promise) {
  try {
    return ["none", await promise];
  } catch (error) {
    const places = error.fieldErrors?.map((fault) => fault.loc);
    return [error.name, error.status ?? null, error.body?.error_type ?? null, places ?? error.body?.detail ?? null];
  }
}

async function subscribed(fal, options) {
  const ids = [];
  const kinds = [];
  const told = [];
  const { data, requestId } = await fal.subscribe("acme/steps", {
    input: LONG,
    logs: true,
    onEnqueue: (id) => ids.push(id),
    onQueueUpdate: (status) => {
      kinds.push(status.status);
      told.splice(0, told.length, ...lines(status));
    },
    ...options,
  });
  return { data, is_same: ids.length === 1 && ids[0] === requestId, kinds, lines: told };
}

async function streamed(fal, id, input) {
  const stream = await fal.stream(id, { input });
  const heard = [];
  stream.on("data", (data) => heard.push(data));
  const done = refusal(stream.done());
  const iterated = [];
  const all = refusal(
    (async () => {
      for await (const data of stream) iterated.push(data);
    })(),
  );
  const [ended] = [await done, await all];
  return { heard, iterated, done: ended };
}

export const WAYS = {
  async run(fal) {
    const { data, requestId } = await fal.run("acme/steps", { input: CAT, startTimeout: 30 });
    return { data, has_id: /^[0-9a-zA-Z_-]{16,}$/.test(requestId) };
  },
  run_of_another_path: async (fal) => (await fal.run("acme/steps/twice", { input: CAT })).data,
  /** The client uploads it, and puts its URL in its place. */
  async blob(fal) {
    const image_url = new Blob(["hello from a blob"], { type: "text/plain" });
    return (await fal.run("acme/reads", { input: { image_url } })).data.begins;
  },
  subscribe: (fal) => subscribed(fal, { mode: "polling" }),
  subscribe_streaming: (fal) => subscribed(fal, { mode: "streaming" }),
  async queue(fal) {
    const { request_id: requestId } = await fal.queue.submit("acme/steps/twice", {
      input: CAT,
      priority: "low",
      hint: "warm",
      startTimeout: 30,
    });
    const seen = [];
    const statuses = await fal.queue.streamStatus("acme/steps/twice", { requestId, logs: true });
    for await (const status of statuses) seen.push(status.status);
    const status = await fal.queue.status("acme/steps/twice", { requestId, logs: true });
    const result = await fal.queue.result("acme/steps/twice", { requestId });
    return { seen, status: status.status, data: result.data, is_same: result.requestId === requestId };
  },
  stream: (fal) => streamed(fal, "acme/steps", CAT),
  silent_stream: (fal) => streamed(fal, "acme/silent", { for_s: 20 }),
  silent_status: async (fal) => (await fal.subscribe("acme/silent", { input: { for_s: 20 }, mode: "streaming" })).data,
  async fails(fal) {
    return {
      run: await refusal(fal.run("acme/fails", { input: CAT })),
      subscribe: await refusal(fal.subscribe("acme/fails", { input: CAT })),
      streaming: await refusal(fal.subscribe("acme/fails", { input: CAT, mode: "streaming" })),
      stream: await streamed(fal, "acme/fails", CAT),
    };
  },
  async bad_input(fal) {
    const input = { prompt: "a cat", steps: -1 };
    return {
      run: await refusal(fal.run("acme/steps", { input })),
      submit: await refusal(fal.queue.submit("acme/steps", { input })),
      stream: (await streamed(fal, "acme/steps", input)).done,
    };
  },
  async unknown(fal) {
    return {
      run: await refusal(fal.run("acme/nothing", { input: CAT })),
      submit: await refusal(fal.queue.submit("acme/nothing", { input: CAT })),
      stream: (await streamed(fal, "acme/nothing", CAT)).done,
      status: await refusal(fal.queue.status("acme/steps", { requestId: "A".repeat(22) })),
      webhook: await refusal(fal.queue.submit("acme/steps", { input: CAT, webhookUrl: "https://a.example/" })),
    };
  },
  async cancelled(fal) {
    const { request_id: requestId } = await fal.queue.submit("acme/patient", { input: {} });
    const waits = refusal(fal.queue.subscribeToStatus("acme/patient", { requestId }));
    await fal.queue.cancel("acme/patient", { requestId });
    const [, status] = await waits;
    return {
      status: [status.status, status.error_type],
      result: await refusal(fal.queue.result("acme/patient", { requestId })),
      again: await refusal(fal.queue.cancel("acme/patient", { requestId })),
    };
  },
  /** Its job is looked for by its input. */
  async aborted(fal, { mark }) {
    const input = { for_s: mark };
    const requested = new AbortController();
    const run = refusal(fal.run("acme/silent", { input, abortSignal: requested.signal }));
    await new Promise((resolve) => setTimeout(resolve, 3000));
    requested.abort();
    return (await run)[0];
  },
};

/** What waits long. */
const PATIENT = ["silent_stream", "silent_status", "aborted"];

/** `[name, what it gave]` of each way. A browser opens six connections to a host: the patient ones have three
 * of them, and the others take turns on the rest. */
export async function all(fal, options) {
  const given = async (name) => [name, await WAYS[name](fal, options)];
  const waiting = PATIENT.map(given);
  const found = [];
  for (const name of Object.keys(WAYS).filter((name) => !PATIENT.includes(name))) found.push(await given(name));
  return [...found, ...(await Promise.all(waiting))];
}
