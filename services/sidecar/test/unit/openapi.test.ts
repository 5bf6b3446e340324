/** The OpenAPI page is what the contract says, and refers to nothing that is not on it. */
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { z } from "zod";
import { COMPONENTS } from "#contract/components";
import { ROUTES, type Route } from "#contract/routes";
import { toOpenApi } from "../../src/http/openapi.ts";

const root = new URL("../../../../", import.meta.url);
const Manifest = z.object({ version: z.string() });

test("docs/openapi.json has not drifted from the contract (run `node scripts/openapi.ts`)", async () => {
  const { version } = Manifest.parse(JSON.parse(await readFile(new URL("package.json", root), "utf8")));
  const present = await readFile(new URL("docs/openapi.json", root), "utf8");
  expect(present).toBe(`${JSON.stringify(toOpenApi({ version }), null, 2)}\n`);
});

test("every reference leads to a schema on the page", () => {
  const page = JSON.stringify(toOpenApi({ version: "1.0.0" }));
  const references = [...page.matchAll(/"\$ref":"([^"]+)"/g)].map(([, reference]) => reference);
  const present = new Set(Object.keys(COMPONENTS).map((name) => `#/components/schemas/${name}`));
  expect(references.length).toBeGreaterThan(50);
  expect(references.filter((reference) => !present.has(reference ?? ""))).toEqual([]);
});

test("every route is on the page under its operation id, with a schema for each answer", () => {
  const { paths } = z
    .object({ paths: z.record(z.string(), z.record(z.string(), z.looseObject({ operationId: z.string() }))) })
    .parse(toOpenApi({ version: "1.0.0" }));
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId }]) => `${operationId} ${method} ${path}`),
  );
  const routes = Object.entries<Route>(ROUTES).map(([id, { method, path }]) => `${id} ${method} ${path}`);
  expect(operations.toSorted()).toEqual(routes.toSorted());
  expect(JSON.stringify(paths)).not.toMatch(/"schema":(\{\}|undefined|null)/);
});

test("a route that can fail says so as problem+json", () => {
  const { paths } = z.object({ paths: z.looseObject({}) }).parse(toOpenApi({ version: "1.0.0" }));
  expect(paths).toMatchObject({
    "/v1/runs": {
      post: {
        responses: {
          400: {
            content: { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } },
          },
          401: { description: "`unauthenticated`: A valid bearer token is needed." },
          429: { description: "`overloaded`: Too many runs; try again later." },
        },
      },
    },
    "/health": { get: { security: [] } },
  });
});
