// One test runner for every kind of test; projects are told apart by folder.
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// Pi's main entry wants packages that pnpm-workspace.yaml leaves out; its published bundle is whole.
const PI_BUNDLE = "node_modules/@earendil-works/pi-coding-agent/dist/bundle/index.js";

export default defineConfig({
  resolve: {
    alias: { "@earendil-works/pi-coding-agent": fileURLToPath(new URL(PI_BUNDLE, import.meta.url)) },
  },
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
