import { expect, test } from "vitest";
import { FAKE, LOCAL, UNISOLATED } from "./open-places.ts";
import { behavesAsSandbox } from "./sandbox-behaviour.ts";

for (const maker of [FAKE, LOCAL, UNISOLATED]) behavesAsSandbox(maker);

test("a reader is refused where there is no isolation", async () => {
  await expect(UNISOLATED.open({ readOnly: true })).rejects.toMatchObject({ code: "isolation_unavailable" });
});
