/** Renders the route table as OpenAPI 3.1, whose schemas are JSON Schema 2020-12: zod writes those itself. */
import { z } from "zod";
import { COMPONENTS } from "#contract/components";
import { FAILURES, type FailureCode, Problem } from "#contract/failure";
import { GUARD_FAILURES, MEDIA, type Reply, ROUTES, type Route } from "#contract/routes";

type Json = Record<string, unknown>;

/** Where the product listens unless told otherwise. */
const DEFAULT_PORT = 8765;

/** The whole page. `version` is the product's; `port` goes into the example server. */
export function toOpenApi({ version, port }: { version: string; port?: number }): Json {
  const schemas = renderSchemas();
  const paths: Record<string, Json> = {};
  for (const [operationId, route] of Object.entries<Route>(ROUTES)) {
    paths[route.path] = { ...paths[route.path], [route.method]: toOperation(operationId, route, schemas) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Pillion",
      version,
      description:
        "A sidecar that runs coding agents for a backend: one HTTP request in, a sandboxed agent run out.",
      license: { name: "MIT", identifier: "MIT" },
    },
    servers: [{ url: `http://localhost:${port || DEFAULT_PORT}` }],
    security: [{ bearer: [] }],
    tags: [
      { name: "runs", description: "Runs: start, follow, cancel, read." },
      { name: "catalogue", description: "What this host has and can enforce." },
      { name: "probes", description: "For orchestrators; no token needed." },
    ],
    paths,
    components: {
      schemas: schemas.components,
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer", description: "The operator's PILLION_TOKEN." },
      },
    },
  };
}

type Schemas = { readonly components: Json; readonly of: (schema: z.ZodType) => unknown };

/** All schemas in one pass, so that those with a name are referred to by it. */
function renderSchemas(): Schemas {
  const registry = z.registry<{ id: string }>();
  const names = new Map<z.ZodType, string>();
  const add = (id: string, schema: z.ZodType): void => {
    if (names.has(schema)) return;
    names.set(schema, id);
    registry.add(schema, { id });
  };
  for (const [name, schema] of Object.entries(COMPONENTS)) add(name, schema);
  for (const schema of Object.values<Route>(ROUTES).flatMap(toSchemas)) add(`inline.${names.size}`, schema);

  const { schemas } = z.toJSONSchema(registry, {
    target: "draft-2020-12",
    io: "input",
    uri: (id) => `#/components/schemas/${id}`,
    override: ({ jsonSchema }) => tidy(jsonSchema),
  });
  const rendered = new Map<string, unknown>(
    Object.entries(schemas).map(([id, schema]) => [id, toPlain(schema)]),
  );
  const isComponent = (id: string): boolean => Object.hasOwn(COMPONENTS, id);
  return {
    components: Object.fromEntries([...rendered].filter(([id]) => isComponent(id))),
    of: (schema) => {
      const id = names.get(schema) ?? "";
      return isComponent(id) ? { $ref: `#/components/schemas/${id}` } : rendered.get(id);
    },
  };
}

function toSchemas(route: Route): z.ZodType[] {
  const parameters = [route.params, route.query, route.headers].flatMap((object) =>
    Object.values(object?.shape ?? {}),
  );
  const replies = Object.values(route.replies).flatMap((reply) => Object.values(reply.content ?? {}));
  return [...parameters, ...(route.body === undefined ? [] : [route.body.schema]), ...replies].filter(
    isSchema,
  );
}

function isSchema(value: unknown): value is z.ZodType {
  return value instanceof z.ZodType;
}

/** Bounds that only say "a safe integer", and the pattern of text that stands for a number, tell a reader nothing. */
function tidy(schema: z.core.JSONSchema.BaseSchema): void {
  if (schema.type !== "integer") {
    if (schema.format === "date-time") delete schema.pattern;
    return;
  }
  delete schema.pattern;
  if (schema.minimum === Number.MIN_SAFE_INTEGER) delete schema.minimum;
  if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum;
}

function toPlain(schema: object): Json {
  return Object.fromEntries(Object.entries(schema).filter(([key]) => key !== "$schema" && key !== "$id"));
}

function toOperation(operationId: string, route: Route, schemas: Schemas): Json {
  const parameters = [
    ...toParameters("path", route.params, schemas),
    ...toParameters("query", route.query, schemas),
    ...toParameters("header", route.headers, schemas),
  ];
  return {
    operationId,
    tags: [route.tag],
    summary: route.summary,
    ...(route.description === undefined ? {} : { description: route.description }),
    ...(route.probe ? { security: [] } : {}),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(route.body === undefined
      ? {}
      : {
          requestBody: {
            required: route.body.required,
            content: { [MEDIA.json]: { schema: schemas.of(route.body.schema) } },
          },
        }),
    responses: { ...toReplies(route, schemas), ...toProblems(route, schemas) },
  };
}

function toParameters(
  place: "path" | "query" | "header",
  object: z.ZodObject | undefined,
  schemas: Schemas,
): Json[] {
  return Object.entries(object?.shape ?? {})
    .filter((entry): entry is [string, z.ZodType] => isSchema(entry[1]))
    .map(([name, schema]) => ({
      name: place === "header" ? toHeaderCase(name) : name,
      in: place,
      required: place === "path",
      ...(schema.description === undefined ? {} : { description: schema.description }),
      schema: schemas.of(schema),
    }));
}

function toHeaderCase(name: string): string {
  return name.replace(/(^|-)([a-z])/g, (_, dash: string, letter: string) => dash + letter.toUpperCase());
}

function toReplies(route: Route, schemas: Schemas): Json {
  return Object.fromEntries(
    Object.entries(route.replies).map(([status, reply]) => [status, toReply(reply, schemas)]),
  );
}

function toReply(reply: Reply, schemas: Schemas): Json {
  const content = Object.entries(reply.content ?? {}).map(([media, schema]) => [
    media,
    { schema: schemas.of(schema) },
  ]);
  const headers = Object.entries(reply.headers ?? {}).map(([name, description]) => [
    name,
    { description, schema: { type: "string" } },
  ]);
  return {
    description: reply.description,
    ...(headers.length === 0 ? {} : { headers: Object.fromEntries(headers) }),
    ...(content.length === 0 ? {} : { content: Object.fromEntries(content) }),
  };
}

/** One answer for each status; several codes may share it. */
function toProblems(route: Route, schemas: Schemas): Json {
  const codes = new Set<FailureCode>([...route.failures, ...(route.probe ? [] : GUARD_FAILURES)]);
  const byStatus = Map.groupBy(codes, (code) => FAILURES[code].status);
  return Object.fromEntries(
    [...byStatus]
      .toSorted(([left], [right]) => left - right)
      .map(([status, shared]) => [
        String(status),
        {
          description: shared.map((code) => `\`${code}\`: ${FAILURES[code].title}.`).join(" "),
          content: { [MEDIA.problem]: { schema: schemas.of(Problem) } },
        },
      ]),
  );
}
