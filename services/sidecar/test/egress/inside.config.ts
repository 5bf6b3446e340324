// For the tests that name addresses of others: they run in a network of their own, where loopback is all that there is.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["services/sidecar/test/egress/*.inside.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    retry: 0,
    maxWorkers: 2,
    forbidOnly: true,
  } as never,
});
