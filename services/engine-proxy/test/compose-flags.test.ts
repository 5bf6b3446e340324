// What the compose file tells the service and the proxy about images of browsers is the same, and may be left out.
import { join } from "node:path";
import { expect, test } from "vitest";
import { docker } from "../../sidecar/test/behaviours/open-places.ts";
import { readOptions } from "../src/options.ts";

const FILE = join(import.meta.dirname, "../../../docker/compose.yaml");

function readCompose(settings: Readonly<Record<string, string>>) {
  const line = ["compose", "--env-file", "/dev/null", "-f", FILE, "config", "--format", "json"];
  const { services } = JSON.parse(docker(line, settings));
  const [name, ...flags] = services["engine-proxy"].command as string[];
  return { name, proxy: readOptions(flags), service: services.sidecar.environment };
}

test("the proxy of the compose file knows the same images of browsers as the service", () => {
  const PILLION_BROWSER_IMAGES = "agent:browser,other@sha256:feed";
  const settings = { PILLION_IMAGE: "agent:browser", PILLION_ALLOWED_IMAGES: "other@sha256:feed,third" };
  expect(readCompose({ ...settings, PILLION_BROWSER_IMAGES })).toMatchObject({
    name: "engine-proxy",
    proxy: {
      kind: "serve",
      options: {
        images: ["agent:browser", "other@sha256:feed", "third"],
        browserImages: ["agent:browser", "other@sha256:feed"],
      },
    },
    service: { PILLION_BROWSER_IMAGES },
  });
  expect(readCompose({ ...settings, PILLION_BROWSER_IMAGES: "" })).toMatchObject({
    proxy: { kind: "serve", options: { browserImages: [] } },
    service: { PILLION_BROWSER_IMAGES: "" },
  });
});
