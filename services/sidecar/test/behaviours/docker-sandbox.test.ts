import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { DOCKER, RUNSC, readRuntimes } from "./open-places.ts";
import { keepsReferences } from "./references-behaviour.ts";
import { behavesAsSandbox, startNode } from "./sandbox-behaviour.ts";

behavesAsSandbox(DOCKER);
keepsReferences(DOCKER);

// An engine of the user's may lack gVisor; ours has it.
if (readRuntimes().includes("runsc")) {
  behavesAsSandbox(RUNSC);

  describe("under runsc", () => {
    test("a run has another kernel than the machine's, and the receipt says what was not applied", async () => {
      const kernel = `process.stdout.write(require("node:os").version())`;
      await using there = await RUNSC.open();
      await there.sandbox.seal();
      await using here = await DOCKER.open(); // the control
      await here.sandbox.seal();
      const versions = await Promise.all(
        [there, here].map(async ({ sandbox }) => text((await startNode(sandbox, kernel)).stdio)),
      );
      expect(new Set(versions).size).toBe(2);
      expect(there.sandbox.receipt).toMatchObject({
        limits: { runtime: "runsc" },
        missing: [
          "our seccomp profile: this runtime does not apply it",
          "guard and harness closed to the run's own other processes",
        ],
      });
    });

    test("S3.5 sent references can be read; directories are refused, since nothing proves which they are", async () => {
      const content = Buffer.from("the notes");
      await using opened = await RUNSC.open({
        references: [{ name: "notes.md", source: { kind: "content", content } }],
      });
      await opened.sandbox.seal();
      const read = `process.stdout.write(require("node:fs").readFileSync("/refs/notes.md"))`;
      expect(await text((await startNode(opened.sandbox, read)).stdio)).toBe("the notes");
      const bound = { name: "here", source: { kind: "bind" as const, path: import.meta.dirname } };
      await expect(RUNSC.open({ references: [bound] })).rejects.toMatchObject({
        code: "isolation_unavailable",
      });
    });
  });
}
