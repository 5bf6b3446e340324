import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { text } from "node:stream/consumers";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { Destination } from "../../../src/broker/destination.ts";
import { Dialer, type DialerOptions } from "../../../src/broker/dialer.ts";
import { toPrivateTarget } from "../../../src/broker/private-target.ts";

/** Counts who comes, and says which of its addresses they came to. */
async function openSink(host = "127.0.0.1", port = 0) {
  const hits: string[] = [];
  const server = createServer((socket) => {
    hits.push(socket.localAddress ?? "");
    socket.on("error", () => undefined);
    socket.end(`at ${socket.localAddress}`);
  });
  server.listen(port, host);
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return { hits, port: (server.address() as AddressInfo).port };
}

const never = new AbortController().signal;
const goTo = (port: number, host = "models.internal"): Destination => ({ scheme: "http", host, port });

function openDialer(targets: string[], options: Partial<DialerOptions> = {}) {
  const resolve = vi.fn(options.resolve ?? (async () => ["127.0.0.1"]));
  const privateTargets = targets.map(toPrivateTarget);
  return { resolve, dialer: new Dialer({ privateTargets, ...options, resolve }) };
}

const refused = (why: string, address: string) =>
  expect.objectContaining({
    name: "DialError",
    code: "address_not_allowed",
    address,
    message: expect.stringContaining(`leads to an address that must not be reached (${why})`),
  });

describe("S3.4 a destination", () => {
  test("that is listed is connected to, and one that is not is refused before anything is sent", async () => {
    const sink = await openSink();
    const open = openDialer([`http://models.internal:${sink.port}`]);
    const { socket, address } = await open.dialer.dial(goTo(sink.port), { signal: never });
    expect([address, await text(socket), sink.hits]).toEqual(["127.0.0.1", "at 127.0.0.1", ["127.0.0.1"]]);

    const closed = openDialer([`http://other.internal:${sink.port}`]);
    await expect(closed.dialer.dial(goTo(sink.port), { signal: never })).rejects.toEqual(
      refused("an address of this machine", "127.0.0.1"),
    );
    expect(sink.hits).toEqual(["127.0.0.1"]);
  });

  test("written as an address is not looked up, and is checked all the same", async () => {
    const sink = await openSink();
    const { dialer, resolve } = openDialer([`http://127.0.0.1:${sink.port}`]);
    const { socket } = await dialer.dial(goTo(sink.port, "127.0.0.1"), { signal: never });
    expect(await text(socket)).toBe("at 127.0.0.1");
    await expect(dialer.dial(goTo(sink.port, "127.0.0.2"), { signal: never })).rejects.toEqual(
      refused("loopback", "127.0.0.2"),
    );
    expect(resolve).not.toHaveBeenCalled();
    expect(sink.hits).toHaveLength(1);
  });

  test("with one bad address among good ones is refused whole", async () => {
    const sink = await openSink();
    const target = `http://models.internal:${sink.port}=127.0.0.0/24`;
    const mixed = openDialer([target], { resolve: async () => ["127.0.0.1", "127.0.1.1"] });
    await expect(mixed.dialer.dial(goTo(sink.port), { signal: never })).rejects.toEqual(
      refused("outside the range that the operator listed", "127.0.1.1"),
    );
    expect(sink.hits).toEqual([]);
    const good = openDialer([target], { resolve: async () => ["127.0.0.1", "127.0.0.2"] });
    const { socket } = await good.dialer.dial(goTo(sink.port), { signal: never });
    expect(await text(socket)).toBe("at 127.0.0.1");
  });

  test("is resolved once: a second answer that differs is never asked for", async () => {
    const [good, bad] = [await openSink("127.0.0.1"), { hits: [] as string[] }];
    bad.hits = (await openSink("127.0.0.2", good.port)).hits;
    const answers = [["127.0.0.1"], ["127.0.0.2"]];
    const { dialer, resolve } = openDialer([`http://models.internal:${good.port}=127.0.0.1/32`], {
      resolve: async () => answers.shift() ?? [],
    });
    const { socket } = await dialer.dial(goTo(good.port), { signal: never });
    expect(await text(socket)).toBe("at 127.0.0.1");
    expect(resolve).toHaveBeenCalledTimes(1);
    expect([good.hits, bad.hits]).toEqual([["127.0.0.1"], []]);

    await expect(dialer.dial(goTo(good.port), { signal: never })).rejects.toEqual(
      refused("outside the range that the operator listed", "127.0.0.2"),
    );
    expect(bad.hits).toEqual([]);
    await text(connect(good.port, "127.0.0.2")); // the control
    expect(bad.hits).toEqual(["127.0.0.2"]);
  });

  test("that the operator configured as a provider is private if it likes, but only in the range that was listed", async () => {
    const sink = await openSink();
    const dial = (targets: string[], address: string) =>
      openDialer(targets, { resolve: async () => [address] }).dialer.dial(goTo(sink.port), {
        signal: never,
        privateAllowed: true,
      });
    expect(await text((await dial([], "127.0.0.1")).socket)).toBe("at 127.0.0.1");
    await expect(dial([`http://models.internal:${sink.port}=10.0.0.0/8`], "127.0.0.1")).rejects.toEqual(
      refused("outside the range that the operator listed", "127.0.0.1"),
    );
    expect(sink.hits).toHaveLength(1);
  });

  test("is not told its addresses: only the audit has them", async () => {
    const { dialer } = openDialer([], { resolve: async () => ["127.9.9.9"] });
    const error = await dialer.dial(goTo(80), { signal: never }).catch((thrown: Error) => thrown);
    expect(error).toMatchObject({ address: "127.9.9.9", message: expect.not.stringContaining("127.9.9.9") });
  });
});

