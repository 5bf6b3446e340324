/** Opens a local sandbox in the namespaces that this program runs in, and is the way to a hand inside until its stdin ends. */
import { pipeline } from "node:stream/promises";
import { LOCAL } from "../behaviours/open-places.ts";
import { startNode } from "../behaviours/sandbox-behaviour.ts";
import { HAND_SCRIPT } from "../escape/hand.ts";

const opened = await LOCAL.open({ executable: true, uidBase: 262_000 });
await opened.sandbox.seal();
const { stdio } = await startNode(opened.sandbox, HAND_SCRIPT);
stdio.pipe(process.stdout);
await pipeline(process.stdin, stdio).catch(() => undefined); // it ended inside, which the hand tells
await opened[Symbol.asyncDispose]();
