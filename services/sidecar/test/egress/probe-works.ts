/** What a probe does inside: each is one function that stands alone and tells `ok` or the code of what stopped it. */
import { encode } from "dns-packet";

type Failure = NodeJS.ErrnoException;

/** TCP to an address or a name; a path that begins with a zero byte is a socket's name. */
export const connectTcp = (host: string, port: number): Promise<string> =>
  new Promise((resolve) => {
    const net = process.getBuiltinModule("node:net");
    const socket = port === 0 ? net.connect(host) : net.connect({ host, port });
    const end = (answer: string): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(5_000, () => end("timeout"));
    socket.once("connect", () => end("ok"));
    socket.once("error", ({ code }: Failure) => end(String(code)));
  });

/** One datagram, also to groups and to all. */
export const sendUdp = (host: string, port: number): Promise<string> =>
  new Promise((resolve) => {
    const isOld = !host.includes(":");
    const socket = process.getBuiltinModule("node:dgram").createSocket(isOld ? "udp4" : "udp6");
    const end = (answer: string): void => void socket.close(() => resolve(answer));
    socket.once("error", ({ code }: Failure) => end(String(code)));
    socket.bind(0, () => {
      if (isOld) socket.setBroadcast(true);
      socket.send("a probe", port, host, (error: Failure | null) => end(error?.code ?? "ok"));
    });
  });

/** A datagram or a connection by each interface but loopback; what the last one said, or `ok` if one got through. */
export const tryScopes = async (kind: "tcp" | "udp", address: string, port: number): Promise<string> => {
  const scopes = new Set(["eth0", "lab0", "docker0"]);
  try {
    const own = Object.keys(process.getBuiltinModule("node:os").networkInterfaces());
    for (const name of own) if (name !== "lo") scopes.add(name);
  } catch {
    // not even the list of interfaces is to be had
  }
  const attempt = (host: string): Promise<string> =>
    new Promise((resolve) => {
      if (kind === "tcp") {
        const socket = process.getBuiltinModule("node:net").connect({ host, port, timeout: 2_000 });
        const end = (answer: string): void => {
          socket.destroy();
          resolve(answer);
        };
        socket.once("timeout", () => end("timeout"));
        socket.once("connect", () => end("ok"));
        socket.once("error", ({ code }: Failure) => end(String(code)));
        return;
      }
      const socket = process.getBuiltinModule("node:dgram").createSocket("udp6");
      const end = (answer: string): void => void socket.close(() => resolve(answer));
      socket.once("error", ({ code }: Failure) => end(String(code)));
      socket.bind(0, () =>
        socket.send("a probe", port, host, (error) => end((error as Failure | null)?.code ?? "ok")),
      );
    });
  let last = "nothing";
  for (const scope of scopes) {
    last = await attempt(`${address}%${scope}`);
    if (last === "ok") return last;
  }
  return last;
};

/** A whole request; `ok` when anything answers it. */
export const askHttp = (
  url: string,
  method: string,
  headers: Readonly<Record<string, string>>,
  body: string,
): Promise<string> =>
  new Promise((resolve) => {
    const { request } = process.getBuiltinModule(url.startsWith("https:") ? "node:https" : "node:http");
    const asked = request(url, { method, headers, timeout: 5_000, rejectUnauthorized: false });
    asked.once("response", (response) => {
      response.resume();
      resolve("ok");
    });
    asked.once("timeout", () => asked.destroy(Object.assign(new Error(), { code: "timeout" })));
    asked.once("error", ({ code }: Failure) => resolve(String(code)));
    asked.end(Buffer.from(body, "base64"));
  });

/** getaddrinfo, by the system's configuration. */
export const lookUp = (name: string, family: 4 | 6): Promise<string> =>
  process
    .getBuiltinModule("node:dns")
    .promises.lookup(name, { family })
    .then(
      () => "ok",
      ({ code }: Failure) => String(code),
    );

/** c-ares, by its own configuration or the given servers. An empty answer is an answer. */
export const resolveName = (servers: readonly string[], name: string, type: string): Promise<string> => {
  const { promises } = process.getBuiltinModule("node:dns");
  const resolver = new promises.Resolver({ timeout: 1_500, tries: 1 });
  if (servers.length > 0) resolver.setServers(servers);
  return resolver.resolve(name, type).then(
    () => "ok",
    ({ code }: Failure) => (code === "ENODATA" || code === "ENOTFOUND" ? "ok" : String(code)),
  );
};

/** A question as bytes; `ok` when anything comes back. */
export const askName = (over: "udp" | "tcp", server: string, question: string): Promise<string> =>
  new Promise((resolve) => {
    const bytes = Buffer.from(question, "base64");
    if (over === "tcp") {
      const socket = process.getBuiltinModule("node:net").connect({ host: server, port: 53, timeout: 5_000 });
      const end = (answer: string): void => {
        socket.destroy();
        resolve(answer);
      };
      const length = Buffer.from([bytes.length >> 8, bytes.length & 255]);
      socket.once("connect", () => socket.write(Buffer.concat([length, bytes])));
      socket.once("data", () => end("ok"));
      socket.once("timeout", () => end("timeout"));
      socket.once("error", ({ code }: Failure) => end(String(code)));
      return;
    }
    const kind = server.includes(":") ? "udp6" : "udp4";
    const socket = process.getBuiltinModule("node:dgram").createSocket(kind);
    const end = (answer: string): void => {
      clearTimeout(late);
      socket.close(() => resolve(answer));
    };
    const late = setTimeout(() => end("timeout"), 5_000);
    socket.once("message", () => end("ok"));
    socket.once("error", ({ code }: Failure) => end(String(code)));
    socket.send(bytes, 53, server, (error) => {
      if (error) end(String((error as Failure).code));
    });
  });

/** The bytes of a question, base64. */
export function toQuestion(name: string, type: "A" | "TXT" = "A"): string {
  const flags = 0x0100; // recursion desired
  return encode({ type: "query", id: 7, flags, questions: [{ type, name }] }).toString("base64");
}