describe("S3.4 this machine's own addresses", () => {
  test("are read at each dial, so that one that came later is known", async () => {
    const own: string[] = [];
    const { dialer } = openDialer([], { resolve: async () => ["127.9.9.9"], readOwnAddresses: () => own });
    const dialled = () => dialer.dial(goTo(9), { signal: never });
    await expect(dialled()).rejects.toEqual(refused("loopback", "127.9.9.9"));
    own.push("127.9.9.9");
    await expect(dialled()).rejects.toEqual(refused("an address of this machine", "127.9.9.9"));
  });
});

describe("connecting", () => {
  test("goes on to the next address where one refuses", async () => {
    const sink = await openSink("127.0.0.2");
    const { dialer } = openDialer([`http://models.internal:${sink.port}`], {
      resolve: async () => ["127.0.0.1", "127.0.0.2"],
    });
    const { socket, address } = await dialer.dial(goTo(sink.port), { signal: never });
    expect([address, await text(socket)]).toEqual(["127.0.0.2", "at 127.0.0.2"]);
  });

  test("knocks at four addresses at most", async () => {
    const sink = await openSink("127.0.0.5");
    const { dialer } = openDialer([`http://models.internal:${sink.port}`], {
      resolve: async () => [1, 2, 3, 4, 5].map((last) => `127.0.0.${last}`),
    });
    await expect(dialer.dial(goTo(sink.port), { signal: never })).rejects.toMatchObject({
      code: "unreachable",
      address: "127.0.0.4",
    });
    expect(sink.hits).toEqual([]);
  });

  test("finds a name by the system's own means", async () => {
    const sink = await openSink();
    const dialer = new Dialer({ privateTargets: [toPrivateTarget(`http://localhost:${sink.port}`)] });
    const { socket } = await dialer.dial(goTo(sink.port, "localhost"), { signal: never });
    expect(await text(socket)).toBe("at 127.0.0.1");
  });

  test("to a name without an address, or that cannot be looked up, is unreachable", async () => {
    const fail = async () => {
      throw new Error("ENOTFOUND");
    };
    for (const resolve of [async () => [], fail]) {
      const { dialer } = openDialer([], { resolve });
      await expect(dialer.dial(goTo(80), { signal: never })).rejects.toMatchObject({ code: "unreachable" });
    }
  });

  test("leaves a socket whose error before anybody listens ends nothing", async () => {
    const sink = await openSink();
    const { dialer } = openDialer([`http://models.internal:${sink.port}`]);
    const { socket } = await dialer.dial(goTo(sink.port), { signal: never });
    socket.destroy(new Error("reset"));
    await vi.waitFor(() => expect(socket.closed).toBe(true));
  });
});

