import { describe, expect, test } from "vitest";
import { openCallerDoor, TOKEN, withToken } from "../../fakes/caller-door.ts";

describe("the bearer token", () => {
  test("opens the door, in any case of the scheme", async () => {
    const { app } = openCallerDoor();
    for (const scheme of ["Bearer", "bearer", "BEARER"]) {
      const answer = await app.request("/v1/runs", { headers: { authorization: `${scheme} ${TOKEN}` } });
      expect(answer.status).toBe(200);
    }
  });

  test("is asked for by WWW-Authenticate when it is missing or wrong", async () => {
    const { app } = openCallerDoor();
    for (const authorization of ["", "Bearer wrong", `Bearer ${TOKEN} ${TOKEN}`]) {
      const answer = await app.request("/v1/runs", { headers: { authorization } });
      expect(answer.status).toBe(401);
      expect(answer.headers.get("www-authenticate")).toBe('Bearer realm="pillion"');
    }
  });

  test("protects also what is not there", async () => {
    const { app } = openCallerDoor();
    expect((await app.request("/nothing")).status).toBe(401);
    expect((await app.request("/openapi.json")).status).toBe(401);
    expect((await app.request("/nothing", { headers: withToken() })).status).toBe(404);
  });
});

describe("without a configured token", () => {
  test("loopback is open", async () => {
    const { app } = openCallerDoor({ token: null, boundToLoopback: true });
    expect((await app.request("/v1/runs")).status).toBe(200);
  });

  test("beyond loopback everything but the probes is a 401 that names the setting", async () => {
    const { app } = openCallerDoor({ token: null, boundToLoopback: false });
    for (const path of ["/v1/runs", "/openapi.json", "/v1/capabilities", "/nothing"]) {
      const answer = await app.request(path, { headers: withToken() });
      expect(answer.status).toBe(401);
      expect(await answer.json()).toMatchObject({ detail: expect.stringContaining("PILLION_TOKEN") });
    }
    for (const probe of ["/health", "/livez", "/readyz"]) expect((await app.request(probe)).status).toBe(200);
  });

  test("beyond loopback the operator may allow anonymous callers", async () => {
    const { app } = openCallerDoor({ token: null, boundToLoopback: false, allowAnonymous: true });
    expect((await app.request("/v1/runs")).status).toBe(200);
  });

  test("allowing anonymous callers does not weaken a token that is set", async () => {
    const { app } = openCallerDoor({ boundToLoopback: true, allowAnonymous: true });
    expect((await app.request("/v1/runs")).status).toBe(401);
  });
});
