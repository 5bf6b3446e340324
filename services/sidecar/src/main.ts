#!/usr/bin/env node
/** The program `pillion`: reads the command line, then serves, does one run, or audits an image. */
import { auditImage, runOnce, serve } from "./cli.ts";
import { parseCommandLine } from "./cli-options.ts";
import { readVersion } from "./product.ts";

const line = parseCommandLine(process.argv.slice(2), {
  version: readVersion(),
  stdinIsTerminal: process.stdin.isTTY === true,
  cwd: process.cwd(),
});

switch (line.command) {
  case "show":
    process.stdout.write(line.text);
    break;
  case "usage-error":
    process.stderr.write(line.text);
    process.exitCode = 2;
    break;
  case "serve":
    await serve(line.flags);
    break;
  case "run":
    process.exitCode = await runOnce(line.request, line.options);
    break;
  case "audit-image":
    process.exitCode = await auditImage(line.options);
    break;
}
