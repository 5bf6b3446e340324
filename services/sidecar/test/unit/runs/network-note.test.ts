import { expect, test } from "vitest";
import type { Profile } from "../../../src/agents/profile.ts";
import { toInstructions } from "../../../src/runs/run-input.ts";

const PROFILE = { instructions: "Be brief." } as Profile; // nothing else is read

test("an agent is told which hosts it may reach, and by which way", () => {
  const text = toInstructions(PROFILE, [], ["api.github.com", "*.npmjs.org"]);
  expect(text).toMatch(/^Be brief\.\n\nThe network .*HTTP_PROXY.*api\.github\.com, \*\.npmjs\.org\./);
});

test("one that may reach nothing is told nothing of a network", () => {
  expect(toInstructions(PROFILE, [])).toBe("Be brief.");
});
