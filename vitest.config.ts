// One test runner for every kind of test; projects are told apart by folder.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    globalSetup: "./scripts/test-directory.ts",
    include: ["services/**/test/**/*.test.ts", "scripts/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    retry: 0,
    maxWorkers: 2,
    forbidOnly: true,
  } as never,
});