describe("waiting", () => {
  test("for a name ends with the dial's time", async () => {
    const { dialer } = openDialer([], { resolve: () => new Promise(() => {}), connectMs: 20 });
    await expect(dialer.dial(goTo(80), { signal: never })).rejects.toMatchObject({ code: "timed_out" });
  });

  test("ends with the caller's signal and its reason", async () => {
    const end = new AbortController();
    const { dialer, resolve } = openDialer([], { resolve: () => new Promise(() => {}) });
    const dialled = dialer.dial(goTo(80), { signal: end.signal });
    await vi.waitFor(() => expect(resolve).toHaveBeenCalled());
    end.abort(new Error("the run has ended"));
    await expect(dialled).rejects.toThrow("the run has ended");
    await expect(dialer.dial(goTo(80), { signal: end.signal })).rejects.toThrow("the run has ended");
    expect(resolve).toHaveBeenCalledTimes(1);
  });

  test("names are looked up two at a time, and those that nobody waits for any more are left out", async () => {
    const answers: (() => void)[] = [];
    const asked: string[] = [];
    const { dialer } = openDialer([], {
      resolve: (host) => {
        asked.push(host);
        return new Promise((answer) => answers.push(() => answer([])));
      },
    });
    const end = new AbortController();
    const dial = (host: string, signal = new AbortController().signal) =>
      dialer.dial(goTo(80, host), { signal }).catch(() => host); // each of a run of its own
    const dialled = [dial("a"), dial("b"), dial("c", end.signal), dial("d"), dial("e")];
    await vi.waitFor(() => expect(asked).toEqual(["a", "b"]));
    end.abort();
    expect(await dialled[2]).toBe("c");
    answers.shift()?.();
    await vi.waitFor(() => expect(asked).toEqual(["a", "b", "d"]));
    expect(answers).toHaveLength(2);
    answers.shift()?.();
    await vi.waitFor(() => expect(asked).toEqual(["a", "b", "d", "e"]));
    for (const answer of answers) answer();
    expect(await Promise.all(dialled)).toEqual(["a", "b", "c", "d", "e"]);
  });

  test("a run's many slow names hold up its own only, and another run's name is looked up beside them", async () => {
    const asked: string[] = [];
    const answers: (() => void)[] = [];
    const { dialer } = openDialer([], {
      resolve: (host) => {
        asked.push(host);
        return new Promise((answer) => answers.push(() => answer([])));
      },
    });
    const [one, other] = [new AbortController(), new AbortController()];
    const dial = (host: string, { signal }: AbortController) =>
      dialer.dial(goTo(80, host), { signal }).catch(() => undefined);
    const dialled = ["a", "b", "c", "d"].map((host) => dial(host, one));
    dialled.push(dial("model", other));
    await vi.waitFor(() => expect(asked).toEqual(["a", "model"]));
    one.abort();
    other.abort();
    for (const answer of answers) answer();
    await Promise.all(dialled);
    expect(asked).toEqual(["a", "model"]);
  });

  test("a run's model is looked up though names of other runs, and its own, never get an answer", async () => {
    const asked: string[] = [];
    const { dialer } = openDialer([], {
      resolve: (host) => {
        asked.push(host);
        return new Promise(() => {});
      },
    });
    const ends = [new AbortController(), new AbortController(), new AbortController()];
    const dial = (host: string, index: number, isModel = false) =>
      dialer.dial(goTo(80, host), { signal: ends[index]!.signal, isModel }).catch(() => undefined);
    const dialled = [dial("a", 0), dial("b", 1), dial("c", 2)];
    await vi.waitFor(() => expect(asked).toEqual(["a", "b"])); // the control: the third waits
    dialled.push(dial("model", 0, true));
    await vi.waitFor(() => expect(asked).toEqual(["a", "b", "model"]));
    for (const end of ends) end.abort();
    await Promise.all(dialled);
  });
});
