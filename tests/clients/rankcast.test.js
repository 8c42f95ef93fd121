/** The rules of the JavaScript client where a real server would take minutes to show them; run by
 * test_javascript.py. What a server sends is written down here; the other tests of this folder have a real one. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { afterEach, mock, test } from "node:test";
import * as rankcast from "../../web/static/rankcast.js";

const { Client } = rankcast;
const URL = "http://rankcast.example";
const END = 'id: 1-9\nevent: end\ndata: {"state":"succeeded"}\n\n';
const bytes = (text) => new TextEncoder().encode(text);

/** A streamed answer of these chunks, which then ends, breaks (`then` is an error) or goes silent. */
function streamed(chunks, then = "ends") {
  const body = new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(typeof chunk === "string" ? bytes(chunk) : chunk);
      if (then === "ends") controller.close();
    },
    pull(controller) {
      if (then instanceof Error) controller.error(then);
    },
  });
  return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
}

/** A `fetch` that gives these answers in turn, errors as they are, and keeps what was asked. */
function answering(...answers) {
  const asked = [];
  const fetch = async (url, init) => {
    asked.push({ url, ...init });
    const answer = answers.shift();
    if (answer === undefined) throw new Error("asked too often");
    if (answer instanceof Error) throw answer;
    // As the real one does, an answer under way ends with its signal.
    const { signal } = init;
    return signal && answer.body ? new Response(answer.body.pipeThrough(new TransformStream(), { signal }), answer) : answer;
  };
  return { asked, fetch };
}

const failed = (code) => Object.assign(new TypeError("fetch failed"), { cause: Object.assign(new Error(code), { code }) });
const json = (status, body) => new Response(JSON.stringify(body), { status });
const problem = (status, slug, more) => json(status, { type: `urn:rankcast:problem:${slug}`, detail: "why", ...more });

async function all(events) {
  const seen = [];
  for await (const event of events) seen.push(event);
  return seen;
}

/** Pauses are over at once, and noted; what waits for silence, 30 s and more, is called by hand. */
function timers() {
  const set = globalThis.setTimeout;
  const pauses = [];
  const waiting = new Set();
  mock.method(globalThis, "setTimeout", (call, ms) => {
    if (ms < 30_000) {
      pauses.push(ms);
      return set(call, 0);
    }
    const timer = { call, ms };
    waiting.add(timer);
    return timer;
  });
  const clear = globalThis.clearTimeout;
  mock.method(globalThis, "clearTimeout", (timer) => (waiting.delete(timer) ? undefined : clear(timer)));
  return { pauses, waiting };
}

const until = async (predicate) => {
  while (!predicate()) await new Promise(setImmediate);
};

afterEach(() => mock.restoreAll());

test("a stream cut into chunks anywhere gives the same events", async () => {
  const body = bytes(
    '\ufeffretry: 20\nid: 1-1\nevent: state\ndata: {"state":"running"}\n\n: a comment\n:\n' +
      'id: 1-2\r\ndata:"α\u2028ω😀"\r\n\r\nid:1-3\nunknown: x\ndata\ndata: [1,\ndata: 2]\n\nevent: nothing\n\n' + END,
  );
  const expected = [
    { id: "1-1", kind: "state", data: { state: "running" } },
    { id: "1-2", kind: "", data: "α\u2028ω😀" },
    { id: "1-3", kind: "", data: [1, 2] },
    { id: "1-9", kind: "end", data: { state: "succeeded" } },
  ];
  const cuts = [[...body].map((byte) => Uint8Array.of(byte))];
  for (let at = 1; at < body.length; at++) cuts.push([body.slice(0, at), body.slice(at)]);
  for (const chunks of cuts) {
    const { fetch } = answering(streamed(chunks));
    assert.deepEqual(await all(new Client(URL, { fetch }).job("j").stream()), expected);
  }
});

