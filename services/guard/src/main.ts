/** The guard: first program in every sandbox; the pipe on its stdio is its only way out and its lifeline. */
import { connect } from "node:http2";
import { CommandDesk } from "./command-desk.ts";
import { openDoor } from "./door.ts";
import { Link } from "./link.ts";
import { readConfig } from "./read-command.ts";
import { openStdioPipe } from "./stdio-pipe.ts";
import { readView } from "./view.ts";

const WINDOW_BYTES = 8 * 1024 * 1024;

async function main(): Promise<void> {
  const config = readConfig(process.argv[2]);
  const session = connect("http://pillion", {
    createConnection: () => openStdioPipe(),
    settings: { enablePush: false, initialWindowSize: WINDOW_BYTES, maxHeaderListSize: 16_384 },
  });
  // The pipe is the life of the sandbox: without it there is nobody to work for.
  session.once("close", () => {
    process.stderr.write("guard: the pipe closed\n");
    process.exit(0);
  });
  session.once("error", (error) => {
    process.stderr.write(`guard: the pipe broke: ${error.message}\n`);
    process.exit(1);
  });
  session.setLocalWindowSize?.(WINDOW_BYTES);
  const link = new Link(session);
  const desk = new CommandDesk(config, link);
  const [doorPort, view] = await Promise.all([openDoor(link), readView(config)]);
  link.openControl((command) => void desk.take(command));
  link.tell({ kind: "hello", doorPort, view });
}

process.once("uncaughtException", (error) => {
  process.stderr.write(`guard: ${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
});
// Asked to stop by others than the sidecar: not the guard's business; the pipe decides.
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => undefined);

await main();
