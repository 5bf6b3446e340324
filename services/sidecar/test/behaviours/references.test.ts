import { expect, test } from "vitest";
import type { Reference } from "../../src/sandboxes/sandbox.ts";
import { LOCAL, UNISOLATED } from "./open-places.ts";
import { keepsReferences } from "./references-behaviour.ts";

const references: Reference[] = [
  { name: "notes.md", source: { kind: "content", content: Buffer.from("the notes") } },
];

keepsReferences(LOCAL);

test("references that nobody filled are missed before anything runs", async () => {
  await using opened = await LOCAL.open({ references });
  await expect(opened.sandbox.seal()).rejects.toMatchObject({ code: "isolation_unavailable" });
});

test("references in the one without isolation are refused: nothing would keep them as they are", async () => {
  await expect(UNISOLATED.open({ references })).rejects.toMatchObject({
    code: "isolation_unavailable",
  });
});
