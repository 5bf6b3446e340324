import { expect, test } from "vitest";
import { pickMediaType } from "../../../src/http/media-type.ts";

const OFFERS = ["application/json", "text/event-stream", "application/x-ndjson"];

test.each([
  [undefined, "application/json"],
  ["", "application/json"],
  ["*/*", "application/json"],
  ["text/event-stream", "text/event-stream"],
  ["TEXT/Event-Stream; q=0.5", "text/event-stream"],
  ["application/*", "application/json"],
  ["application/json;q=0.1, application/x-ndjson", "application/x-ndjson"],
  ["text/html, application/xhtml+xml, */*;q=0.8", "application/json"],
  ["application/json;q=0, */*", "text/event-stream"],
  ["text/event-stream, */*;q=0.1", "text/event-stream"],
])("Accept %s gives %s", (accept, media) => expect(pickMediaType(accept, OFFERS)).toBe(media));

test.each([
  "text/html",
  "*/*;q=0",
  "application/json;q=nonsense",
  "application",
  ",,,",
  "application/json;q=2",
])("Accept %s cannot be met", (accept) =>
  expect(() => pickMediaType(accept, OFFERS)).toThrow(expect.objectContaining({ code: "not_acceptable" })),
);
