/** What a service really holds: its heap and buffers after a collection, asked of its debugger. Start it with INSPECTED. */
import { z } from "zod";
import type { LiveService } from "./live-service.ts";

/** A flag of Node's: a debugger on a free port of this machine. */
export const INSPECTED = "--inspect=127.0.0.1:0";

export type LiveMemory = Disposable & {
  /** Heap and what lies outside of it, collected. */
  readMiB(): Promise<number>;
};

const Answer = z.object({
  id: z.int(),
  result: z.object({ result: z.object({ value: z.number().optional() }).optional() }),
});

export async function openLiveMemory(service: LiveService): Promise<LiveMemory> {
  const url = /Debugger listening on (ws:\S+)/.exec(service.logs())?.[1];
  if (url === undefined) throw new Error("the service has no debugger");
  const socket = new WebSocket(url);
  const waiting = new Map<number, (value: number | undefined) => void>();
  socket.addEventListener("message", ({ data }) => {
    const { id, result } = Answer.parse(JSON.parse(String(data)));
    waiting.get(id)?.(result.result?.value);
  });
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    socket.addEventListener("error", reject);
  });
  const ask = (method: string, params: object = {}): Promise<number | undefined> => {
    const id = waiting.size + 1;
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    waiting.set(id, resolve);
    socket.send(JSON.stringify({ id, method, params }));
    return promise;
  };
  const expression = "(({ heapUsed, external }) => heapUsed + external)(process.memoryUsage())";
  return {
    async readMiB() {
      await ask("HeapProfiler.collectGarbage");
      const bytes = await ask("Runtime.evaluate", { expression });
      if (bytes === undefined) throw new Error("the service did not tell its memory");
      return bytes / 1024 ** 2;
    },
    [Symbol.dispose]: () => socket.close(),
  };
}
