/** Asks a container engine for an image as a stream, over its socket or plain TCP, with nothing but HTTP. */
import { once } from "node:events";
import { type IncomingMessage, type RequestOptions, request } from "node:http";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { AuditError } from "./audit-error.ts";

const CONNECT_MS = 60_000;

/** `engine` is as in DOCKER_HOST. Throws AuditError where the engine or the image is missing. */
export async function exportImage(name: string, engine: string): Promise<Readable> {
  const path = `/images/${encodeURIComponent(name)}/get`;
  const response = await ask({ ...toTarget(engine), path }, engine);
  if (response.statusCode === 200) return response;
  const said = await text(response).catch(() => "");
  if (response.statusCode === 404)
    throw new AuditError(`the engine at ${engine} has no image ${name}; build or pull it first`);
  throw new AuditError(
    `the engine at ${engine} answered ${response.statusCode}: ${said.slice(0, 300).trim()}`,
  );
}

async function ask(target: RequestOptions, engine: string): Promise<IncomingMessage> {
  const call = request({ ...target, timeout: CONNECT_MS });
  call.once("timeout", () => call.destroy(new Error(`silent for ${CONNECT_MS / 1000} s`)));
  call.end();
  try {
    const [response] = await once(call, "response");
    return response;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new AuditError(
      `no container engine answers at ${engine} (${why}); start one, or give a saved image with --input`,
    );
  }
}

function toTarget(engine: string): RequestOptions {
  if (engine.startsWith("unix://")) return { socketPath: engine.slice("unix://".length) };
  const url = URL.canParse(engine) ? new URL(engine) : undefined;
  if (url?.protocol === "tcp:" || url?.protocol === "http:")
    return { host: url.hostname.replace(/^\[|\]$/g, ""), port: url.port || "2375" };
  throw new AuditError(
    `${engine} is no address that the audit can use (unix://… or tcp://…); try: docker save NAME | pillion audit-image --input -`,
  );
}