test("a stream that ends or breaks is resumed behind the last event, and what was unfinished comes again", async () => {
  timers();
  const { asked, fetch } = answering(
    streamed(['id: 1-1\ndata: 1\n\nid: 1-2\ndata: "unfin']),
    streamed(["id: 1-2\ndata: 2\n\n"], new TypeError("terminated")),
    failed("UND_ERR_SOCKET"),
    problem(503, "redis-away"),
    streamed([END]),
  );
  const events = await all(new Client(`${URL}/`, { fetch, key: "secret" }).job("a/b").stream());
  assert.deepEqual(events.map(({ id, data }) => [id, data]), [["1-1", 1], ["1-2", 2], ["1-9", { state: "succeeded" }]]);
  assert.deepEqual(asked.map(({ headers }) => headers["Last-Event-ID"]), [undefined, "1-1", "1-2", "1-2", "1-2"]);
  assert.equal(asked[0].url, `${URL}/jobs/a%2Fb/stream`);
  assert.equal(asked[0].headers.Authorization, "Key secret");
});

test("what begins behind an event says so at once, and a log that is complete ends the stream", async () => {
  const { waiting } = timers();
  const { asked, fetch } = answering(new Response(null, { status: 204 }));
  assert.deepEqual(await all(new Client(URL, { fetch }).job("j").stream({ lastEventId: "1-9" })), []);
  assert.equal(asked[0].headers["Last-Event-ID"], "1-9");
  assert.equal(waiting.size, 0, "a timer would keep the process");
  assert.throws(() => new Client(URL).job("j").stream({ lastEventId: "1\n2" }), TypeError);
});

test("gap and reset are handed on", async () => {
  const { fetch } = answering(streamed(['id: 1-5\nevent: gap\ndata: {"after":"0-1","to":"1-5"}\n\nid: 0-0\nevent: reset\ndata: {}\n\n', END]));
  const events = await all(new Client(URL, { fetch }).job("j").stream());
  assert.deepEqual(events.map(({ id, kind }) => [id, kind]), [["1-5", "gap"], ["0-0", "reset"], ["1-9", "end"]]);
});

test("pauses double with jitter, never before the time the server asked for, and begin anew with an event", async () => {
  const { pauses } = timers();
  const { fetch } = answering(
    streamed(["retry: 700\n"]), ...Array(9).fill(failed("ECONNREFUSED")), streamed(["id: 1-1\ndata: 1\n\n"]), streamed([END]),
  );
  await all(new Client(URL, { fetch }).job("j").stream());
  assert.equal(pauses.length, 11);
  pauses.slice(0, 10).forEach((ms, failures) => {
    const doubled = Math.min(100 * 2 ** failures, 10_000);
    assert.ok(ms >= 700 + doubled / 2 && ms <= 700 + doubled, `${ms} after ${failures} failures`);
  });
  assert.ok(pauses[10] <= 800, `${pauses[10]} after an event`);
  assert.ok(new Set(pauses.map((ms) => ms - 700)).size > 5);
});

test("a line that is silent for 45 s is dead, however long the caller takes over an event", async () => {
  const { waiting } = timers();
  const { asked, fetch } = answering(streamed(["id: 1-1\ndata: 1\n\nid: 1-2\ndata: 2\n\n"], "silent"), streamed([END]));
  const seen = [];
  const watching = (async () => {
    for await (const event of new Client(URL, { fetch }).job("j").stream()) {
      assert.equal(waiting.size, 0, "no time runs while the caller is busy");
      seen.push(event.id);
    }
  })();
  await until(() => waiting.size === 1 && seen.length === 2);
  const [silence] = waiting;
  assert.equal(silence.ms, 45_000);
  silence.call();
  await watching;
  assert.deepEqual(seen, ["1-1", "1-2", "1-9"]);
  assert.equal(asked[1].headers["Last-Event-ID"], "1-2");
});

test("the first connection that is refused is told at once, a later one after five minutes", async () => {
  timers();
  const refused = answering(failed("ECONNREFUSED"));
  await assert.rejects(all(new Client(URL, refused).job("j").stream()), rankcast.ServerUnreachable);
  const later = answering(streamed([]), failed("ECONNREFUSED"), failed("ECONNREFUSED"));
  const times = [0, 0, 1000, 301_000];
  mock.method(Date, "now", () => (times.length > 1 ? times.shift() : times[0]));
  await assert.rejects(all(new Client(URL, later).job("j").stream()), /nothing answers at http:\/\/rankcast.example \(ECONNREFUSED\)/);
  assert.equal(later.asked.length, 3);
});

