/** What a probe of a path is, and how a hand looks at it. Nothing is ever written, but for a file of its own that goes at once. */
import type { Hand } from "./hand.ts";

export type PathWay =
  /** At least a byte can be read. */
  | "read"
  /** It can be opened for reading; reading it would change something. */
  | "open"
  /** It can be opened for writing. */
  | "write"
  /** A file can be made in it. */
  | "create"
  /** It has entries. */
  | "list"
  /** A socket there takes a connection. */
  | "connect";

export type PathProbe = {
  /** What would be won; each probe has its own. */
  readonly class: string;
  readonly way: PathWay;
  /** The first that is there where nothing is protected: engines differ. */
  readonly paths: readonly string[];
  /** How a run's container may answer. */
  readonly inside: readonly string[];
  /** Where the same thing lies in the container without protection, when not at the same path. */
  readonly outside?: (path: string) => string;
};

/** Not there, not allowed, or on a file system that cannot be written to. */
const REFUSED = ["ENOENT", "ENOTDIR", "EACCES", "EPERM", "EROFS"];

export function toPathProbe(
  name: string,
  way: PathWay,
  paths: string | readonly string[],
  more: Partial<Pick<PathProbe, "inside" | "outside">> = {},
): PathProbe {
  return { class: name, way, paths: typeof paths === "string" ? [paths] : paths, inside: REFUSED, ...more };
}

/** `ok`, `empty` or the name of an error, for each in order. */
export function lookAtPaths(
  hand: Hand,
  probes: readonly { readonly way: PathWay; readonly path: string }[],
): Promise<string[]> {
  return hand.do(
    async (list) => {
      const fs = process.getBuiltinModule("node:fs");
      const net = process.getBuiltinModule("node:net");
      const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NONBLOCK, O_NOCTTY } = fs.constants;
      const open = (path: string, flags: number): number => fs.openSync(path, flags | O_NONBLOCK | O_NOCTTY);
      const connect = (path: string): Promise<string> =>
        new Promise((resolve, reject) => {
          const socket = net.connect(path, () => resolve("ok"));
          socket.once("error", reject).once("connect", () => socket.destroy());
        });
      const ways: Readonly<Record<string, (path: string) => string | Promise<string>>> = {
        read(path) {
          const fd = open(path, O_RDONLY);
          try {
            return fs.readSync(fd, Buffer.alloc(64)) > 0 ? "ok" : "empty";
          } finally {
            fs.closeSync(fd);
          }
        },
        open(path) {
          fs.closeSync(open(path, O_RDONLY));
          return "ok";
        },
        write(path) {
          fs.closeSync(open(path, O_WRONLY));
          return "ok";
        },
        create(path) {
          const file = `${path}/pillion-probe`;
          fs.closeSync(open(file, O_WRONLY | O_CREAT | O_EXCL));
          fs.rmSync(file);
          return "ok";
        },
        list: (path) => (fs.readdirSync(path).length > 0 ? "ok" : "empty"),
        connect,
      };
      const answers: string[] = [];
      for (const { way, path } of list) {
        try {
          answers.push((await ways[way]?.(path)) ?? "no such way");
        } catch (error) {
          answers.push(String((error as NodeJS.ErrnoException).code));
        }
      }
      return answers;
    },
    probes.map(({ way, path }) => ({ way, path })),
  );
}
