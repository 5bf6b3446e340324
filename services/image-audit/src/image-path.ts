/** Paths in an image: absolute, with slashes, never of this machine. */
import { posix } from "node:path";

/** `./usr/bin/x`, `usr/bin/x` and `/usr/bin/x/` are the same place. */
export function toAbsolute(name: string): string {
  const path = posix.normalize(`/${name}`);
  return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
}