test("a signal ends a stream at once: before it began, in a burst, in silence and in a pause", async () => {
  const why = new Error("enough");
  const before = answering();
  await assert.rejects(all(new Client(URL, before).job("j").stream({ signal: AbortSignal.abort(why) })), why);
  assert.equal(before.asked.length, 0);

  const controllers = [new AbortController(), new AbortController(), new AbortController()];
  const burst = answering(streamed(["id: 1-1\ndata: 1\n\nid: 1-2\ndata: 2\n\n"]));
  const seen = [];
  await assert.rejects(async () => {
    for await (const event of new Client(URL, burst).job("j").stream({ signal: controllers[0].signal })) {
      seen.push(event.id);
      controllers[0].abort(why);
    }
  }, why);
  assert.deepEqual(seen, ["1-1"]);

  const silent = answering(streamed(["id: 1-1\ndata: 1\n\n"], "silent"));
  const stream = new Client(URL, silent).job("j").stream({ signal: controllers[1].signal });
  await stream.next();
  const next = stream.next();
  controllers[1].abort(why);
  await assert.rejects(next, why);

  const broken = answering(streamed(["retry: 9000\n"]));
  const pausing = all(new Client(URL, broken).job("j").stream({ signal: controllers[2].signal }));
  await until(() => broken.asked.length === 1);
  await new Promise((resolve) => setTimeout(resolve, 20));
  controllers[2].abort(why);
  await assert.rejects(pausing, why);
});

test("leaving the loop closes the connection", async () => {
  const server = createServer((request, response) => response.write("id: 1-1\ndata: 1\n\n")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const closed = once(server, "request").then(([, response]) => once(response, "close"));
  for await (const event of new Client(`http://127.0.0.1:${server.address().port}`).job("j").stream()) {
    assert.equal(event.data, 1);
    break;
  }
  await closed;
  server.close();
});

test("a real refused connection is told by its address", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${server.address().port}`;
  await new Promise((resolve) => server.close(resolve));
  await assert.rejects(new Client(url).submit("a/b"), (error) => error instanceof rankcast.ServerUnreachable && error.url === url);
});

test("submit sends the task, its input, options and idempotency key, and gives the job", async () => {
  const { asked, fetch } = answering(json(202, { job_id: "abc" }));
  const job = await new Client(URL, { fetch }).submit("acme/steps", { steps: 2 }, { options: { priority: 1 }, idempotencyKey: "once" });
  assert.equal(job.id, "abc");
  const [{ url, method, headers, body }] = asked;
  assert.deepEqual([url, method], [`${URL}/jobs`, "POST"]);
  assert.deepEqual(JSON.parse(body), { task: "acme/steps", input: { steps: 2 }, options: { priority: 1 } });
  assert.deepEqual([headers["Idempotency-Key"], headers["Content-Type"]], ["once", "application/json"]);
});

test("a file is sent as it is, under its name or another, and takes as long as it takes", async () => {
  const { waiting } = timers();
  const { asked, fetch } = answering(json(201, { url: "/files/1/a%20b.png" }), json(201, {}), json(201, {}));
  const client = new Client(URL, { fetch });
  const image = new File([Uint8Array.of(1, 2)], "a b.png", { type: "image/png" });
  const uploading = client.upload(image);
  assert.equal(waiting.size, 0);
  assert.deepEqual(await uploading, { url: "/files/1/a%20b.png" });
  await client.upload(image, { fileName: "c.png" });
  await client.upload(new Blob(["x"]));
  assert.deepEqual(asked.map(({ url }) => url.slice(URL.length)), ["/files?file_name=a%20b.png", "/files?file_name=c.png", "/files?file_name=file"]);
  assert.equal(asked[0].body, image);
  assert.equal(asked[0].headers["Content-Type"], undefined, "fetch knows the type of a Blob");
});

test("every refusal is an error of its own, by its problem's type", async () => {
  const faults = [{ path: "$.steps", message: "too few" }];
  for (const [answer, kind, members] of [
    [problem(404, "unknown-task", { known: ["a/b"] }), "UnknownTask", { task: "x/y", known: ["a/b"], message: "why" }],
    [problem(422, "invalid-input", { errors: faults }), "InvalidInput", { faults }],
    [problem(429, "queue-full"), "QueueFull", { message: "why" }],
    [problem(503, "redis-away"), "StoreUnavailable", { message: "why" }],
    [new Response("<html>", { status: 502 }), "StoreUnavailable", { message: "the server answered 502" }],
    [problem(401, "no-key"), "NotAllowed", { status: 401 }],
    [problem(409, "idempotency-key-reused"), "RequestRefused", { status: 409, message: "the server answered 409: why" }],
    [failed("UND_ERR_SOCKET"), "ConnectionLost", {}],
  ]) {
    const { fetch } = answering(answer);
    await assert.rejects(new Client(URL, { fetch }).submit("x/y"), (error) => {
      assert.equal(error.name, kind);
      assert.ok(error instanceof rankcast[kind] && error instanceof rankcast.RankcastError);
      for (const [name, value] of Object.entries(members)) assert.deepEqual(error[name], value);
      return true;
    });
  }
  const { fetch } = answering(problem(404, "unknown-job"));
  await assert.rejects(all(new Client(URL, { fetch }).job("gone").stream()), (error) => error instanceof rankcast.UnknownJob && error.jobId === "gone");
});

test("result waits for the end without a replay, and throws what the job ended with", async () => {
  timers();
  const { asked, fetch } = answering(json(202, {}), streamed(["id: 1-1\ndata: 1\n\n"]), streamed([END]), json(200, { done: true }));
  assert.deepEqual(await new Client(URL, { fetch }).job("j").result(), { done: true });
  assert.deepEqual(asked.map(({ url }) => url.slice(URL.length)), ["/jobs/j/result", "/jobs/j/stream?from=now", "/jobs/j/stream", "/jobs/j/result"]);
  assert.equal(asked[2].headers["Last-Event-ID"], "1-1");

  const error = { kind: "exception", message: "no such size", rank: 1, type: "ValueError" };
  const lost = answering(problem(500, "job-failed", { error }));
  await assert.rejects(new Client(URL, lost).job("j").result(), (thrown) => {
    assert.ok(thrown instanceof rankcast.JobFailed);
    assert.equal(thrown.message, "job j failed: exception on rank 1: ValueError: no such size");
    assert.deepEqual([thrown.jobId, thrown.error], ["j", error]);
    return true;
  });
  const stopped = answering(problem(409, "job-cancelled", { error: { kind: "cancelled", message: "by you" } }));
  await assert.rejects(new Client(URL, stopped).job("j").result(), rankcast.JobCancelled);
});

test("a result that is not there in time is a TimeoutError, and the line is given up", async () => {
  const { waiting } = timers();
  const { asked, fetch } = answering(json(202, {}), streamed([], "silent"));
  const result = new Client(URL, { fetch }).job("j").result({ timeoutMs: 60_000 });
  await until(() => asked.length === 2);
  [...waiting].find(({ ms }) => ms === 60_000).call();
  await assert.rejects(result, { name: "TimeoutError", message: "job j has not ended within 60000 ms" });
  assert.ok(asked[1].signal.aborted);
});

test("logs are read to their end, page by page", async () => {
  const page = (count, cursor) => json(200, { logs: Array.from({ length: count }, (_, n) => ({ text: `${n}` })), cursor });
  const { asked, fetch } = answering(page(10_000, "5-0"), page(2, "6-0"));
  assert.equal((await new Client(URL, { fetch }).job("j").logs()).length, 10_002);
  assert.deepEqual(asked.map(({ url }) => new globalThis.URL(url).searchParams.get("after")), ["0-0", "5-0"]);
});
